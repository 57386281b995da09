//! Resizes while something else goes on: other resizes, the inflation, the release.

use std::time::Duration;

use gpu_sim::{Family, GB, MB};
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine, Running};

#[test]
fn several_at_once_take_turns() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(1)));
    let holder = machine.hold("--reserve 1GB --chunk-size 64MB --name train");
    let all = (0..8).map(|_| Running::start(&mut machine.program("resize train +1GB")));
    let mut sizes: Vec<u64> = all
        .collect::<Vec<_>>()
        .into_iter()
        .map(|mut resize| {
            let said = resize.wait().exits(0).stdout;
            let (_, held) = said.trim_end().split_once("change=+1073741824 held=").expect("it grew by 1 GB");
            held.parse().unwrap()
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, (2..10).map(|size| size * GB).collect::<Vec<_>>());
    assert_eq!(machine.balloon(0, &holder), 9 * GB);
}

#[test]
fn during_the_inflation_it_is_told_to_come_back() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(50)));
    let mut holder = Running::start(&mut machine.program("hold --reserve 20GB --chunk-size 1GB --name train"));
    machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
    machine.run("resize train 2GB").exits(1).says(&["the balloon is not inflated yet"]);
    assert!(holder.line().ends_with("held=21474836480"));
    machine.run("resize train 2GB").exits(0);
    assert_eq!(machine.balloon(0, &holder), 2 * GB);
}

#[test]
fn in_line_it_is_told_to_come_back_and_a_release_ends_the_wait() {
    let machine = Machine::new();
    let _rival = machine.occupy(0, 20 * GB);
    let mut holder = Running::start(&mut machine.program("hold --reserve 20GB --wait --name train"));
    machine.wait_for("it waits", |_| machine.status()["balloons"][0]["state"] == "waiting");
    machine.run("resize train 2GB").exits(1).says(&["the balloon is not inflated yet"]);
    assert!(holder.is_silent());
    machine.run("release train").exits(0);
    let said = holder.wait().exits(1).says(&["released before everything was held"]);
    assert_eq!(said.stdout, "");
    machine.run("release train").exits(5);
}

#[test]
fn during_the_deflation_it_is_told_so() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(50)));
    let mut holder = machine.hold("--reserve 20GB --chunk-size 1GB --name train");
    holder.signal(Signal::TERM);
    machine.wait_for("it deflates", |state| state.used(0) < 20 * GB);
    machine.run("resize train 2GB").exits(1).says(&["the balloon is being released"]);
    holder.wait().exits(0);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_release_does_not_wait_for_a_resize() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    let mut holder = machine.hold("--reserve 64MB --chunk-size 64MB --name train");
    let mut resizes = [0, 1].map(|_| Running::start(&mut machine.program("resize train 20GB")));
    machine.wait_for("it grows", |state| state.used(0) > CONTEXT + GB);
    machine.run("release train").exits(0);
    assert_eq!(machine.used(0), 0);
    assert!(machine.peak(0) < 10 * GB, "the release came after the growth");
    for resize in &mut resizes {
        resize.wait().exits(1).says(&["the balloon is being released"]);
    }
    holder.wait().exits(0);
}

#[test]
fn a_release_of_a_part_comes_after_the_resize() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(5)));
    let holder = machine.hold("--gpu 0,1 --reserve 64MB --chunk-size 64MB --name train");
    let mut resize = Running::start(&mut machine.program("resize train 4GB"));
    machine.wait_for("it grows", |state| state.used(1) > CONTEXT + 256 * MB);
    let mut release = Running::start(&mut machine.program("release train --gpu 1"));
    resize.wait().exits(0);
    release.wait().exits(0);
    assert_eq!((machine.balloon(0, &holder), machine.used(1)), (4 * GB, 0));
}

#[test]
fn a_stopped_holder_is_named_with_the_way_out() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 1GB --name train");
    holder.signal(Signal::STOP);
    let hint = format!("kill -CONT {}", holder.pid());
    machine.run("resize train 2GB").exits(1).says(&["balloon `train`: the holder does not answer", &hint]);
    holder.signal(Signal::CONT);
    let resized = machine.run("resize train 3GB").exits(0).stdout;
    let change = "the resize that was told to have failed has not happened since";
    assert!(resized.contains(&format!("change=+{} ", 2 * GB)), "{change}: {resized}");
}
