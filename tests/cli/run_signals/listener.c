/*
 * Tells which signals it gets: "ready", then a line for each, with the value that sigqueue sent along.
 *
 * MANNER [END [CODE]]. The manner is what it does about signals: "die" (nothing), "ignore", "handle", "edit", which handles
 * them, and stops like an editor when the terminal says so, or "leave", which does the same in a process group of its own.
 * The signal with the number END is handled in any case, and ends it with CODE; without CODE, with the value that was sent
 * along, unless that is 0.
 *
 * It does not outlive its parent.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    pid_t parent = getppid();
    const char *manner = argv[1];
    int end = argc > 2 ? atoi(argv[2]) : 0;
    int code = argc > 3 ? atoi(argv[3]) : 0;
    int leaves = strcmp(manner, "leave") == 0;
    int edits = leaves || strcmp(manner, "edit") == 0;
    sigset_t heard;
    if (edits || strcmp(manner, "handle") == 0)
        sigfillset(&heard);
    else
        sigemptyset(&heard);
    if (end)
        sigaddset(&heard, end);
    for (int number = 1; number <= SIGRTMAX; number++)
        signal(number, strcmp(manner, "ignore") == 0 && number != end ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, &heard, NULL);
    if (leaves)
        setpgid(0, 0);
    say("ready");
    for (;;) {
        siginfo_t info;
        char line[32];
        if (sigtimedwait(&heard, &info, &(struct timespec){.tv_sec = 1}) < 0) {
            if (getppid() != parent)
                return 1;
            continue;
        }
        int value = info.si_code == SI_QUEUE ? info.si_value.sival_int : 0;
        if (info.si_code == SI_QUEUE)
            snprintf(line, sizeof line, "%d %d", info.si_signo, value);
        else
            snprintf(line, sizeof line, "%d", info.si_signo);
        say(line);
        if (edits && info.si_signo == SIGTSTP) {
            raise(SIGSTOP);
            say("drawn anew");
        }
        if (info.si_signo == end && (code || value))
            return code ? code : value;
    }
}
