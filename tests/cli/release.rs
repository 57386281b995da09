//! `release`: one, several, all, a part; returns when the driver shows the memory free.

mod holders;

use std::time::Duration;

use gpu_sim::{Family, GB};

use crate::harness::{CONTEXT, Machine, Running};

#[test]
fn it_returns_when_the_memory_is_free_and_says_how_much() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(2)));
    let mut holder = machine.hold("--gpu 0,1 --reserve 4GB --name train");
    let said = machine.run("release train").exits(0);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", "gpu-balloon: released 8.0 GB of balloon `train`\n"));
    holder.wait().exits(0).says(&["released 8.0 GB: `gpu-balloon release` asked for it"]);
    machine.run("release train").exits(5);
}

#[test]
fn quiet_it_says_nothing() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    let said = machine.run("release -q train").exits(0);
    assert_eq!((said.stdout, said.stderr), (String::new(), String::new()));
}

#[test]
fn where_the_driver_shows_frees_late_it_returns_when_they_are_shown() {
    for options in ["", "--contextless"] {
        let machine = Machine::with(|builder| builder.lag(Duration::from_millis(150)));
        let _holder = machine.hold(&format!("--gpu 0,1 --reserve 4GB --name train {options}"));
        machine.run("release train").exits(0);
        for gpu in [0, 1] {
            assert_eq!(machine.seen(gpu).free, machine.seen(gpu).total, "GPU {gpu} {options}");
        }
    }
}

#[test]
fn what_others_take_at_once_is_not_waited_for() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 8GB --name train");
    let thief = machine.thief(0, "spin");
    machine.wait_for("the GPU is full", |state| state.used(0) > 24 * GB - (4 << 20));
    let start = std::time::Instant::now();
    machine.run("release train").exits(0);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(thief.stop() >= 8 * GB);
}

#[test]
fn several_at_once() {
    let machine = Machine::new();
    let mut holders = ["a", "b", "c"].map(|name| machine.hold(&format!("--reserve 1GB --name {name}")));
    // `a` twice: by its name and by its pid.
    machine.run(&format!("release a b {}", holders[0].pid())).exits(0).says(&["balloon `a`", "balloon `b`"]);
    assert_eq!(machine.used(0), GB + CONTEXT);
    holders[0].wait().exits(0);
    holders[1].wait().exits(0);
    assert!(holders[2].is_silent());
}

#[test]
fn an_unknown_name_among_several_means_that_nothing_is_released() {
    let machine = Machine::new();
    let holders = ["a", "b"].map(|name| machine.hold(&format!("--reserve 1GB --name {name}")));
    let before = machine.traced(0);
    machine.run("release a nowhere b").exits(5).says(&["no balloon is named `nowhere`"]);
    assert_eq!(machine.traced(0), before);
    machine.run("release a nowhere b --if-exists").exits(0);
    assert_eq!(machine.used(0), 0);
    drop(holders);
}

#[test]
fn if_exists_forgives_a_name_and_nothing_else() {
    let machine = Machine::new();
    let said = machine.run("release train --if-exists").exits(0);
    assert_eq!((said.stdout, said.stderr), (String::new(), String::new()));
    let _holders = ["train-a", "train-b"].map(|name| machine.hold(&format!("--reserve 1GB --name {name}")));
    machine.run("release train --if-exists").exits(2).says(&["fits several balloons"]);
    machine.run("release").exits(2);
    machine.run("release train-a --all").exits(2);
    assert_eq!(machine.used(0), 2 * (GB + CONTEXT));
}

#[test]
fn all_is_every_balloon_of_this_user() {
    let machine = Machine::new();
    machine.run("release --all").exits(0);
    let mut holders =
        ["--name a", "--gpu 1", "--gpu 0,1 --name b"].map(|options| machine.hold(&format!("--reserve 1GB {options}")));
    machine.run("release --all").exits(0);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    holders.iter_mut().for_each(|holder| drop(holder.wait().exits(0)));
}

#[test]
fn a_part_goes_and_the_rest_lives_on() {
    let machine = Machine::with(|builder| builder.gpus(3));
    let mut holder = machine.hold("--gpu 0-2 --reserve 2GB --name train");
    machine.run("release train --gpu 1").exits(0).says(&["released 2.0 GB of balloon `train`"]);
    assert_eq!([0, 1, 2].map(|gpu| machine.used(gpu)), [2 * GB + CONTEXT, 0, 2 * GB + CONTEXT]);
    assert!(holder.is_silent());
    let parts = machine.status()["balloons"][0]["gpus"].take();
    let parts: Vec<_> = parts.as_array().unwrap().iter().map(|part| part["gpu_id"].as_u64()).collect();
    assert_eq!(parts, [Some(0), Some(2)]);
    machine.run("release train --gpu 1").exits(2).says(&["balloon `train` has no part on GPU 1"]);
    machine.run("resize train 3GB --gpu 1").exits(2).says(&["balloon `train` has no part on GPU 1"]);
    machine.run("resize train 3GB").exits(0);
    assert_eq!([0, 1, 2].map(|gpu| machine.used(gpu)), [3 * GB + CONTEXT, 0, 3 * GB + CONTEXT]);
    machine.run("release train").exits(0).says(&["released 6.0 GB"]);
    assert_eq!([0, 1, 2].map(|gpu| machine.used(gpu)), [0, 0, 0]);
    holder.wait().exits(0);
}

#[test]
fn several_parts_are_answered_with_their_sum_when_all_are_free() {
    let machine = Machine::with(|builder| builder.gpus(3).delay(Family::Free, Duration::from_millis(2)));
    // The part that is listed last is free first.
    let _holder = machine.hold("--gpu 0-2 --reserve 6GB,1GB,1GB --name train");
    machine.run("release train --gpu 0,1").exits(0).says(&["released 7.0 GB"]);
    assert_eq!([0, 1, 2].map(|gpu| machine.used(gpu)), [0, 0, GB + CONTEXT]);
}

#[test]
fn the_last_part_ends_the_holder() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 2GB --name train");
    machine.run("release train --gpu 0").exits(0);
    machine.run("release train --gpu 1").exits(0).says(&["released 2.0 GB"]);
    holder.wait().exits(0).says(&["released 2.0 GB: `gpu-balloon release` asked for it"]);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    machine.run("release train").exits(5);
}

#[test]
fn all_on_a_gpu_spares_the_other_gpus() {
    let machine = Machine::new();
    let mut holders = ["0", "0,1", "1"].map(|gpus| machine.hold(&format!("--reserve 1GB --gpu {gpus}")));
    machine.run("release --all --gpu 0").exits(0);
    assert_eq!((machine.used(0), machine.used(1)), (0, 2 * (GB + CONTEXT)));
    holders[0].wait().exits(0);
    assert!(holders[1].is_silent() && holders[2].is_silent());
    machine.run("release --all --gpu 7").exits(2);
}

#[test]
fn during_the_inflation_it_ends_the_holder() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    let mut holder = Running::start(&mut machine.program("hold --reserve 20GB --name train"));
    machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
    machine.run("release train").exits(0).says(&["released "]);
    assert_eq!(machine.used(0), 0);
    assert!(machine.peak(0) < 10 * GB, "the release came after the inflation");
    let said = holder.wait().exits(1).says(&["released before everything was held"]);
    assert_eq!(said.stdout, "");
}
