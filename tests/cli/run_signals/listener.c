/*
 * Tells which signals it gets: "ready", then a line for each, with the value that sigqueue sent along. The first argument
 * says what it does about them: "die" (nothing), "ignore", or "handle". The second is the number of the signal that is
 * handled in any case, and ends it with the value's code if that is not 0. It does not outlive its parent.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    pid_t parent = getppid();
    int end = argc > 2 ? atoi(argv[2]) : 0;
    sigset_t heard;
    if (strcmp(argv[1], "handle") == 0)
        sigfillset(&heard);
    else
        sigemptyset(&heard);
    if (end)
        sigaddset(&heard, end);
    for (int number = 1; number <= SIGRTMAX; number++)
        signal(number, strcmp(argv[1], "ignore") == 0 && number != end ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, &heard, NULL);
    puts("ready");
    fflush(stdout);
    while (getppid() == parent) {
        siginfo_t info;
        if (sigtimedwait(&heard, &info, &(struct timespec){.tv_sec = 1}) < 0)
            continue;
        if (info.si_code == SI_QUEUE)
            printf("%d %d\n", info.si_signo, info.si_value.sival_int);
        else
            printf("%d\n", info.si_signo);
        fflush(stdout);
        if (info.si_signo == end && info.si_code == SI_QUEUE && info.si_value.sival_int)
            return info.si_value.sival_int;
    }
    return 1;
}
