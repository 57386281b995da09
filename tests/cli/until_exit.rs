//! `--until-exit`: the balloon lives as long as a process does, and no longer.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use gpu_sim::{Family, GB};
use rustix::process::Signal;

use crate::harness::{CONTEXT, DEADLINE, Machine, Running, skipped, unprivileged};

/// A process that lives until its standard input ends.
fn companion(machine: &Machine) -> Running {
    Running::start(&mut machine.command("cat"))
}

#[test]
fn the_end_of_the_process_releases_the_balloon() {
    let machine = Machine::new();
    for end in [|other: &mut Running| other.close_stdin(), |other: &mut Running| other.signal(Signal::KILL)] {
        let mut other = companion(&machine);
        let mut holder = machine.hold(&format!("--gpu 0,1 --reserve 1GB --until-exit {}", other.pid()));
        assert!(holder.is_silent());
        end(&mut other);
        holder.wait().exits(0).says(&["released 2.0 GB: the process it was for has ended"]);
        assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    }
}

#[test]
fn under_run_it_ends_the_reservation_and_not_the_command() {
    let machine = Machine::new();
    let mut other = companion(&machine);
    let until_exit = format!("--reserve 1GB --name train --until-exit {}", other.pid());
    let script = "echo started; read line; echo on; exit 7";
    let mut wrapper = Running::start(&mut machine.wrap(&until_exit, &["sh", "-c", script]));
    assert_eq!(wrapper.line(), "started");
    other.close_stdin();
    machine.wait_for("the reservation ends", |state| state.used(0) == 0);
    wrapper.say("go");
    assert_eq!(wrapper.line(), "on");
    wrapper.wait().exits(7).says_nothing();
}

#[test]
fn the_end_of_the_command_comes_before_that_of_the_process() {
    let machine = Machine::new();
    let other = companion(&machine);
    let until_exit = format!("run --reserve 1GB --until-exit {} -- true", other.pid());
    machine.run(&until_exit).exits(0).says_nothing();
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_process_that_ends_before_all_is_held_keeps_the_command_from_starting() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    let mut other = companion(&machine);
    let until_exit = format!("--reserve 20GB --until-exit {}", other.pid());
    let mut wrapper = Running::start(&mut machine.wrap(&until_exit, &["echo", "started"]));
    machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
    other.close_stdin();
    let said = wrapper.wait().exits(125).says(&["ended before everything was held"]);
    assert_eq!((said.stdout.as_str(), machine.used(0)), ("", 0));
}

#[test]
fn it_is_no_parent_that_must_wait() {
    let machine = Machine::new();
    // The test does not reap it before the holder has ended.
    let mut other = machine.command("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut holder = machine.hold(&format!("--reserve 1GB --until-exit {}", other.id()));
    drop(other.stdin.take());
    holder.wait().exits(0);
    other.wait().unwrap();
}

#[test]
fn a_process_that_has_ended_already_is_refused() {
    let machine = Machine::new();
    let mut gone = companion(&machine);
    let pid = gone.pid().to_string();
    gone.signal(Signal::KILL);
    gone.wait();
    let says = format!("cannot wait for the end of process {pid}: No such process");
    machine.refuses(2, &["--reserve", "1GB", "--until-exit", &pid], &[]).says(&[&says, "hint:"]);

    let mut unreaped = Command::new("true").spawn().unwrap();
    let pid = unreaped.id().to_string();
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = std::time::Instant::now();
    while !state().contains(") Z ") {
        assert!(start.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    let says = format!("cannot wait for the end of process {pid}: No such process");
    machine.refuses(2, &["--reserve", "1GB", "--until-exit", &pid], &[]).says(&[&says]);
    unreaped.wait().unwrap();
}

#[test]
fn its_end_during_the_inflation_gives_everything_back() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    let mut other = companion(&machine);
    let mut holder = Running::start(&mut machine.program(&format!("hold --reserve 20GB --until-exit {}", other.pid())));
    machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
    other.close_stdin();
    let said = holder.wait().exits(1).says(&["the process to outlive ended before everything was held"]);
    assert_eq!((said.stdout.as_str(), machine.used(0)), ("", 0));
    assert!(machine.peak(0) < 20 * GB);
}

#[test]
fn what_is_no_process_is_a_usage_error() {
    let machine = Machine::new();
    for pid in ["0", "-1", "self", "", "1.5", "99999999999"] {
        machine.refuses(2, &["--reserve", "1GB", &format!("--until-exit={pid}")], &[]).says(&["--until-exit"]);
    }
}

#[test]
fn a_process_of_another_user_will_do() {
    let machine = Machine::new();
    let Some(mut command) = unprivileged("cat") else { return skipped("only root can start one as another user") };
    let mut other = Running::start(&mut command);
    let mut holder = machine.hold(&format!("--reserve 1GB --until-exit {}", other.pid()));
    other.close_stdin();
    holder.wait().exits(0);

    if let Some(mine) = machine.unprivileged() {
        // And the other way round: a process of root's, to which nobody may send a signal.
        let mut other = companion(&machine);
        let line = format!("hold --reserve 1GB --until-exit {}", other.pid());
        let mut holder = Running::start(&mut mine.program(&line));
        assert!(holder.line().starts_with("ready "));
        other.close_stdin();
        holder.wait().exits(0);
    }
}

/// The holder is stopped while its process ends and the pid comes to mean another one.
#[test]
fn another_process_with_the_same_pid_is_not_taken_for_it() {
    let machine = Machine::new();
    let mut other = companion(&machine);
    let pid = other.pid();
    let mut holder = machine.hold(&format!("--reserve 1GB --until-exit {pid}"));
    holder.signal(Signal::STOP);
    other.close_stdin();
    other.wait();
    let Some(mut impostor) = start_as(pid) else { return skipped("pids cannot be chosen here") };
    holder.signal(Signal::CONT);
    holder.wait().exits(0).says(&["the process it was for has ended"]);
    impostor.kill().unwrap();
    impostor.wait().unwrap();
}

/// Starts a process whose pid is `pid`, where the system lets us say which one is next.
fn start_as(pid: u32) -> Option<Child> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        if child.id() == pid {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}
