//! A full GPU, and others who want its memory.

use gpu_sim::{GB, MB};

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
