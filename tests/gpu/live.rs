//! A balloon in one shell, managed from another.

use rustix::process::Signal;

use crate::machine::{BLOCKS, CONTEXT, GB, MB, Machine, Running, assert_near};

#[test]
#[ignore = "needs a GPU"]
fn only_the_difference_moves() {
    let machine = Machine::new();
    let (_holder, _) = machine.hold("--gpu 0 --reserve 2GB --name live");
    let before = machine.free(0);
    for (spec, held) in [("5GB", 5 * GB), ("-1GB", 4 * GB), ("+512MB", 4 * GB + 512 * MB), ("2GB", 2 * GB)] {
        let said = machine.run(&format!("resize live {spec}")).exits(0);
        assert!(said.stdout.trim().ends_with(&format!("held={held}")), "{}", said.stdout);
        assert_near(before + 2 * GB, machine.free(0) + held, BLOCKS);
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_share_taken_twice_is_the_same_as_once() {
    let machine = Machine::new();
    let (_holder, _) = machine.hold("--gpu 0 --reserve 2GB --name live");
    machine.run("resize live 50%").exits(0);
    let once = machine.free(0);
    machine.run("resize live 50%").exits(0);
    assert_near(machine.free(0), once, BLOCKS);
}

#[test]
#[ignore = "needs a GPU"]
fn a_growth_that_does_not_fit_leaves_the_balloon_as_it_was() {
    let machine = Machine::new();
    let (_other, _) = machine.hold("--gpu 0 --reserve all-6GB");
    let (_holder, _) = machine.hold("--gpu 0 --reserve 2GB --name live");
    let before = machine.free(0);
    machine.run("resize live +8GB").exits(3);
    assert_near(machine.free(0), before, BLOCKS);
}

#[test]
#[ignore = "needs a GPU"]
fn release_returns_once_the_memory_is_free() {
    let machine = Machine::new();
    let before = machine.free(0);
    let (mut holder, _) = machine.hold("--gpu 0 --reserve 16GB --name live");
    machine.run("release live").exits(0);
    assert!(before - machine.free(0) <= CONTEXT, "{} is in use", before - machine.free(0));
    holder.wait().exits(0);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn a_detached_balloon_outlives_its_shell() {
    let machine = Machine::new();
    let before = machine.free(0);
    let said = machine.run("hold --detach --gpu 0 --reserve 2GB --name away").exits(0);
    assert!(said.stdout.contains("name=away"), "{}", said.stdout);
    assert!(before - machine.free(0) >= 2 * GB);
    machine.run("release --all").exits(0);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn it_ends_with_the_process_it_was_told_of() {
    let machine = Machine::new();
    let before = machine.free(0);
    let mut other = Running::start(&mut machine.command("cat"));
    let (mut holder, _) = machine.hold(&format!("--gpu 0 --reserve 2GB --until-exit {}", other.pid()));
    other.signal(Signal::TERM);
    other.wait();
    holder.wait().exits(0);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn status_takes_no_device_memory() {
    let machine = Machine::new();
    let (_holder, _) = machine.hold("--gpu 0 --reserve 2GB");
    let before = machine.free(0);
    let mut watching = Running::start(&mut machine.program("status --watch=1s"));
    watching.line();
    assert_near(machine.free(0), before, MB);
    watching.signal(Signal::INT);
    watching.wait();
}

#[test]
#[ignore = "needs a GPU"]
fn doctor_finds_the_machine_fit_and_leaves_it_as_it_was() {
    let machine = Machine::new();
    let before = machine.free(0);
    let said = machine.run("doctor --json").exits(0);
    let found: serde_json::Value = serde_json::from_str(&said.stdout).expect("doctor speaks JSON");
    assert_eq!(found["is_healthy"], true, "{found}");
    assert!(found["gpus"][0]["trial"]["overhead_bytes"].as_u64().unwrap() <= CONTEXT);
    machine.wait_for_free(0, before);
}
