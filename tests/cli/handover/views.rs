//! What the job is shown of the memory.

use gpu_sim::{GB, MB};

use super::allocators::probe;
use super::whole;
use crate::harness::{CONTEXT, Machine, compile};

const TOTAL: u64 = 24 * GB;

/// Free and total, as `info` tells them.
#[track_caller]
fn info(job: &mut gpu_sim::Script) -> (u64, u64) {
    let answer = job.must("info");
    let (free, total) = answer.split_once(' ').expect("two numbers");
    (free.parse().expect("bytes"), total.parse().expect("bytes"))
}

#[test]
fn shared_counts_the_balloon_as_free() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB", "");
    job.must("ctx 0");
    assert_eq!(info(&mut job), (TOTAL - 2 * CONTEXT, TOTAL), "as if there were no balloon");
    job.must("alloc 0 1024");
    // Whether or not the balloon has given way yet.
    assert_eq!(info(&mut job), (TOTAL - 2 * CONTEXT - GB, TOTAL));
    whole(&machine, 0, 4 * GB);
    assert_eq!(info(&mut job), (TOTAL - 2 * CONTEXT - GB, TOTAL));
}

#[test]
fn raw_is_the_drivers_word() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB --view raw", "");
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    assert_eq!(info(&mut job), (TOTAL - CONTEXT - 4 * GB, TOTAL));
}

#[test]
fn capped_shows_the_reservation_as_all_there_is() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB --view capped", "");
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    assert_eq!(job.must("total 0"), (4 * GB).to_string());
    assert_eq!(info(&mut job), (4 * GB - CONTEXT, 4 * GB));
    job.must("alloc 0 1024");
    assert_eq!(info(&mut job), (3 * GB - CONTEXT, 4 * GB));
    job.must("alloc 1 3072");
    whole(&machine, 0, 4 * GB + CONTEXT);
    assert_eq!(info(&mut job), (0, 4 * GB), "beyond the reservation nothing is left");
}

#[test]
fn free_memory_never_grows_while_the_job_does_nothing() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB", "");
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    job.must("alloc 0 1000");
    let first = info(&mut job);
    for _ in 0..200 {
        assert_eq!(info(&mut job), first);
    }
}

#[test]
fn nvml_shows_the_same() {
    let machine = Machine::new();
    let nvml = compile("cc", "tests/cli/handover/nvml.c", &["-std=gnu11", "-w", "-ldl"]);
    for (view, expected) in [
        ("shared", format!("v1 {TOTAL} {} {CONTEXT}\nv2 {TOTAL} {} {CONTEXT}\n", TOTAL - CONTEXT, TOTAL - CONTEXT)),
        ("capped", format!("v1 {0} {0} 0\nv2 {0} {0} 0\n", 4 * GB)),
        ("raw", format!("v1 {TOTAL} {0} {1}\nv2 {TOTAL} {0} {1}\n", TOTAL - CONTEXT - 4 * GB, CONTEXT + 4 * GB)),
    ] {
        let said = machine.run(&format!("run --gpu 0 --reserve 4GB --view {view} -- {}", nvml.display())).exits(0);
        assert_eq!(said.stdout, expected, "{view}: total, free, used by both versions of the call");
    }
}

#[test]
fn a_gpu_that_is_not_reserved_is_shown_as_it_is() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB --keep-visible", "");
    job.must("ctx 1");
    job.must("alloc 0 100");
    assert_eq!(info(&mut job), (TOTAL - CONTEXT - 100 * MB, TOTAL));
}
