//! `run` on a terminal: to the shell and to the person in front of it, the wrapper is its command.

use gpu_sim::MB;

use crate::harness::{Machine, Session};
use crate::run_signals::{listener, queue};

/// What a shell is to type to wrap a command.
fn wrapped(command: &str) -> String {
    format!("{} run --reserve 10MB -- {command}", crate::harness::PROGRAM)
}

fn listens(manner: &str) -> String {
    wrapped(&format!("{} {manner}", listener().display()))
}

/// A line that runs these lines of a script under `run`.
fn script(machine: &Machine, lines: &str) -> String {
    std::fs::write(machine.runtime().join("script"), lines).unwrap();
    format!("cd; {}\n", wrapped("bash script"))
}

/// Shows how the last command has ended.
const ASK: &str = "echo code $?\n";

fn shell(machine: &Machine) -> Session {
    Session::shell(&machine.command("bash"))
}

#[test]
fn the_keys_that_end_a_program_end_it() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    for (key, code) in [("\x03", 130), ("\x1c", 131)] {
        shell.types(&format!("{}\n", listens("die")));
        shell.expect("ready");
        shell.types(key);
        shell.expect("$ ");
        shell.types(ASK);
        shell.expect(&format!("code {code}\r"));
        assert_eq!(machine.used(0), 0);
    }
}

#[test]
fn a_program_that_handles_the_keys_gets_each_once_and_goes_on() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types(&format!("{}\n", listens("handle 12")));
    shell.expect("ready\r\n");
    let mut heard = String::new();
    for (key, signal) in [("\x03", 2), ("\x1c", 3), ("\x1a", 20)] {
        shell.types(key);
        shell.expect(&format!("{signal}\r\n"));
        heard.push_str(key);
    }
    shell.resize(90);
    shell.expect("28\r\n");
    // By the same way as a second one would come.
    shell.types("\x03");
    shell.expect("2\r\n");
    shell.types("still here");
    shell.expect("still here");
    end_with(7, &machine, &mut shell);
}

#[test]
fn a_program_that_ignores_the_keys_goes_on() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types(&format!("{}\n", listens("ignore 12")));
    shell.expect("ready\r\n");
    shell.types("\x03\x1c\x1a still here");
    shell.expect("still here");
    end_with(7, &machine, &mut shell);
}

/// Ends the listener, and expects that it has heard nothing else.
#[track_caller]
fn end_with(code: u8, machine: &Machine, shell: &mut Session) {
    let status = machine.status();
    let holder = status["balloons"][0]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a balloon");
    queue(holder, libc::SIGUSR2, code.into());
    shell.expect(&format!("12 {code}\r\n"));
    // Away with what was typed meanwhile.
    shell.types(&format!("\x15{ASK}"));
    shell.expect(&format!("code {code}\r"));
}

#[test]
fn it_stops_and_goes_on_with_its_command() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types(&script(&machine, "echo ready; read line; echo got $line; exit 7"));
    shell.expect("ready");
    shell.types("\x1a");
    shell.expect("Stopped");
    // It still holds.
    assert_eq!(machine.processes(0).values().sum::<u64>(), 510 * MB);
    shell.types("fg\n");
    shell.expect("bash script");
    shell.types("a word\n");
    shell.expect("got a word");
    shell.types(ASK);
    shell.expect("code 7\r");
    assert_eq!(machine.used(0), 0);
}

#[test]
fn it_waits_until_its_command_has_put_the_screen_in_order() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    // Where no shell does it, many a program makes a group of its own, such as a shell or timeout(1).
    for manner in ["edit", "edit", "leave", "leave"] {
        shell.types(&format!("{}\n", listens(&format!("{manner} 2 3"))));
        shell.expect("ready\r\n");
        for _ in 0..3 {
            shell.types("\x1a");
            shell.expect("20\r\n");
            shell.expect("Stopped");
            shell.expect("$ ");
            shell.types("fg\n");
            shell.expect("drawn anew\r\n");
            shell.expect("18\r\n");
        }
        shell.types("\x03");
        shell.expect("$ ");
        shell.types(ASK);
        shell.expect("code 3\r");
    }
}

#[test]
fn in_the_background_it_stops_when_its_command_reads() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types("set -b\n");
    shell.expect("$ ");
    shell.types(&format!("{} &\n", wrapped("cat")));
    shell.expect("Stopped");
    shell.types("fg\n");
    shell.expect("fg\r\n");
    shell.expect("cat\r\n");
    shell.types("hello\n");
    shell.expect("hello\r\nhello\r\n");
    shell.types("\x04");
    shell.expect("$ ");
    shell.types(ASK);
    shell.expect("code 0\r");
}

#[test]
fn a_script_that_is_interrupted_ends_as_with_the_command_alone() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    let lines = format!("{}; echo not reached", wrapped("sh -c 'echo ready; exec sleep 60'"));
    std::fs::write(machine.runtime().join("script"), lines).unwrap();
    shell.types("cd; bash script\n");
    shell.expect("ready");
    shell.types("\x03");
    shell.expect("$ ");
    assert!(!shell.rest().contains("not reached"));
    shell.types(ASK);
    shell.expect("code 130\r");
}

#[test]
fn in_a_pipeline_all_stop_and_all_go_on() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types(&format!("(echo ready; exec cat /dev/tty) | {}\n", wrapped("sed -u s/^/got:/")));
    shell.expect("got:ready");
    shell.types("\x1a");
    shell.expect("Stopped");
    shell.expect("$ ");
    shell.types("fg\n");
    shell.expect("fg\r\n");
    shell.expect("got:/\r\n");
    shell.types("a word\n");
    shell.expect("got:a word");
    shell.types("\x04");
    shell.expect("$ ");
    shell.types(ASK);
    shell.expect("code 0\r");
}

#[test]
fn a_shell_as_the_command_has_its_jobs_and_can_be_suspended() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types(&format!("PS1='inner> ' {}\n", wrapped("bash --norc -i")));
    shell.expect("\ninner> ");
    shell.types("sh -c 'echo o''n; exec cat'\n");
    shell.expect("\non\r\n");
    shell.types("\x1a");
    shell.expect("Stopped");
    shell.expect("inner> ");
    shell.types("suspend\n");
    shell.expect("Stopped");
    shell.expect("$ ");
    shell.types("fg\n");
    shell.expect("inner> ");
    shell.types("fg\n");
    shell.expect("cat'\r\n");
    shell.types("a word\n");
    shell.expect("a word\r\na word\r\n");
    shell.types("\x03");
    shell.expect("inner> ");
    shell.types("exit 5\n");
    shell.expect("$ ");
    shell.types(ASK);
    shell.expect("code 5\r");
}

#[test]
fn when_the_terminal_goes_the_command_is_told_once() {
    let machine = Machine::new();
    let heard = machine.runtime().join("heard");
    let listener = listener();
    let command = machine.wrap("--reserve 10MB", &[listener.to_str().unwrap(), "handle", "12"]);
    // As the leader of the session, which the kernel tells of the end of the terminal, alone.
    let mut session = Session::start(&command, |leader| {
        leader.stdout(std::fs::File::create(&heard).unwrap());
    });
    machine.wait_for("it holds", |machine| machine.used(0) > 0);
    read_until(&heard, "ready\n");
    session.hang_up();
    read_until(&heard, "ready\n1\n18\n");
    queue(session.pid(), libc::SIGUSR2, 7);
    assert_eq!(session.wait().code(), Some(7));
    assert_eq!(std::fs::read_to_string(&heard).unwrap(), "ready\n1\n18\n12 7\n");
}

#[test]
fn when_the_shell_goes_with_the_terminal_so_does_the_command() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    shell.types(&script(&machine, "trap 'echo >told; exit' HUP; echo ready; while :; do sleep 0.01; done"));
    shell.expect("ready");
    shell.hang_up();
    machine.wait_for("it ends", |machine| machine.used(0) == 0);
    assert!(machine.runtime().join("told").exists());
}

#[test]
fn it_works_under_tmux() {
    let machine = Machine::new();
    let mut shell = shell(&machine);
    let socket = machine.runtime().join("tmux");
    let script = script(&machine, "echo rea''dy; stty size; read line; echo got $line; exit 7");
    std::fs::write(machine.runtime().join("outer"), format!("{script}echo code $?; read line\n")).unwrap();
    shell.types(&format!("TERM=xterm tmux -f /dev/null -S {} new-session 'bash -i ~/outer'\n", socket.display()));
    shell.expect("ready");
    shell.types("a word\n");
    shell.expect("got a word");
    shell.expect("code 7");
    shell.types("\n");
    shell.expect("[exited]");
}

/// Waits until a file that somebody else writes holds this.
#[track_caller]
fn read_until(file: &std::path::Path, text: &str) {
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    while std::fs::read_to_string(file).unwrap_or_default() != text {
        assert!(std::time::Instant::now() < deadline, "{:?}", std::fs::read_to_string(file));
        std::thread::yield_now();
    }
}
