//! The control socket: where it lies, whom it answers, and what peers cannot do to it.

mod directory;
mod peers;
mod users;

use std::fs;

use gpu_sim::GB;
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine};

/// What lies in the registry.
#[test]
fn a_holder_leaves_nothing_behind() {
    let machine = Machine::new();
    for line in ["release train", "kill"] {
        let mut holder = machine.hold("--reserve 1GB --name train");
        assert_eq!(machine.registered(), ["train.balloon", "train.sock"]);
        match line {
            "kill" => holder.signal(Signal::TERM),
            line => drop(machine.run(line).exits(0)),
        }
        holder.wait().exits(0);
        assert_eq!(machine.registered(), [""; 0]);
    }
}

#[test]
fn leftovers_of_killed_holders_are_cleared_and_the_living_keep_theirs() {
    let machine = Machine::new();
    let mut killed = ["a", "b"].map(|name| machine.hold(&format!("--reserve 1GB --name {name}")));
    let living = machine.hold("--gpu 1 --reserve 1GB --name living");
    for holder in &mut killed {
        holder.signal(Signal::KILL);
        holder.wait();
    }
    assert_eq!(machine.registered().len(), 6);
    assert_eq!(machine.status()["balloons"].as_array().unwrap().len(), 1);
    assert_eq!(machine.registered(), ["living.balloon", "living.sock"]);
    // A stopped holder lives.
    living.signal(Signal::STOP);
    machine.run("status").exits(0);
    machine.run("release nobody").exits(5);
    assert_eq!(machine.registered(), ["living.balloon", "living.sock"]);
    living.signal(Signal::CONT);
    machine.run("release living").exits(0);
}

/// A pid says nothing of who lives: the file is locked by its holder or it is nobody's.
#[test]
fn a_leftover_whose_pid_is_another_process_now_is_cleared() {
    let machine = Machine::new();
    let mut killed = machine.hold("--reserve 1GB --name train");
    killed.signal(Signal::KILL);
    killed.wait();
    let file = machine.registry().join("train.balloon");
    let foreign = std::process::id();
    let text = fs::read_to_string(&file).unwrap().replace(&killed.pid().to_string(), &foreign.to_string());
    assert!(text.contains(&foreign.to_string()));
    fs::write(&file, text).unwrap();
    machine.run(&format!("release {foreign}")).exits(5);
    machine.run("release train").exits(5);
    assert_eq!(machine.registered(), [""; 0]);
}

#[test]
fn a_living_holder_whose_description_is_damaged_is_still_found_by_name() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB --name train");
    fs::write(machine.registry().join("train.balloon"), "{nonsense").unwrap();
    assert_eq!(machine.status()["balloons"][0]["pid"], holder.pid());
    machine.run("resize train 2GB").exits(0);
    assert_eq!(machine.used(0), 2 * GB + CONTEXT);
    machine.run("release train").exits(0);
    holder.wait().exits(0);
}
