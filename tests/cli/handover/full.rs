//! A full GPU, and others who want its memory.

use std::time::Duration;

use gpu_sim::{Fault, GB, MB, Script, Thief};

use super::allocators::probe;
use super::whole;
use crate::harness::{CONTEXT, Machine};

/// On a GPU of 8 GB with a balloon of 6 GB, all else is taken.
fn full() -> Machine {
    Machine::with(|builder| builder.gpus(1).memory(8 * GB))
}

#[test]
fn the_job_gets_its_whole_reservation_on_a_full_gpu() {
    let machine = full();
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("pid");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    job.must("ctx 0");
    for _ in 0..5 {
        job.must("alloc 1GB");
    }
    job.must("alloc 500MB");
    assert!(job.ask("alloc 500MB").starts_with("error 2"), "the balloon is empty, so the driver's word counts");
    job.must("free 0");
    job.must("alloc 1GB");
}

#[test]
fn more_than_the_balloon_has_is_refused_before_anything_is_freed() {
    let machine = full();
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("ctx 0");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    machine.wait_for("the context is accounted for", |state| state.used_by(0, job.pid()) < 6 * GB + CONTEXT);
    let mark = machine.mark(0);
    assert!(job.ask("alloc 7GB").starts_with("error 2"));
    let (least, _) = machine.extremes(&mark, |pid| pid == job.pid());
    assert!(least >= 5 * GB + 400 * MB, "{least}");
}

/// A machine with a job that has its context and a thief that has all else.
fn beside_a_thief(every: &str) -> (Machine, Script, Thief) {
    let machine = full();
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("ctx 0");
    let thief = machine.thief(0, every);
    machine.wait_for("the thief has what was free", |state| state.used(0) > 8 * GB - 2 * MB);
    (machine, job, thief)
}

#[test]
fn with_a_thief_beside_it_the_job_never_fails_as_long_as_the_balloon_has_enough() {
    let (machine, mut job, _thief) = beside_a_thief("1ms");
    let mut got = 0;
    while job.ask("alloc 50MB").starts_with("ok") {
        got += 1;
        assert!(got < 200, "there is an end");
    }
    let left = machine.status()["balloons"][0]["gpus"][0]["allocated_bytes"].as_u64().expect("bytes");
    assert!(left < 50 * MB, "it failed with {left} bytes in the balloon");
}

#[test]
fn a_spinning_thief_does_not_get_the_whole_balloon_by_one_allocation() {
    let (machine, mut job, thief) = beside_a_thief("spin");
    let piece = 50 * MB;
    loop {
        let before = machine.used_by(0, thief.pid());
        let answer = job.ask("alloc 50MB");
        let stolen = machine.used_by(0, thief.pid()) - before;
        assert!(stolen <= 17 * (piece + 2 * MB), "{answer}: {stolen} bytes were stolen");
        if !answer.starts_with("ok") {
            break;
        }
    }
}

#[test]
fn a_job_that_does_nothing_loses_its_headroom_to_a_thief_and_no_more() {
    for every in ["spin", "1ms"] {
        let (machine, job, _thief) = beside_a_thief(every);
        let left = || machine.used_by(0, job.pid());
        machine.wait_for("the headroom is given", |_| left() <= 6 * GB - 64 * MB);
        let audits = || machine.calls(job.pid(), "nvmlDeviceGetComputeRunningProcesses_v3");
        let mut before = left();
        for _ in 0..4 {
            // Two calls each.
            let enough = audits() + 2;
            machine.wait_for("an audit", |_| audits() >= enough);
            assert!(left() >= before, "{every}: {before} bytes, then {}", left());
            before = left();
        }
        // On a full GPU a chunk that is split is freed as a whole.
        assert!(before >= 6 * GB - (64 + 100) * MB, "{every}: {} MB lost", (6 * GB - before) / MB);
    }
}

#[test]
fn on_a_full_gpu_the_balloon_has_back_at_once_what_the_job_frees() {
    // Without NVML nothing makes the holder look at the job's count but the job.
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB).without_nvml());
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("ctx 0");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    for round in 0..5 {
        // Less than a chunk, and more than is kept free.
        job.must("alloc 90MB");
        job.must(&format!("free {round}"));
        machine.wait_for("no more than that is free", |state| state.used(0) >= 8 * GB - 66 * MB);
    }
}

#[test]
fn a_driver_that_shows_frees_late_harms_nothing() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB).lag(Duration::from_millis(150)));
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("ctx 0");
    whole(&machine, 0, 6 * GB);
    let others = machine.occupy(0, 8 * GB - machine.used(0));
    for _ in 0..5 {
        job.must("alloc 1GB");
    }
    drop(others);
    for id in 0..5 {
        job.must(&format!("free {id}"));
    }
    whole(&machine, 0, 6 * GB);
    assert_eq!(super::balloon(&machine, 0, &job), 6 * GB - CONTEXT);
}

#[test]
fn a_context_of_any_size_finds_its_place_and_no_more() {
    for context in [100 * MB, 900 * MB] {
        let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB).context(context));
        let mut job = machine.job("--gpu 0 --reserve 6GB");
        job.must("pid");
        let _others = machine.occupy(0, 8 * GB - machine.used(0));
        job.must("ctx 0");
        // What way was given to by guess and not taken is the balloon's again, but for what a full GPU keeps at hand.
        machine.wait_for("job + balloon = reservation", |state| {
            let held = state.used_by(0, job.pid()) - context;
            held + context + 2 * 50 * MB >= 6 * GB && held + context <= 6 * GB
        });
    }
}

#[test]
fn after_its_context_a_job_finds_a_little_free_for_what_nobody_hands_over() {
    let machine = full();
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("pid");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    job.must("ctx 0");
    // At once, not only when NVML has told of the context.
    assert!(machine.used(0) <= 8 * GB - 64 * MB, "{} MB are used", machine.used(0) / MB);
    machine.wait_for("the context is accounted for", |state| state.used_by(0, job.pid()) < 6 * GB);
    job.must("alloc 1GB");
    machine.wait_for("it stays so", |state| state.used(0) <= 8 * GB - 64 * MB && state.used(0) >= 8 * GB - 200 * MB);
}

#[test]
fn calls_that_take_a_little_are_tried_again() {
    let machine = full();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB", "");
    job.must("ctx 0");
    for (function, step) in
        [("cuStreamCreate", "stream 0"), ("cuEventCreate", "event 1"), ("cuMemHostAlloc", "pinned 2 1")]
    {
        machine.inject(&Fault::next(function, 2));
        job.must(step);
    }
    machine.inject(&Fault::next("cuStreamCreate", 999));
    assert!(job.ask("stream 3").starts_with("error 999"), "another failure is the driver's word");
}

/// A job with a context on a GPU that is full but for its reservation of 6 GB.
fn job_on<'a>(machine: &'a Machine, streams: &str) -> (Script, gpu_sim::Occupant<'a>) {
    let mut job = probe(machine, "--gpu 0 --reserve 6GB", streams);
    job.must("pid");
    let others = machine.occupy(0, 8 * GB - machine.used(0));
    job.must("ctx 0");
    (job, others)
}

/// The stacks of all threads that a simulated GPU can run, beyond the usual 1 KB that a context brings.
fn stacks(each: u64) -> u64 {
    (each - 1024) * 132 * 2048
}

#[test]
fn a_launch_that_needs_larger_stacks_gets_them() {
    for streams in ["", "ptsz"] {
        for launch in ["launch 0", "launch_ex 0", "launch_together 0", "graph 0"] {
            let machine = full();
            let (mut job, _others) = job_on(&machine, streams);
            job.must("kernel 0 4096");
            job.must(launch);
            assert!(machine.used_by(0, job.pid()) < 6 * GB - stacks(4096), "the balloon has given way");
            machine.wait_for("job + balloon = reservation", |state| {
                let held = state.used_by(0, job.pid()) + stacks(4096);
                held <= 6 * GB && held + 200 * MB >= 6 * GB
            });
        }
    }
}

#[test]
fn stacks_that_are_asked_for_are_made_room_for() {
    let machine = full();
    let (mut job, _others) = job_on(&machine, "");
    job.must("limit 0 16384");
    job.must("kernel 0 8192");
    job.must("launch 0");
}

#[test]
fn a_launch_fails_as_it_would_without_us_where_the_reservation_does_not_do() {
    let machine = full();
    let (mut job, _others) = job_on(&machine, "");
    job.must("kernel 0 32768");
    assert!(job.ask("launch 0").starts_with("error 2"), "8 GB of stacks");
    job.must("kernel 1 1024");
    for error in [700, 701, 719] {
        machine.inject(&Fault::next("cuLaunchKernel", error));
        assert_eq!(job.ask("launch 1"), format!("error {error}"), "only want of memory is a reason to try again");
    }
    job.must("launch 1");
}

#[test]
fn code_of_any_size_finds_its_place() {
    let machine = full();
    let (mut job, _others) = job_on(&machine, "");
    job.must("code 0 3000");
}
