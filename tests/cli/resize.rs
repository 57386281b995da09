//! `resize`: only the difference moves, all GPUs or none, and what is kept is never let go.

mod rivals;
mod turns;

use gpu_sim::{GB, MB, Sandbox};

use crate::harness::{CONTEXT, Ended, Machine, Running};

/// The balloon's part on a GPU as `status --json` has it.
fn part(machine: &Machine, gpu: u64, key: &str) -> serde_json::Value {
    let status = machine.status();
    let parts = status["balloons"][0]["gpus"].as_array().unwrap().clone();
    parts.into_iter().find(|part| part["gpu_id"] == gpu).unwrap()[key].take()
}

/// What a resize printed, and the memory that the holder was told to allocate and free meanwhile.
struct Moved {
    said: Ended,
    allocated: u64,
    freed: u64,
}

/// Resizes and sums up, from the trace, every change of the holder's memory on GPU 0.
#[track_caller]
fn moved(machine: &Machine, holder: &Running, line: &str) -> Moved {
    let (from, mut before) = (machine.traced(0), machine.used_by(0, holder.pid()));
    let said = machine.run(line).exits(0);
    let (mut allocated, mut freed) = (0, 0);
    for event in machine.trace(0, from).unwrap().iter().filter(|event| event.pid == holder.pid()) {
        allocated += event.holds.saturating_sub(before);
        freed += before.saturating_sub(event.holds);
        before = event.holds;
    }
    Moved { said, allocated, freed }
}

/// The smallest amount that the holder held on a GPU since `from`, its context aside.
fn least(machine: &Sandbox, gpu: usize, holder: &Running, from: u64) -> u64 {
    let trace = machine.trace(gpu, from).unwrap();
    let held = trace.iter().filter(|event| event.pid == holder.pid()).map(|event| event.holds);
    held.chain([machine.used_by(gpu, holder.pid())]).min().unwrap() - CONTEXT
}

#[test]
fn only_the_difference_moves() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 4GB --chunk-size 256MB --name train");
    let table = [
        // (resize to, size after, allocated, freed)
        ("5GB", 5 * GB, GB, 0),
        ("5GB", 5 * GB, 0, 0),
        ("+512MB", 5 * GB + 512 * MB, 512 * MB, 0),
        ("-512MB", 5 * GB, 0, 512 * MB),
        ("3GB", 3 * GB, 0, 2 * GB),
        ("3072", 3 * GB, 0, 0),
        ("25%total", 6 * GB, 3 * GB, 0),
        ("all", 24 * GB - CONTEXT, 18 * GB - CONTEXT, 0),
        ("2GB", 2 * GB, 0, 22 * GB - CONTEXT),
    ];
    let mut before = 4 * GB;
    for (spec, after, allocated, freed) in table {
        let moved = moved(&machine, &holder, &format!("resize train {spec}"));
        assert_eq!((moved.allocated, moved.freed), (allocated, freed), "{spec}");
        assert_eq!(machine.balloon(0, &holder), after, "{spec}");
        let change = i128::from(after) - i128::from(before);
        let said = format!("resized name=train gpu=0 change={change:+} held={after}\n");
        assert_eq!(moved.said.stdout, said, "{spec}");
        before = after;
    }
}

#[test]
fn a_shrink_by_less_than_a_chunk_replaces_only_that_chunk() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 4GB --chunk-size 1GB --name train");
    let moved = moved(&machine, &holder, "resize train 3584MB");
    assert_eq!(machine.balloon(0, &holder), 3584 * MB);
    assert_eq!((moved.allocated, moved.freed), (512 * MB, GB));
}

#[test]
fn a_percentage_counts_what_the_balloon_holds_as_free() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 1GB --name train");
    for spec in ["80%", "100%", "0.5", "50%"] {
        machine.run(&format!("resize train {spec}")).exits(0);
        let (held, before) = (machine.balloon(0, &holder), machine.traced(0));
        let again = machine.run(&format!("resize train {spec}")).exits(0);
        assert_eq!(again.stdout, format!("resized name=train gpu=0 change=+0 held={held}\n"));
        assert_eq!(machine.traced(0), before, "repeating {spec} moved memory");
    }
    assert_eq!(machine.balloon(0, &holder), (24 * GB - CONTEXT) / 2);
    machine.run("resize train +50%").exits(0);
    let half = (24 * GB - CONTEXT) / 2;
    assert_eq!(machine.balloon(0, &holder), half + half / 2 / (2 * MB) * (2 * MB), "half of what was free");
}

#[test]
fn gpus_and_lists_say_where() {
    let machine = Machine::with(|builder| builder.gpus(3));
    let holder = machine.hold("--gpu 0-2 --reserve 1GB --name train");
    let table = [
        ("train 2GB --gpu 1", [1, 2, 1]),
        ("train 3GB --gpu 0,2", [3, 2, 3]),
        ("train 4GB,5GB,6GB", [4, 5, 6]),
        ("train 2GB,1GB --gpu 2,0", [1, 5, 2]),
        ("train 0=3GB,1=-1GB,2=+1GB", [3, 4, 3]),
        ("train 2=1GB --gpu 2", [3, 4, 1]),
        ("train 2GB", [2, 2, 2]),
    ];
    for (words, sizes) in table {
        machine.run(&format!("resize {words}")).exits(0);
        assert_eq!([0, 1, 2].map(|gpu| machine.balloon(gpu, &holder) / GB), sizes, "{words}");
    }
    machine.run("resize train 1GB,2GB").exits(2).says(&["has 2 sizes for 3 GPUs"]);
    machine.run("resize train 1GB --gpu 7").exits(2);
    let alone = machine.hold("--gpu 1 --reserve 1GB --name alone");
    machine.run("resize alone 2GB --gpu 0").exits(2).says(&["balloon `alone` has no part on GPU 0"]);
    assert_eq!(machine.balloon(1, &alone), GB);
}

#[test]
fn a_chunk_size_counts_from_then_on() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --chunk-size 256MB --name train");
    assert_eq!(part(&machine, 0, "num_chunks"), 4);
    machine.run("resize train 2GB --chunk-size 128MB").exits(0);
    assert_eq!(part(&machine, 0, "num_chunks"), 4 + 8);
    assert_eq!(part(&machine, 0, "chunk_size_mb"), 128);
    machine.run("resize train 3GB").exits(0);
    assert_eq!(part(&machine, 0, "num_chunks"), 4 + 8 + 8);
    machine.run("resize train 30GB --chunk-size 64MB").exits(2);
    machine.run("resize train 24GB --chunk-size 64MB").exits(3);
    assert_eq!(part(&machine, 0, "chunk_size_mb"), 128, "a resize that failed left its chunk size");
    machine.run("resize train 4GB --chunk-size 0").exits(2).says(&["`0`"]);
}

#[test]
fn status_tells_the_new_target() {
    let machine = Machine::new();
    let _holder = machine.hold("--gpu 0,1 --reserve 1GB --name train");
    machine.run("resize train 2GB --gpu 1").exits(0);
    for (gpu, size) in [(0, GB), (1, 2 * GB)] {
        assert_eq!(part(&machine, gpu, "target_bytes"), size);
        assert_eq!(part(&machine, gpu, "allocated_bytes"), size);
        assert_eq!(part(&machine, gpu, "is_inflated"), true);
    }
}

#[test]
fn a_best_effort_balloon_counts_from_what_it_holds() {
    let machine = Machine::new();
    let other = machine.occupy(0, 20 * GB);
    let holder = machine.hold("--reserve 10GB --best-effort --name train");
    assert_eq!(machine.balloon(0, &holder), 4 * GB - CONTEXT);
    machine.run("resize train -1GB").exits(0);
    assert_eq!(machine.balloon(0, &holder), 3 * GB - CONTEXT);
    machine.run("resize train +1GB").exits(0);
    machine.run("resize train 10GB").exits(3);
    drop(other);
    machine.run("resize train 10GB").exits(0);
    assert_eq!(machine.balloon(0, &holder), 10 * GB);
}

#[test]
fn to_what_it_happens_to_hold_fulfils_a_best_effort_balloon() {
    let machine = Machine::new();
    let _other = machine.occupy(0, 20 * GB);
    let _holder = machine.hold("--reserve 10GB --best-effort --name train");
    assert_eq!(part(&machine, 0, "is_inflated"), false);
    machine.run("resize train all").exits(0);
    assert_eq!(part(&machine, 0, "is_inflated"), true);
}

#[test]
fn what_is_no_size_or_never_fits_is_a_usage_error() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 4GB --name train");
    let before = machine.traced(0);
    let table = [
        ("0", "`0` is nothing"),
        ("+0", "is nothing"),
        ("fast", "`fast` is not a size"),
        ("-0%", "is nothing"),
        ("2.5", "write `2.5GB`"),
        ("25GB", "more than the GPU's"),
        ("+21GB", "more than the GPU's"),
        ("-4GB", "would take everything"),
        ("-5GB", "would take everything"),
        ("101%", "more than everything"),
        ("99999999TB", "larger than any GPU"),
    ];
    for (spec, says) in table {
        let refused = machine.run(&format!("resize train {spec}")).exits(2).says(&[says]);
        assert_eq!(refused.stdout, "");
    }
    assert_eq!((machine.traced(0), machine.balloon(0, &holder)), (before, 4 * GB));
}
