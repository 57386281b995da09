//! Two GPUs, and the choice between them.

use rustix::process::Signal;

use crate::machine::{BLOCKS, GB, Machine, Running, assert_near};

#[test]
#[ignore = "needs a GPU"]
fn two_gpus_hold_what_each_was_asked_for() {
    let Some(machine) = Machine::with_two_gpus() else { return };
    let before = [machine.free(0), machine.free(1)];
    let (mut holder, held) = machine.hold("--gpu 0,1 --reserve 2GB,4GB");
    assert_eq!(held, 6 * GB);
    let status = machine.status();
    for (gpu, size) in [(0, 2 * GB), (1, 4 * GB)] {
        assert_eq!(status["gpus"][gpu]["balloon_bytes"], size);
        assert!(machine.names(u32::try_from(gpu).unwrap(), holder.pid()));
    }
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    machine.wait_for_free(0, before[0]);
    machine.wait_for_free(1, before[1]);
}

#[test]
#[ignore = "needs a GPU"]
fn one_gpu_short_means_none_is_held() {
    let Some(machine) = Machine::with_two_gpus() else { return };
    let (_other, _) = machine.hold("--gpu 1 --reserve all-3GB");
    let before = [machine.free(0), machine.free(1)];
    machine.run("hold --gpu 0,1 --reserve 8GB").exits(3).says(&["GPU 1: 8.0 GB wanted"]);
    machine.wait_for_free(0, before[0]);
    machine.wait_for_free(1, before[1]);
}

#[test]
#[ignore = "needs a GPU"]
fn a_part_can_be_released() {
    let Some(machine) = Machine::with_two_gpus() else { return };
    let (_holder, _) = machine.hold("--gpu 0,1 --reserve 2GB --name both");
    let before = [machine.free(0), machine.free(1)];
    machine.run("release both --gpu 1").exits(0);
    assert_near(machine.free(0), before[0], BLOCKS);
    assert!(machine.free(1) >= before[1] + 2 * GB - BLOCKS);
}

#[test]
#[ignore = "needs a GPU"]
fn any_takes_the_gpu_that_has_room() {
    let Some(machine) = Machine::with_two_gpus() else { return };
    let before = [machine.free(0), machine.free(1)];
    let (_first, _) = machine.hold("--gpu any:1 --reserve 60%total --name first");
    let (_second, _) = machine.hold("--gpu any:1 --reserve 60%total --name second");
    for gpu in [0, 1] {
        assert!(machine.free(gpu) < before[gpu as usize] / 2, "GPU {gpu} holds nothing");
    }
    machine.run("hold --gpu any:1 --reserve 60%total").exits(3);
}

#[test]
#[ignore = "needs a GPU"]
fn two_at_the_same_instant_do_not_meet() {
    let Some(machine) = Machine::with_two_gpus() else { return };
    let before = [machine.free(0), machine.free(1)];
    let start = |name: &str| {
        let line = format!("hold --gpu any:1 --reserve 60%total --name {name}");
        Running::start(&mut machine.program(&line))
    };
    let mut both = [start("one"), start("other")];
    for holder in &mut both {
        assert!(holder.line().starts_with("ready "));
    }
    for gpu in [0, 1] {
        assert!(machine.free(gpu) < before[gpu as usize] / 2, "GPU {gpu} holds nothing");
    }
}
