//! What may become of the reservation while the command runs, and of both when one of them is killed.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use gpu_sim::{Family, GB, UNKNOWN_ERROR};
use rustix::process::{Pid, Signal, kill_process};

use super::start;
use crate::harness::{CONTEXT, DEADLINE, Machine, PROGRAM, Running};
use crate::run_signals::listener;

#[test]
fn release_ends_the_reservation_and_not_the_command() {
    let machine = Machine::new();
    let (mut wrapper, pid) = start(&machine, "--gpu 0,1 --reserve 1GB --name train");
    machine.run("release train").exits(0);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    machine.run("status train").exits(5);
    // Signals still go to the command.
    wrapper.say("trap 'echo told' USR1; echo trapped");
    assert_eq!(wrapper.line(), "trapped");
    wrapper.signal(Signal::USR1);
    assert_eq!(wrapper.line(), "told");
    kill_process(pid, Signal::KILL).unwrap();
    let ended = wrapper.wait().says_nothing();
    assert_eq!(ended.status.signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn the_timeout_ends_the_reservation_and_not_the_command() {
    let machine = Machine::new();
    let (mut wrapper, _) = start(&machine, "--reserve 1GB --timeout 50ms");
    machine.wait_for("the reservation ends", |machine| machine.used(0) == 0);
    assert!(wrapper.is_silent());
    wrapper.say("exit 9");
    wrapper.wait().exits(9).says_nothing();
}

#[test]
fn a_lost_gpu_ends_the_reservation_and_not_the_command() {
    let machine = Machine::new();
    let (mut wrapper, _) = start(&machine, "--reserve 1GB --name train");
    machine.lose_gpu(0, UNKNOWN_ERROR);
    machine.run("resize train +1GB");
    wrapper.say("echo goes on; exit 9");
    assert_eq!(wrapper.line(), "goes on");
    wrapper.wait().exits(9).says(&["gpu-balloon: GPU 0 was lost: ", "CUDA_ERROR_UNKNOWN"]);
}

#[test]
fn others_see_and_resize_it() {
    let machine = Machine::new();
    let (mut wrapper, _) = start(&machine, "--reserve 1GB --name train --reason paper");
    let balloon = &machine.status()["balloons"][0];
    assert_eq!(balloon["name"], "train");
    assert_eq!(balloon["reason"], "paper");
    assert_eq!(balloon["state"], "holding");
    assert_eq!(balloon["pid"], wrapper.pid());
    assert!(balloon["command"].as_str().unwrap().starts_with("bash -c echo $$; while read"));
    machine.run("resize train +1GB").exits(0);
    assert_eq!(machine.used_by(0, wrapper.pid()), 2 * GB + CONTEXT);
    wrapper.say("exit 0");
    wrapper.wait().exits(0);
}

#[test]
fn the_command_knows_its_balloon() {
    let machine = Machine::new();
    let (mut wrapper, _) = start(&machine, "--reserve 1GB");
    wrapper.say(&format!("{} resize $GPU_BALLOON_HOLDER 2GB", PROGRAM));
    assert!(wrapper.line().ends_with(&format!("held={}", 2 * GB)));
    wrapper.close_stdin();
    wrapper.wait().exits(0);
}

#[test]
fn killing_the_wrapper_tells_the_command_and_frees_the_memory() {
    let machine = Machine::new();
    let listener = listener();
    let command = [listener.to_str().unwrap(), "handle"];
    let mut wrapper = Running::start(&mut machine.wrap("--reserve 1GB --name train", &command));
    assert_eq!(wrapper.line(), "ready");
    wrapper.signal(Signal::KILL);
    assert_eq!(wrapper.line(), Signal::TERM.as_raw().to_string());
    machine.wait_for("the driver frees it", |machine| machine.used(0) == 0);
    machine.run("status train").exits(5);
    let named = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("train");
    assert!(!std::fs::read_dir(machine.registry()).unwrap().any(|entry| named(entry.unwrap())));
    machine.run("run --reserve 1GB --name train -- true").exits(0);
}

#[test]
fn a_killed_wrapper_leaves_no_files() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    for size in ["20GB", "100MB"] {
        let command = ["sh", "-c", "trap '' TERM; echo started; read line"];
        let mut wrapper = Running::start(&mut machine.wrap(&format!("--reserve {size} --name train"), &command));
        if size == "100MB" {
            assert_eq!(wrapper.line(), "started");
        }
        machine.wait_for("it has begun", |machine| machine.used(0) > CONTEXT);
        assert_ne!(machine.registered(), [""; 0]);
        wrapper.signal(Signal::KILL);
        // Nobody else looks, and the command goes on.
        let deadline = Instant::now() + DEADLINE;
        while !machine.registered().is_empty() {
            assert!(Instant::now() < deadline, "{:?}", machine.registered());
        }
    }
}

#[test]
fn killed_while_it_inflates_it_leaves_nothing() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    let command = ["sh", "-c", "echo started"];
    let mut wrapper = Running::start(&mut machine.wrap("--reserve 20GB --name train", &command));
    machine.wait_for("it has begun", |machine| machine.used(0) > CONTEXT + GB);
    wrapper.signal(Signal::KILL);
    assert_eq!(wrapper.wait().stdout, "");
    machine.wait_for("the driver frees it", |machine| machine.used(0) == 0);
    machine.run("run --reserve 10MB --name train -- true").exits(0);
}

#[test]
fn a_signal_while_it_inflates_gives_back_and_ends_it_like_any_program() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::QUIT, Signal::ALARM] {
        let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
        let mut wrapper = Running::start(&mut machine.wrap("--gpu 0,1 --reserve 20GB", &["echo", "started"]));
        machine.wait_for("it has begun", |machine| machine.used(0) > CONTEXT + GB);
        wrapper.signal(signal);
        let ended = wrapper.wait();
        assert_eq!(ended.status.signal(), Some(signal.as_raw()), "{}", ended.stderr);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
        assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    }
}

#[test]
fn descendants_that_live_on_are_named_when_asked() {
    let machine = Machine::new();
    for (options, is_said) in [("run", false), ("-v run", true)] {
        let mut wrapper = machine.program(&format!("{options} --reserve 10MB -- sh -c"));
        wrapper.arg("setsid sleep 60 >/dev/null 2>&1 & echo $!; exit 3");
        let mut wrapper = Running::start(&mut wrapper);
        let left = wrapper.line();
        let ended = wrapper.wait().exits(3);
        assert_eq!(ended.stderr.contains(&format!("pid={left}")), is_said, "{}", ended.stderr);
        assert_eq!(machine.used(0), 0);
        kill_process(left.parse().ok().and_then(Pid::from_raw).unwrap(), Signal::KILL).unwrap();
    }
}

#[test]
fn stopping_one_of_them_by_hand_stops_only_that_one() {
    let machine = Machine::new();
    let (mut wrapper, pid) = start(&machine, "--reserve 1GB --name train");
    kill_process(pid, Signal::STOP).unwrap();
    // The holder still answers.
    assert_eq!(machine.status()["balloons"][0]["state"], "holding");
    kill_process(pid, Signal::CONT).unwrap();
    wrapper.signal(Signal::STOP);
    wrapper.say("echo works");
    assert_eq!(wrapper.line(), "works");
    wrapper.signal(Signal::CONT);
    wrapper.say("exit 3");
    wrapper.wait().exits(3).says_nothing();
}
