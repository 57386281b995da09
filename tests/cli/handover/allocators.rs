//! Every way to take memory, by a C program that finds the driver as cudart does.

use gpu_sim::{GB, MB, Script};

use super::{balloon, whole};
use crate::harness::{CONTEXT, Machine, compile};

/// The C program under `run`, with or without per-thread default streams, once it has initialised the driver.
#[track_caller]
pub fn probe(machine: &Machine, options: &str, streams: &str) -> Script {
    let mut job = uninitialised(machine, options, streams);
    job.must("init");
    job
}

/// The same before that.
pub fn uninitialised(machine: &Machine, options: &str, streams: &str) -> Script {
    let mut command = machine.program(&format!("run {options} --"));
    command.arg(compile("cc", "tests/cli/handover/probe.c", &["-std=gnu11", "-w", "-ldl"])).arg(streams);
    Script::start(command)
}

/// Does each step, and waits after it until job and balloon are whole, and the balloon is this much below the reservation.
#[track_caller]
fn follows(streams: &str, steps: &[(&str, u64)]) {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB", streams);
    for (step, taken) in steps {
        job.must(step);
        machine.wait_for(&format!("{step}: the balloon gives {taken}"), |state| {
            state.used(0) == 4 * GB + CONTEXT && state.used_by(0, job.pid()) == 4 * GB + CONTEXT - taken
        });
    }
}

#[test]
fn linear_memory() {
    follows("", &[("ctx 0", CONTEXT), ("alloc 0 200", CONTEXT + 200 * MB), ("pitch 1 300", CONTEXT + 500 * MB)]);
    follows("", &[("ctx 0", CONTEXT), ("alloc 0 200", CONTEXT + 200 * MB), ("free 0", CONTEXT)]);
}

#[test]
fn arrays() {
    follows("", &[("ctx 0", CONTEXT), ("array 0 200", CONTEXT + 200 * MB), ("free_array 0", CONTEXT)]);
}

#[test]
fn pools_count_by_what_they_keep() {
    for streams in ["", "ptsz"] {
        let given_back = [
            ("ctx 0", CONTEXT),
            ("async 0 512", CONTEXT + 512 * MB),
            ("free_async 0", CONTEXT + 512 * MB),
            ("sync", CONTEXT),
        ];
        follows(streams, &given_back);
        let kept = [
            ("ctx 0", CONTEXT),
            ("keep_pool 0", CONTEXT),
            ("async 0 512", CONTEXT + 512 * MB),
            ("free_async 0", CONTEXT + 512 * MB),
            ("sync", CONTEXT + 512 * MB),
            ("async 1 512", CONTEXT + 512 * MB),
            ("free_async 1", CONTEXT + 512 * MB),
            ("trim 0", CONTEXT),
        ];
        follows(streams, &kept);
    }
}

#[test]
fn physical_memory_lives_as_long_as_a_handle_or_a_mapping() {
    let taken = CONTEXT + 256 * MB;
    let handle_last = [
        ("ctx 0", CONTEXT),
        ("create 0 256", taken),
        ("reserve 1 256", taken),
        ("map 1 0 256", taken),
        ("unmap 1 256", taken),
        ("release 0", CONTEXT),
    ];
    follows("", &handle_last);
    let mapping_last = [
        ("ctx 0", CONTEXT),
        ("create 0 256", taken),
        ("reserve 1 256", taken),
        ("map 1 0 256", taken),
        ("release 0", taken),
        ("create 2 256", taken + 256 * MB),
        ("unmap 1 256", taken),
        ("release 2", CONTEXT),
    ];
    follows("", &mapping_last);
}

#[test]
fn physical_memory_needs_no_context() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB", "");
    job.must("create 0 1024");
    machine.wait_for("the balloon gives way", |state| state.used(0) == 4 * GB + CONTEXT);
    assert_eq!(balloon(&machine, 0, &job), 3 * GB);
}

#[test]
fn a_destroyed_context_takes_its_memory_along() {
    follows("", &[("create_context 0", CONTEXT), ("alloc 0 300", CONTEXT + 300 * MB), ("destroy_context", 0)]);
}

#[test]
fn on_a_full_gpu_every_way_gets_the_balloons_memory() {
    for steps in
        [["alloc 0 1024", "alloc 1 1024"], ["async 0 1024", "async 1 1024"], ["create 0 1024", "create 1 1024"]]
    {
        let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
        let mut job = probe(&machine, "--gpu 0 --reserve 6GB", "");
        job.must("pid");
        let _others = machine.occupy(0, 8 * GB - machine.used(0));
        job.must("ctx 0");
        for step in steps {
            job.must(step);
        }
        job.must("array 3 1024");
        job.must("pitch 4 1024");
    }
}

#[test]
fn a_free_that_fails_changes_nothing() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB", "");
    job.must("ctx 0");
    job.must("alloc 0 1024");
    whole(&machine, 0, 4 * GB);
    job.must("free 0");
    whole(&machine, 0, 4 * GB);
    assert!(job.ask("free 0").starts_with("error"), "the driver's own word");
    job.must("alloc 0 512");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 4 * GB - CONTEXT - 512 * MB);
}
