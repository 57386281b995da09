//! Loans when something goes wrong beside them: a holder that is stopped, a job without descriptors, a driver that refuses.

use std::time::Instant;

use gpu_sim::{Fault, GB, Script};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::allocators::probe;
use super::whole;
use crate::harness::{CONTEXT, DEADLINE, Machine, Running, pid_of};

const VMM: &str = "--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm";

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("a pid")
}

/// Waits until `status` says that the job has so much of its reservation of 4 GB, and the balloon the rest.
#[track_caller]
fn has(machine: &Machine, job: &mut Script, handed_over: u64, case: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Its view of the memory comes from the holder, which has then heard all that the job had to say.
        job.must("info");
        let part = machine.status()["balloons"][0]["gpus"][0].clone();
        let figures = ["handed_over_bytes", "allocated_bytes"].map(|figure| part[figure].as_u64());
        if figures == [handed_over, 4 * GB - handed_over].map(Some) {
            return whole(machine, 0, 4 * GB);
        }
        assert!(Instant::now() < deadline, "{case}: {part} instead of {handed_over}");
    }
}

#[test]
fn a_loan_that_nobody_waited_for_any_more_is_none() {
    let machine = Machine::new();
    let mut job = machine.job(VMM);
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    kill_process(pid(job.pid()), Signal::STOP).expect("it runs");
    // The holder does not answer, so the driver is asked.
    job.must("alloc 1GB");
    kill_process(pid(job.pid()), Signal::CONT).expect("it runs");
    has(&machine, &mut job, CONTEXT + GB, "its own");
    job.must("free 0");
    has(&machine, &mut job, CONTEXT, "none");
}

/// Leaves a process with `spare` descriptors that it may open, or as many as it likes.
fn descriptors(job: u32, spare: Option<u64>) {
    let is_open = |number: &u64| std::fs::symlink_metadata(format!("/proc/{job}/fd/{number}")).is_ok();
    let free = (0..).find(|number| !is_open(number)).unwrap_or_default();
    let most = getrlimit(Resource::Nofile);
    let current = spare.map_or(most.current, |spare| Some(free + spare));
    prlimit(Some(pid(job)), Resource::Nofile, Rlimit { current, ..most }).expect("ours");
}

#[test]
fn a_job_without_descriptors_loses_nothing() {
    for spare in 0..5 {
        let machine = Machine::new();
        let mut job = machine.job(VMM);
        let process = pid_of(&mut job);
        job.must("ctx 0");
        let first = job.must("alloc 1GB");
        descriptors(process, Some(spare));
        // With few descriptors it borrows less at a time or not at all, and with none it cannot give back yet.
        let second = job.must("alloc 1GB");
        job.must(&format!("free {first}"));
        job.must(&format!("free {second}"));
        descriptors(process, None);
        let third = job.must("alloc 200MB");
        job.must(&format!("free {third}"));
        has(&machine, &mut job, CONTEXT, &format!("{spare} spare"));
    }
}

#[test]
fn a_holder_with_few_descriptors_lends_a_few_chunks_at_a_time() {
    let machine = Machine::new();
    let mut job = machine.job(VMM);
    let process = pid_of(&mut job);
    job.must("ctx 0");
    descriptors(job.pid(), Some(4));
    job.must("alloc 2GB");
    assert_eq!(machine.used_by(0, process), CONTEXT, "none of it is the job's own");
    has(&machine, &mut job, CONTEXT + 2 * GB, "lent");
}

#[test]
fn the_driver_knows_of_borrowed_memory_what_it_knows_of_its_own() {
    let machine = Machine::new();
    let mut answers = Vec::new();
    for handover in ["preload", "vmm"] {
        let mut job = probe(&machine, &format!("--gpu 0 --reserve 4GB --handover {handover}"), "");
        for step in ["ctx 0", "alloc 0 11", "alloc 1 151", "alloc 2 31"] {
            job.must(step);
        }
        let mut of_each = Vec::new();
        for verb in ["attribute", "attributes"] {
            for thing in 0..3 {
                // Context, kind, address, is it managed, device, beginning, size, is it mapped.
                for which in [1, 2, 3, 8, 9, 11, 12, 13] {
                    let asked = format!("{verb} {thing} {which}");
                    of_each.push((asked.clone(), job.ask(&asked)));
                }
            }
        }
        answers.push(of_each);
        assert!(job.end().success());
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_driver_that_refuses_something_in_between_is_not_seen() {
    let functions = [
        "cuMemExportToShareableHandle",
        "cuMemImportFromShareableHandle",
        "cuMemAddressReserve",
        "cuMemMap",
        "cuMemSetAccess",
    ];
    for function in functions {
        for (nth, times) in [(1, 1), (2, 1), (5, 1), (1, 10_000), (3, 10_000)] {
            for error in [1, 2, 304, 801, 999] {
                let machine = Machine::new();
                let mut job = machine.job(VMM);
                let process = pid_of(&mut job);
                job.must("ctx 0");
                whole(&machine, 0, 4 * GB);
                machine.inject(&Fault { nth, times, ..Fault::next(function, error) });
                for _ in 0..2 {
                    let ids: Vec<String> = (0..4).map(|_| job.must("alloc 300MB")).collect();
                    for id in ids {
                        job.must(&format!("free {id}"));
                    }
                }
                let case = format!("{function} {nth} {times} {error}");
                has(&machine, &mut job, CONTEXT, &case);
                machine.heal();
                let id = job.must("alloc 1GB");
                has(&machine, &mut job, CONTEXT + GB, &case);
                assert_eq!(machine.used_by(0, process), CONTEXT, "{case}: borrowed again");
                job.must(&format!("free {id}"));
                has(&machine, &mut job, CONTEXT, &case);
            }
        }
    }
}

#[test]
fn a_driver_that_lends_nothing_is_told_of_once() {
    let machine = Machine::new();
    machine.inject(&Fault { times: 10_000, ..Fault::next("cuMemExportToShareableHandle", 801) });
    let client = gpu_sim::program().display().to_string();
    let mut command = machine.program(&format!("run {VMM} -- sh -c"));
    command.arg(format!("printf 'ctx 0\\n{}' | {client} client", "alloc 10MB\\n".repeat(20)));
    let said = Running::start(&mut command).wait().exits(0).stderr;
    assert_eq!(said.matches("cannot be lent").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_recorded_meanwhile_is_not_disturbed() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = probe(&machine, "--gpu 0 --reserve 6GB --handover vmm", "");
    job.must("ctx 0");
    machine.wait_for("the context is accounted for", |state| state.used_by(0, job.pid()) == 6 * GB);
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    let before = machine.used(0);
    for step in [
        "stream 1",
        "async 2 300",
        "async 3 300",
        "capture 4",
        "free_in 2 1",
        "async 5 300",
        "free_in 3 1",
        "captured 4",
    ] {
        job.must(step);
    }
    assert_eq!(machine.used(0), before, "all of it was borrowed");
}
