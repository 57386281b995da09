//! Callers of `hold --detach` that are interrupted, killed, or that pretend.

use std::time::Duration;

use gpu_sim::{Family, GB};
use rustix::process::Signal;

use crate::harness::{Background, CONTEXT, Machine, Running};

const SLOWLY: Duration = Duration::from_millis(20);

/// A caller whose holder has begun to inflate.
fn inflating(machine: &Machine) -> Running {
    let caller = Running::start(&mut machine.program("hold --detach --reserve 20GB --name train"));
    machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
    caller
}

#[test]
fn a_signal_before_everything_is_held_gives_back_what_was_taken() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, SLOWLY).delay(Family::Free, SLOWLY / 4));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut caller = inflating(&machine);
        caller.signal(signal);
        let said = caller.wait().exits(code).says(&["ended by a signal before everything was held"]);
        assert_eq!(said.stdout, "");
        assert_eq!(machine.used(0), 0, "the caller was back before the memory");
    }
    machine.hold("--reserve 1GB --name train");
}

#[test]
fn it_waits_in_line_with_its_holder() {
    let machine = Machine::new();
    let mut rival = machine.occupy(0, 20 * GB);
    let waits = |machine: &Machine| machine.status()["balloons"][0]["state"] == "waiting";
    let mut caller = Running::start(&mut machine.program("hold --detach --wait --reserve 20GB --name train"));
    machine.wait_for("it waits", |_| waits(&machine));
    caller.signal(Signal::INT);
    caller.wait().exits(130);
    machine.run("status train").exits(5);

    let mut caller = Running::start(&mut machine.program("hold --detach --wait --reserve 20GB --name train"));
    machine.wait_for("it waits", |_| waits(&machine));
    assert!(caller.is_silent());
    assert_eq!(rival.resize(GB), Ok(()));
    let holder = Background::of(&caller.wait().exits(0));
    assert_eq!(machine.used_by(0, holder.pid()), 20 * GB + CONTEXT);
    machine.run("hold --detach --wait=50ms --reserve 20GB").exits(3).says(&["GPU 0", "missing"]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, SLOWLY).delay(Family::Free, SLOWLY * 10));
    let mut caller = inflating(&machine);
    caller.signal(Signal::INT);
    let held = machine.used(0);
    machine.wait_for("it deflates", |state| state.used(0) < held);
    caller.signal(Signal::INT);
    caller.wait().exits(130);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_killed_caller_leaves_nothing_behind() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, SLOWLY));
    let mut caller = inflating(&machine);
    caller.signal(Signal::KILL);
    caller.wait().exits(137);
    machine.wait_for("the holder is gone", |state| state.used(0) == 0 && state.live_pids().is_empty());
    assert!(machine.peak(0) < 20 * GB, "it had inflated already");
    let left: Vec<_> = machine.registered().into_iter().filter(|name| !name.ends_with(".log")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_streams_it_works_all_the_same() {
    let machine = Machine::new();
    let mut command = machine.command("sh");
    let script = r#""$0" hold --detach --reserve 1GB --name train <&- >&- 2>&-"#;
    Running::start(command.args(["-c", script, crate::harness::PROGRAM])).wait().exits(0);
    assert_eq!(machine.used(0), GB + CONTEXT);
    machine.run("release train").exits(0);
}

#[test]
fn the_variable_between_caller_and_holder_makes_nobody_a_holder() {
    let machine = Machine::new();
    for value in ["1", "0", "", "99999999"] {
        let variables = [("GPU_BALLOON_DETACHED_FROM", value)];
        let refused = machine.refuses(2, &["--detach", "--reserve", "1GB"], &variables);
        refused.says(&["GPU_BALLOON_DETACHED_FROM is set", "hint: unset"]);
        // In the foreground it means nothing.
        machine.hold_with(&["--reserve", "1GB"], &variables);
    }
}
