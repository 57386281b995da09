//! Other holders of the same user, who wait for memory beside a running job.

use std::fs::File;
use std::time::Instant;

use gpu_sim::GB;

use super::{balloon, whole};
use crate::harness::{CONTEXT, DEADLINE, Machine, Running};

/// On a GPU of 8 GB: a job with a reservation of 4 GB that holds 2 GB of it, and one who waits for more than is free now, but
/// not more than would be if the job freed that. Returns once it has looked.
fn beside_a_waiter(machine: &Machine, options: &str) -> (gpu_sim::Script, Running) {
    let mut job = machine.job("--gpu 0 --reserve 4GB");
    job.must("ctx 0");
    job.must("alloc 2GB");
    whole(machine, 0, 4 * GB);
    let mut waiter = Running::start(&mut machine.program(&format!("hold --gpu 0 {options}")));
    let looks = || machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2");
    machine.wait_for("it waits", |_| looks() >= 2);
    assert!(waiter.is_silent());
    (job, waiter)
}

#[test]
fn what_the_job_frees_is_not_for_those_who_wait() {
    for options in ["--reserve 4GB --wait", "--reserve all-4GB --wait"] {
        let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
        let (mut job, waiter) = beside_a_waiter(&machine, options);
        for round in 0..3 {
            let looks = machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2");
            job.must(&format!("free {round}"));
            // The balloon leaves it to the job for 40 ms. News of memory makes those who wait look within 10 ms.
            File::create(machine.registry().join("line/freed")).expect("a line");
            let deadline = Instant::now() + DEADLINE;
            while machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2") == looks {
                assert!(Instant::now() < deadline, "it does not look");
            }
            machine.wait_for("the job's memory is the balloon's again", |_| {
                balloon(&machine, 0, &job) == 4 * GB - CONTEXT
            });
            job.must("alloc 2GB");
            machine.wait_for("the balloon gives way", |_| balloon(&machine, 0, &job) == 2 * GB - CONTEXT);
        }
    }
}

#[test]
fn who_waits_goes_when_the_job_has_ended() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let (job, mut waiter) = beside_a_waiter(&machine, "--reserve 4GB --wait");
    assert!(job.end().success());
    assert!(waiter.line().starts_with("ready "));
}
