//! `hold` on one GPU: what it takes, what it costs beside that, and how it ends.

use rustix::process::Signal;

use crate::machine::{BLOCKS, CONTEXT, GB, INITIALISED, Machine, Running, UNACCOUNTED, assert_near};

#[test]
#[ignore = "needs a GPU"]
fn two_gb_are_taken_and_given_back_at_every_signal() {
    let machine = Machine::new();
    let before = machine.free(0);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut holder, held) = machine.hold("--gpu 0 --reserve 2GB");
        assert_eq!(held, 2 * GB);
        let taken = before - machine.free(0);
        let overhead = machine.status()["balloons"][0]["gpus"][0]["overhead_bytes"].as_u64().unwrap();
        assert!(overhead <= CONTEXT, "{overhead}");
        assert_near(taken, 2 * GB + overhead, UNACCOUNTED);
        holder.signal(signal);
        holder.wait().exits(0).says(&["released 2.0 GB"]);
        machine.wait_for_free(0, before);
    }
}

#[test]
#[ignore = "needs a GPU"]
fn half_is_half_of_what_is_free_beside_the_context() {
    let machine = Machine::new();
    let before = machine.free(0);
    let (_holder, held) = machine.hold("--gpu 0 --reserve 50%");
    assert_near(held, machine.free(0), BLOCKS);
    assert!(held <= before / 2 && held >= (before - CONTEXT) / 2 - BLOCKS, "{held} of {before}");
}

#[test]
#[ignore = "needs a GPU"]
fn all_but_two_gb_leaves_two_gb() {
    let machine = Machine::new();
    let (_holder, held) = machine.hold("--gpu 0 --reserve all-2GB");
    assert_near(machine.free(0), 2 * GB, BLOCKS);
    assert_near(held, machine.total(0) - 2 * GB, CONTEXT + 2 * GB);
}

#[test]
#[ignore = "needs a GPU"]
fn all_leaves_nothing() {
    let machine = Machine::new();
    let before = machine.free(0);
    let (mut holder, held) = machine.hold("--gpu 0 --reserve all");
    assert!(machine.free(0) <= BLOCKS, "{} free beside {held}", machine.free(0));
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn the_timeout_ends_it() {
    let machine = Machine::new();
    let before = machine.free(0);
    let (mut holder, _) = machine.hold("--gpu 0 --reserve 2GB --timeout 1s");
    holder.wait().exits(0).says(&["its time is over"]);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn a_killed_holder_leaves_nothing_behind() {
    let machine = Machine::new();
    let before = machine.free(0);
    for options in ["", "--contextless"] {
        let (mut holder, _) = machine.hold(&format!("--gpu 0 --reserve 2GB --name killed {options}"));
        holder.signal(Signal::KILL);
        assert_eq!(holder.wait().code(), 128 + 9);
        machine.wait_for_free(0, before);
        assert_eq!(machine.status()["balloons"].as_array().unwrap().len(), 0);
    }
}

#[test]
#[ignore = "needs a GPU"]
fn without_a_context_it_costs_next_to_nothing_and_has_no_name_in_nvml() {
    let machine = Machine::new();
    let before = machine.free(0);
    let (mut holder, held) = machine.hold("--gpu 0 --reserve 2GB --contextless --name quiet");
    assert_eq!(held, 2 * GB);
    assert_near(before - machine.free(0), 2 * GB, INITIALISED);
    assert!(!machine.names(0, holder.pid()));
    let status = machine.status();
    assert_eq!(status["balloons"][0]["name"], "quiet");
    assert_eq!(status["gpus"][0]["balloon_bytes"], 2 * GB);
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn with_a_context_nvml_names_it() {
    let machine = Machine::new();
    let (holder, _) = machine.hold("--gpu 0 --reserve 2GB");
    assert!(machine.names(0, holder.pid()));
}

#[test]
#[ignore = "needs a GPU"]
fn what_does_not_fit_is_refused_and_whoever_is_in_the_way_is_named() {
    let machine = Machine::new();
    let (other, _) = machine.hold("--gpu 0 --reserve all-3GB");
    let before = machine.free(0);
    let in_the_way = format!("pid {}", other.pid());
    machine.run("hold --gpu 0 --reserve 4GB").exits(3).says(&["4.0 GB wanted", &in_the_way, "hint:"]);
    machine.wait_for_free(0, before);
}

#[test]
#[ignore = "needs a GPU"]
fn it_waits_until_the_memory_is_free() {
    let machine = Machine::new();
    let (other, _) = machine.hold("--gpu 0 --reserve all-3GB");
    let before = machine.free(0);
    let mut waiting = Running::start(&mut machine.program("hold --gpu 0 --reserve 4GB --wait=60s --name next"));
    machine.wait_for_balloons(2);
    assert!(waiting.is_silent());
    assert_near(machine.free(0), before, INITIALISED);
    other.signal(Signal::TERM);
    assert!(waiting.line().ends_with(&format!("held={}", 4 * GB)));
}
