//! A resize on a full GPU, beside somebody who takes whatever becomes free.

use std::time::Duration;

use gpu_sim::{Family, Fault, GB, MB};

use super::{least, part};
use crate::harness::{CONTEXT, Machine, Running};

/// `CUDA_ERROR_ECC_UNCORRECTABLE`.
const BROKEN: i32 = 214;

#[test]
fn a_shrink_keeps_what_it_keeps_for_every_instant() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 5GB --name train");
    let thief = machine.thief(0, "spin");
    machine.wait_for("the thief has all the rest", |state| state.used(0) > 24 * GB - 4 * MB);
    let from = machine.traced(0);
    machine.run("resize train 3GB").exits(0);
    machine.wait_for("the thief has taken what was freed", |state| state.used(0) > 24 * GB - 4 * MB);
    let kept = least(&machine, 0, &holder, from);
    assert!(kept >= 3 * GB, "{kept} bytes were kept");
    let freed = 5 * GB - machine.balloon(0, &holder);
    assert!(freed > 2 * GB - 100 * MB, "only {freed} bytes were freed");
    assert!(thief.stop() >= freed);
}

#[test]
fn a_growth_that_does_not_fit_keeps_everything_chunk_by_chunk() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 3GB --chunk-size 96MB --name train");
    let chunks = part(&machine, 0, "num_chunks");
    let rival = machine.occupy(0, 20 * GB);
    let (from, thief) = (machine.traced(0), machine.thief(0, "spin"));
    for spec in ["5GB", "+2GB", "24GB", "60%total"] {
        let failed = machine.run(&format!("resize train {spec}")).exits(3);
        assert_eq!(failed.stdout, "");
        failed.says(&["wanted", "free", "missing"]);
    }
    assert_eq!(least(&machine, 0, &holder, from), 3 * GB);
    assert_eq!((machine.balloon(0, &holder), part(&machine, 0, "num_chunks")), (3 * GB, chunks));
    assert_eq!(part(&machine, 0, "target_bytes"), 3 * GB);
    drop((thief, rival));
    machine.run("resize train 5GB").exits(0);
}

/// The driver shows more free memory than it then gives: the growth is found short only when it is well under way.
#[test]
fn a_growth_that_fails_midway_gives_back_its_own_chunks_only() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 3GB --chunk-size 96MB --name train");
    let chunks = part(&machine, 0, "num_chunks");
    for (error, code) in [(2, 3), (BROKEN, 1)] {
        let from = machine.traced(0);
        let fault = Fault { nth: 20, times: 100, ..Fault::next("cuMemAlloc_v2", error) };
        machine.inject(&fault);
        machine.run("resize train 6GB --chunk-size 64MB").exits(code);
        machine.heal();
        let grown = machine.trace(0, from).unwrap().iter().map(|event| event.holds).max();
        assert_eq!(grown, Some(3 * GB + 19 * 64 * MB + CONTEXT), "it did not fail midway");
        assert_eq!(least(&machine, 0, &holder, from), 3 * GB);
        assert_eq!((machine.balloon(0, &holder), part(&machine, 0, "num_chunks")), (3 * GB, chunks.clone()));
        assert_eq!(part(&machine, 0, "chunk_size_mb"), 96);
    }
}

#[test]
fn where_the_second_gpu_does_not_fit_both_stay_as_they_were() {
    let machine = Machine::new();
    let holder = machine.hold("--gpu 0,1 --reserve 3GB --chunk-size 96MB --name train");
    let chunks = [0, 1].map(|gpu| part(&machine, gpu, "num_chunks"));
    let rival = machine.occupy(1, 20 * GB);
    let from = [0, 1].map(|gpu| machine.traced(gpu));
    machine.run("resize train 5GB").exits(3).says(&["GPU 1: 5.0 GB wanted"]);
    machine.run("resize train 4GB,5GB --chunk-size 32MB").exits(3).says(&["GPU 1"]);
    machine.run("resize train 0=2GB,1=5GB").exits(3).says(&["GPU 1"]);
    for gpu in [0, 1] {
        assert_eq!(least(&machine, gpu, &holder, from[gpu]), 3 * GB);
        assert_eq!((machine.balloon(gpu, &holder), &part(&machine, gpu as u64, "num_chunks")), (3 * GB, &chunks[gpu]));
    }
    drop(rival);
}

#[test]
fn where_the_second_gpu_fails_midway_the_first_gives_back_what_it_took() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(5)));
    let holder = machine.hold("--gpu 0,1 --reserve 3GB --chunk-size 96MB --name train");
    let chunks = [0, 1].map(|gpu| part(&machine, gpu, "num_chunks"));
    let from = [0, 1].map(|gpu| machine.traced(gpu));
    machine.set_delay(Family::Alloc, Duration::from_millis(10));
    let mut resize = Running::start(&mut machine.program("resize train +192MB,+15GB"));
    // GPU 0 needs two chunks, GPU 1 many, and someone takes what is left for them on the way.
    machine.wait_for("GPU 0 has grown, and GPU 1 grows", |state| {
        state.used_by(0, holder.pid()) == 3 * GB + 192 * MB + CONTEXT
            && state.used_by(1, holder.pid()) > 3 * GB + CONTEXT
    });
    let rival = machine.occupy(1, 8 * GB);
    resize.wait().exits(3).says(&["GPU 1"]);
    for gpu in [0, 1] {
        assert!(machine.traced(gpu) > from[gpu] + 2, "GPU {gpu} never grew");
        assert_eq!(least(&machine, gpu, &holder, from[gpu]), 3 * GB);
        assert_eq!((machine.balloon(gpu, &holder), &part(&machine, gpu as u64, "num_chunks")), (3 * GB, &chunks[gpu]));
    }
    drop(rival);
}

#[test]
fn every_gpu_that_is_short_is_named_and_who_is_in_the_way() {
    let machine = Machine::new();
    let holder = machine.hold("--gpu 0,1 --reserve 3GB --name train");
    let rivals = [0, 1].map(|gpu| machine.hog(gpu, 20 * GB - CONTEXT));
    let failed = machine.run("resize train 5GB,6GB").exits(3).says(&[
        "GPU 0: 5.0 GB wanted, 524.0 MB free, 1.5 GB missing; GPU 1: 6.0 GB wanted, 524.0 MB free, 2.5 GB missing",
        &format!("GPU 0: pid {} holds 20.0 GB (", rivals[0].pid()),
        &format!("GPU 1: pid {} holds 20.0 GB (", rivals[1].pid()),
        "hint: ask for less",
    ]);
    assert!(!failed.stderr.contains(&format!("pid {}", holder.pid())), "the balloon is in its own way");
    drop(rivals);
    let alone = machine.run("resize train 24GB").exits(3);
    assert!(!alone.stderr.contains("held by processes"), "{}", alone.stderr);
}

#[test]
fn gpus_are_called_as_in_the_shell_that_asks() {
    let machine = Machine::new();
    let _holder = machine.hold("--gpu 1 --reserve 3GB --name train");
    let mut command = machine.program("resize train 24GB");
    let failed = Running::start(command.env("CUDA_VISIBLE_DEVICES", "1")).wait().exits(3);
    failed.says(&["GPU 0: 24.0 GB wanted"]);
    let said = Running::start(machine.program("resize train 4GB").env("CUDA_VISIBLE_DEVICES", "1")).wait().exits(0);
    assert!(said.stdout.contains(" gpu=0 "), "{}", said.stdout);
}

#[test]
fn a_share_of_nothing_is_not_available() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve all --name train");
    let before = machine.traced(0);
    machine.run("resize train +50%").exits(3).says(&["0 B free, 2.0 MB missing"]);
    machine.run("resize train 100%").exits(0);
    assert_eq!((machine.traced(0), machine.balloon(0, &holder)), (before, 24 * GB - CONTEXT));
}
