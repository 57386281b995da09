//! `any:N`: which GPUs are chosen, and that two never choose the same one.

use gpu_sim::ComputeMode;

use super::*;

/// The GPUs in a ready line.
fn gpus(ready: &str) -> String {
    ready.split_once("gpus=").unwrap().1.split_once(' ').unwrap().0.to_owned()
}

fn four_gpus() -> Machine {
    Machine::with(|builder| builder.gpus(4))
}

#[test]
fn the_most_free_are_chosen_and_lower_ordinals_among_equals() {
    let machine = four_gpus();
    let _others = [(0, 10), (1, 2), (3, 2)].map(|(gpu, size)| machine.hog(gpu, size * GB));
    for (line, chosen) in [
        ("--gpu any:1 --reserve 1GB", "2"),
        ("--gpu any:3 --reserve 1GB", "2,1,3"),
        ("--gpu any:2 --reserve 1GB,22GB", "1,2"),
        ("--gpu any:4 --reserve 1GB", "2,1,3,0"),
    ] {
        let mut holder = Running::start(&mut machine.program(&format!("hold {line}")));
        assert_eq!(gpus(&holder.line()), chosen, "{line}");
        holder.signal(Signal::TERM);
        holder.wait().exits(0);
    }
    let failed = machine.run("hold --gpu any:4 --reserve 20GB").exits(3);
    failed.says(&["GPU 0: 20.0 GB wanted, 13.5 GB free, 6.5 GB missing"]);
    let best_effort = machine.hold("--gpu any:2 --reserve 23GB --best-effort");
    assert!(machine.used_by(2, best_effort.pid()) > 0 && machine.used_by(1, best_effort.pid()) > 0);
}

#[test]
fn the_choice_is_in_json_and_within_the_visible() {
    let machine = four_gpus();
    let _other = machine.hog(3, GB);
    let mut command = machine.program("hold --gpu any:1 --reserve 1GB --json");
    command.env("CUDA_VISIBLE_DEVICES", "3,1");
    let mut holder = Running::start(&mut command);
    let ready: Value = serde_json::from_str(&holder.line()).unwrap();
    assert_eq!(ready["gpus"], serde_json::json!([1]));
    assert_eq!(machine.used_by(1, holder.pid()), GB + CONTEXT);
}

#[test]
fn two_at_the_same_instant_take_two_gpus() {
    for options in ["", "--wait"] {
        let machine = Machine::new();
        let line = format!("hold --gpu any:1 --reserve 10GB {options}");
        let mut holders = [(); 2].map(|()| Running::start(&mut machine.program(&line)));
        let mut chosen = holders.each_mut().map(|holder| gpus(&holder.line()));
        chosen.sort();
        assert_eq!(chosen, ["0", "1"], "{options}");
    }
}

#[test]
fn whichever_can_first_is_waited_for() {
    let machine = Machine::new();
    let _stays = machine.hold("--gpu 0 --reserve 20GB");
    let leaves = machine.hold("--gpu 1 --reserve 20GB");
    let mut waiter = wait(&machine, "--gpu any:1 --reserve 10GB --wait");
    let begin = Instant::now();
    leaves.signal(Signal::TERM);
    assert_eq!(gpus(&waiter.line()), "1");
    assert!(begin.elapsed() <= PROMPT, "{:?}", begin.elapsed());
}

#[test]
fn a_gpu_that_takes_no_further_process_is_no_choice() {
    let machine = Machine::with(|builder| builder.gpus(3));
    machine.set_compute_mode(0, ComputeMode::ExclusiveProcess);
    machine.set_compute_mode(1, ComputeMode::Prohibited);
    let hog = machine.hog(0, GB);
    let _other = machine.hog(2, 4 * GB);
    let mut holder = Running::start(&mut machine.program("hold --gpu any:1 --reserve 2GB"));
    assert_eq!(gpus(&holder.line()), "2");
    let mut waiter = wait(&machine, "--gpu 0 --reserve 2GB --wait");
    let begin = Instant::now();
    drop(hog);
    assert_eq!(gpus(&waiter.line()), "0");
    assert!(begin.elapsed() <= PROMPT, "{:?}", begin.elapsed());
}

#[test]
fn the_command_is_told_and_gets_a_gpu_that_takes_it() {
    let machine = Machine::with(|builder| builder.gpus(3));
    machine.set_compute_mode(1, ComputeMode::ExclusiveProcess);
    let _others = [(0, 4), (2, 2)].map(|(gpu, size)| machine.hog(gpu, size * GB));
    let mut command = machine.program("run --gpu any:1 --reserve 2GB --");
    command.args(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES $GPU_BALLOON_GPUS"]);
    assert_eq!(Running::start(&mut command).wait().exits(0).stdout, "2 2\n");
}

#[test]
fn a_command_whose_memory_does_not_come_in_time_is_not_started() {
    let machine = Machine::new();
    let _hog = machine.hog(0, 20 * GB);
    let ended = machine.run("run --reserve 10GB --wait=1s -- echo started").exits(124);
    assert_eq!(ended.says(&["the memory was not available in time"]).stdout, "");
}

#[test]
fn without_nvml_nobody_can_choose() {
    let machine = Machine::with(|builder| builder.without_nvml());
    machine.run("hold --gpu any:1 --reserve 1GB").exits(4).says(&["cannot tell which GPU has the most free memory"]);
}

#[test]
fn an_nvml_that_shows_no_gpu_is_told_as_the_reason() {
    for (call, code, why) in [
        ("nvmlDeviceGetUUID", 4, "cannot tell which GPU has the most free memory: NVML shows no GPU-"),
        ("nvmlDeviceGetMemoryInfo", 3, "the memory is not available: nobody tells how much is free"),
    ] {
        let machine = Machine::new();
        for call in [call.to_owned(), format!("{call}_v2")] {
            machine.inject(&gpu_sim::Fault { times: 1000, ..gpu_sim::Fault::next(call, 999) });
        }
        machine.run("hold --gpu any:1 --reserve 1GB").exits(code).says(&[why]);
    }
}
