//! Releases of holders that are stopped, killed, or released by somebody else at the same time.

use std::time::{Duration, Instant};

use gpu_sim::{Family, GB};
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine, Running};

/// Far longer than a holder that lives is silent.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_stopped_one_is_named_with_the_way_out_and_the_others_are_released() {
    let machine = Machine::new();
    let mut stopped = machine.hold("--reserve 1GB --name stopped");
    let _lively = machine.hold("--reserve 1GB --gpu 1 --name lively");
    stopped.signal(Signal::STOP);
    let hint = format!("kill -CONT {}", stopped.pid());
    for line in ["release stopped lively", "release --all"] {
        let start = Instant::now();
        machine.run(line).exits(1).says(&["balloon `stopped`: the holder does not answer", &hint]);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        assert_eq!((machine.used(0), machine.used(1)), (GB + CONTEXT, 0));
    }
    stopped.signal(Signal::CONT);
    // It was asked already, and is free to answer now.
    stopped.wait().exits(0);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn one_that_is_stopped_while_it_deflates_is_not_waited_for() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(20)));
    let holder = machine.hold("--reserve 20GB --name train");
    let mut release = Running::start(&mut machine.program("release train"));
    machine.wait_for("it deflates", |state| state.used(0) < 20 * GB);
    holder.signal(Signal::STOP);
    release.wait().exits(1).says(&["balloon `train`: the holder does not answer", "kill -CONT"]);
    holder.signal(Signal::CONT);
}

#[test]
fn one_that_takes_its_time_is_waited_for() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(800)));
    let _holder = machine.hold("--reserve 3GB --chunk-size 1GB --name train");
    let start = Instant::now();
    machine.run("release train").exits(0);
    assert!(start.elapsed() > Duration::from_millis(2400), "{:?}", start.elapsed());
    assert_eq!(machine.used(0), 0);
}

#[test]
fn one_that_is_killed_meanwhile_has_freed_its_memory_too() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(20)));
    let holder = machine.hold("--reserve 20GB --name train");
    let mut release = Running::start(&mut machine.program("release train"));
    machine.wait_for("it deflates", |state| state.used(0) < 20 * GB);
    holder.signal(Signal::KILL);
    release.wait().exits(0).says(&["balloon `train` has ended"]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn two_at_once_both_return_when_the_memory_is_free() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(5)));
    let _holder = machine.hold("--gpu 0,1 --reserve 8GB --name train");
    let mut releases = [0, 1].map(|_| Running::start(&mut machine.program("release train")));
    for release in &mut releases {
        release.wait().exits(0);
        assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    }
}

#[test]
fn many_at_once_of_all_leave_nothing_and_fail_nowhere() {
    let machine = Machine::new();
    let _holders: Vec<Running> = (0..8).map(|_| machine.hold("--reserve 1GB")).collect();
    let mut releases: Vec<Running> = (0..4).map(|_| Running::start(&mut machine.program("release --all"))).collect();
    releases.iter_mut().for_each(|release| drop(release.wait().exits(0)));
    assert_eq!(machine.used(0), 0);
}

/// The first signal deflates; the second ends the holder at once, whoever waits.
#[test]
fn a_second_signal_ends_a_release() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(50)));
    let mut holder = machine.hold("--reserve 20GB --chunk-size 512MB --name train");
    let mut release = Running::start(&mut machine.program("release train"));
    machine.wait_for("it deflates", |state| state.used(0) < 20 * GB);
    holder.signal(Signal::TERM);
    holder.wait().exits(143);
    release.wait().exits(0);
    assert_eq!(machine.used(0), 0);
}
