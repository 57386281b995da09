//! A full GPU, and others who want its memory.

use std::time::Duration;

use gpu_sim::{GB, MB};

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

#[test]
fn with_a_thief_beside_it_the_job_never_fails_as_long_as_the_balloon_has_enough() {
    for every in ["1ms", "spin"] {
        let machine = full();
        let mut job = machine.job("--gpu 0 --reserve 6GB");
        job.must("ctx 0");
        let thief = machine.thief(0, every);
        machine.wait_for("the thief has what was free", |state| state.used(0) > 8 * GB - 2 * MB);
        let mut got = 0;
        while job.ask("alloc 50MB").starts_with("ok") {
            got += 1;
            assert!(got < 200, "there is an end");
        }
        let left = super::balloon(&machine, 0, &job);
        assert!(left < 50 * MB, "{every}: it failed with {left} bytes in the balloon");
        assert!(got > 0 && thief.stop() > 0);
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
