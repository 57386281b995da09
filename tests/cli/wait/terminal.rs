//! What a person sees while a holder waits.

use std::process::{Child, Stdio};

use super::*;
use crate::harness::Terminal;

/// What appears while `program` waits for a process that holds 20 GB, and that process's pid.
#[track_caller]
fn seen(program: &str) -> (String, u32) {
    seen_on("xterm", program)
}

#[track_caller]
fn seen_on(terminal_type: &str, program: &str) -> (String, u32) {
    let machine = Machine::new();
    let hog = machine.hog(0, 20 * GB);
    let terminal = Terminal::new(120);
    let mut command = machine.program(program);
    command.env("TERM", terminal_type);
    let mut waiter: Child = command.stderr(terminal.stdio()).stdout(Stdio::null()).spawn().unwrap();
    drop(command);
    until("it waits", || balloon(&machine, waiter.id()).is_some_and(|balloon| balloon["state"] == "waiting"));
    let pid = hog.pid();
    drop(hog);
    assert!(waiter.wait().unwrap().success());
    (terminal.output(), pid)
}

#[test]
fn a_line_tells_what_is_missing_and_who_is_in_the_way() {
    for program in ["hold --reserve 10GB --wait --timeout 1ms", "run --reserve 10GB --wait -- true"] {
        let (seen, pid) = seen(program);
        let line = format!("\r\x1b[Kwaiting: GPU 0 lacks 6.5 GB of 10.0 GB ({pid} ");
        assert!(seen.contains(&line) && seen.contains("gpu-sim: 20.5 GB)"), "{seen:?}");
        assert!(!seen.rsplit_once("\r\x1b[K").unwrap().1.contains("waiting"), "it is gone at the end: {seen:?}");
    }
}

#[test]
fn the_quiet_see_nothing() {
    for program in ["-q hold --reserve 10GB --wait --timeout 1ms", "-q run --reserve 10GB --wait -- true"] {
        assert_eq!(seen(program).0, "", "{program}");
    }
}

#[test]
fn nothing_is_written_over_on_a_terminal_that_cannot() {
    let (seen, _) = seen_on("dumb", "hold --reserve 10GB --wait --timeout 1ms");
    assert_eq!(seen, "gpu-balloon: released 10.0 GB: its time is over\r\n");
}
