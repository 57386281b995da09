//! Inflation: in which chunks, on which GPUs at once, and what becomes of it when it does not come to its end.

use std::time::Duration;

use gpu_sim::{Family, Fault, GB, MB};
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine, Running};

const OUT_OF_MEMORY: i32 = 2;

/// What the process took of a GPU, step by step, its context aside, in MB.
fn chunks(machine: &Machine, gpu: usize, pid: u32) -> Vec<u64> {
    let trace = machine.trace(gpu, 0).expect("the trace is whole");
    let held: Vec<u64> = trace.iter().filter(|event| event.pid == pid).map(|event| event.holds).collect();
    let steps = held.windows(2).take_while(|step| step[1] > step[0]).map(|step| (step[1] - step[0]) / MB);
    assert_eq!(held.first(), Some(&CONTEXT), "the context comes first");
    steps.collect()
}

#[track_caller]
fn chunks_of(machine: &Machine, line: &str) -> Vec<u64> {
    let mut holder = machine.hold(line);
    let chunks = chunks(machine, 0, holder.pid());
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    chunks
}

#[test]
fn memory_is_taken_in_chunks() {
    let machine = Machine::new();
    let table: [(&str, &[u64]); 8] = [
        ("--reserve 250MB", &[100, 100, 50]),
        ("--reserve 251MB", &[100, 100, 52]),
        ("--reserve 40MB", &[40]),
        ("--reserve 250MB --chunk-size 1GB", &[250]),
        ("--reserve 2GB --chunk-size 1GB", &[1024, 1024]),
        ("--reserve 10MB --chunk-size 3MB", &[4, 4, 2]),
        ("--reserve 4MB --chunk-size 1b", &[2, 2]),
        ("--reserve 200MB --chunk-size 2TB", &[200]),
    ];
    for (line, expected) in table {
        assert_eq!(chunks_of(&machine, line), expected, "{line}");
    }
}

#[test]
fn a_chunk_that_does_not_fit_is_halved() {
    let machine = Machine::new();
    machine.inject(&Fault { times: 3, ..Fault::next("cuMemAlloc_v2", OUT_OF_MEMORY) });
    // 100, 50 and 26 did not fit.
    assert_eq!(chunks_of(&machine, "--reserve 30MB --chunk-size 100MB"), [4, 4, 4, 4, 4, 4, 4, 2]);
    machine.heal();
    machine.inject(&Fault { times: 3, ..Fault::next("cuMemAlloc_v2", OUT_OF_MEMORY) });
    assert_eq!(chunks_of(&machine, "--reserve 200MB")[..3], [14, 14, 14]);
}

#[test]
fn halving_ends_at_the_driver_s_granularity() {
    let machine = Machine::new();
    machine.inject(&Fault { times: 6, ..Fault::next("cuMemAlloc_v2", OUT_OF_MEMORY) });
    // 100, 50, 26, 14, 8 and 4 MB did not fit.
    assert_eq!(chunks_of(&machine, "--reserve 200MB"), [2; 100]);
    machine.heal();
    machine.inject(&Fault { times: 7, ..Fault::next("cuMemAlloc_v2", OUT_OF_MEMORY) });
    machine.run("hold --reserve 200MB").exits(3).says(&["GPU 0: 200.0 MB wanted, 0 B free, 200.0 MB missing"]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn everything_that_is_free_can_be_held() {
    for spec in ["100%", "1.0", "all"] {
        let machine = Machine::new();
        let holder = machine.hold(&format!("--gpu 0,1 --reserve {spec}"));
        assert_eq!((machine.used(0), machine.used(1)), (24 * GB, 24 * GB), "{spec} by {}", holder.pid());
    }
}

#[test]
fn several_gpus_inflate_at_the_same_time() {
    let machine = Machine::with(|builder| builder.gpus(8).delay(Family::Alloc, Duration::from_millis(3)));
    let holder = machine.hold("--gpu all --reserve 1GB");
    // When the first and the last chunk came, on each GPU.
    let times = (0..8).map(|gpu| {
        let trace = machine.trace(gpu, 0).expect("the trace is whole");
        let took: Vec<u64> = trace.iter().filter(|event| event.holds > CONTEXT).map(|event| event.at_ns).collect();
        (took[0], took[took.len() - 1])
    });
    let (firsts, lasts): (Vec<u64>, Vec<u64>) = times.unzip();
    assert!(firsts.iter().max() < lasts.iter().min(), "{} took one GPU after the other", holder.pid());
}

#[test]
fn two_gpus_short_are_both_told() {
    let machine = Machine::new();
    let first = machine.hog(0, 20 * GB);
    let second = machine.hold("--gpu 1 --reserve 22GB --name train");
    let failed = machine.run("hold --gpu 0,1 --reserve 10GB,5GB").exits(3);
    let said: Vec<&str> = failed.stderr.lines().collect();
    assert_eq!(said[0], "gpu-balloon: the memory is not available on GPUs 0,1");
    assert_eq!(said[1], "  GPU 0: 10.0 GB wanted, 3.0 GB free, 7.0 GB missing");
    assert!(said[2].starts_with(&format!("  GPU 0: pid {} holds 20.5 GB (", first.pid())), "{}", failed.stderr);
    assert_eq!(said[3], "  GPU 1: 5.0 GB wanted, 1.0 GB free, 4.0 GB missing");
    let holder = format!("  GPU 1: pid {} holds 22.5 GB in balloon `train` (", second.pid());
    assert!(said[4].starts_with(&holder), "{}", failed.stderr);
    assert!(said[5].starts_with("hint: "), "{}", failed.stderr);
    assert_eq!((failed.stdout.as_str(), said.len()), ("", 6));
    assert_eq!((machine.used(0), machine.used(1)), (20 * GB + CONTEXT, 22 * GB + CONTEXT));
}

#[test]
fn memory_that_nvml_knows_no_process_for_is_told_all_the_same() {
    let machine = Machine::new();
    let balloon = machine.hold("--gpu 0 --reserve 20GB --contextless --name train");
    // Somebody else's, registered elsewhere.
    let elsewhere = machine.runtime().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let variables = [("XDG_RUNTIME_DIR", elsewhere.to_str().unwrap())];
    let _other = machine.hold_with(&["--gpu", "1", "--reserve", "20GB", "--contextless"], &variables);
    machine.run("hold --gpu 0 --reserve 10GB").exits(3).says(&[
        "gpu-balloon: the memory is not available: GPU 0: 10.0 GB wanted, 3.5 GB free, 6.5 GB missing\n",
        &format!("  GPU 0: pid {} holds 20.0 GB in balloon `train` (", balloon.pid()),
    ]);
    let failed = machine.run("hold --gpu 1 --reserve 10GB").exits(3);
    failed.says(&["  GPU 1: 20.0 GB are held by processes not seen from here\n"]);
}

#[test]
fn a_gpu_without_room_for_a_context_is_short_of_memory() {
    let machine = Machine::new();
    let other = machine.hold("--gpu 1 --reserve all-100MB");
    machine.run("hold --gpu 0,1 --reserve 1GB").exits(3).says(&[
        "GPU 1",
        "CUDA_ERROR_OUT_OF_MEMORY",
        &format!("GPU 1: pid {} holds 23.9 GB", other.pid()),
        "hint: ",
    ]);
    assert_eq!(machine.used(0), 0);
}

/// A holder of both GPUs that is in the midst of a long inflation.
fn inflating(machine: &Machine, line: &str) -> Running {
    let holder = Running::start(&mut machine.program(&format!("hold --gpu 0,1 --reserve 20GB {line}")));
    let holds = |gpu: usize| machine.used_by(gpu, holder.pid()) > CONTEXT + GB;
    machine.wait_for("an inflation on its way", |_| holds(0) && holds(1));
    holder
}

fn slow() -> Machine {
    Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)))
}

#[test]
fn one_gpu_that_falls_short_on_the_way_gives_back_all() {
    let machine = slow();
    let mut holder = inflating(&machine, "");
    // No balloon, so it stands in no line.
    let thief = machine.hog(1, 18 * GB);
    let failed = holder.wait().exits(3).says(&[
        "GPU 1: 20.0 GB wanted, ",
        " missing",
        &format!("GPU 1: pid {} holds ", thief.pid()),
        "hint: ",
    ]);
    assert_eq!(failed.stdout, "");
    assert_eq!((machine.used_by(0, holder.pid()), machine.used_by(1, holder.pid())), (0, 0));
}

#[test]
fn best_effort_keeps_what_fits_and_says_so() {
    let machine = Machine::new();
    let _other = machine.hold("--gpu 1 --reserve 20GB");
    let mut holder = machine.hold("--gpu 0,1 --reserve 10GB --best-effort");
    assert_eq!((machine.balloon(0, &holder), machine.balloon(1, &holder)), (10 * GB, 3096 * MB));
    holder.signal(Signal::TERM);
    let said =
        holder.wait().exits(0).says(&["holding less than asked", "GPU 1: 10.0 GB wanted, 3.0 GB free, 7.0 GB missing"]);
    assert!(!said.stderr.contains("GPU 0"), "{}", said.stderr);
    assert!(said.stdout.ends_with(&format!("held={}\n", 13336 * MB)), "{}", said.stdout);
}

#[test]
fn what_is_missing_is_told_in_the_order_of_the_gpus() {
    let machine = Machine::with(|builder| builder.gpus(4));
    let mut holder = machine.hold("--gpu 2,0,3,1 --reserve 100%total --best-effort");
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(0).stderr;
    let gpus: Vec<&str> = said.split("holding less than asked: GPU ").skip(1).map(|line| &line[..1]).collect();
    assert_eq!(gpus, ["2", "0", "3", "1"], "{said}");
}

#[test]
fn best_effort_that_gets_nothing_at_all_fails() {
    let machine = Machine::new();
    let _other = machine.hold("--gpu 0 --reserve all-500MB");
    let failed = machine.run("hold --gpu 0 --reserve 10GB --best-effort").exits(3);
    failed.says(&["GPU 0: 10.0 GB wanted, 0 B free, 10.0 GB missing"]);
    let machine = Machine::new();
    let _other = machine.hold("--gpu 0 --reserve 10GB");
    machine
        .run("hold --gpu 0 --reserve all-20GB --best-effort")
        .exits(3)
        .says(&["GPU 0: 20.0 GB wanted, 13.0 GB free"]);
}

#[test]
fn a_signal_in_a_long_inflation_gives_back_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let machine = slow();
        let mut holder = inflating(&machine, "");
        let before = machine.calls(holder.pid(), "cuMemAlloc_v2");
        holder.signal(signal);
        let ended = holder.wait().exits(code).says(&["before everything was held"]);
        assert_eq!((ended.stdout.as_str(), machine.used(0), machine.used(1)), ("", 0, 0));
        // At most what was under way, and one more chunk on each GPU.
        let after = machine.calls(holder.pid(), "cuMemAlloc_v2");
        assert!(after - before <= 20, "{} chunks were still taken", after - before);
        let freed = machine.calls(holder.pid(), "cuMemFree_v2");
        assert_eq!(freed, after, "each chunk is freed in order");
    }
}

#[test]
fn a_signal_while_the_driver_starts_ends_it_before_it_takes_anything() {
    let machine = Machine::with(|builder| builder.delay(Family::Init, Duration::from_millis(300)));
    let mut holder = Running::start(&mut machine.program("hold --reserve 20GB"));
    machine.wait_for("cuInit under way", |machine| machine.calls(holder.pid(), "cuInit") > 0);
    holder.signal(Signal::TERM);
    holder.wait().exits(143);
    assert!(machine.peak(0) <= CONTEXT, "{} were taken", machine.peak(0));
}

#[test]
fn the_end_of_the_process_to_outlive_ends_an_inflation() {
    let machine = slow();
    let mut job = Running::start(&mut machine.command("cat"));
    let mut holder = inflating(&machine, &format!("--until-exit {}", job.pid()));
    job.close_stdin();
    job.wait().exits(0);
    holder.wait().exits(1).says(&["ended before everything was held"]);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
}

#[test]
fn a_second_signal_cuts_a_deflation_short() {
    let machine = Machine::with(|builder| builder.delay(Family::Free, Duration::from_millis(50)));
    let mut holder = machine.hold("--reserve 20GB");
    holder.signal(Signal::TERM);
    machine.wait_for("a deflation on its way", |machine| machine.used(0) < 20 * GB);
    holder.signal(Signal::INT);
    holder.wait().exits(130);
    assert_eq!(machine.used(0), 0);
    let freed = machine.calls(holder.pid(), "cuMemFree_v2");
    assert!(freed < 200, "all {freed} chunks were still freed one by one");
}

/// The driver of an H100 gives to nobody the last 2 MB that it reports as free.
#[test]
fn everything_is_all_that_can_be_had() {
    for spec in ["all", "100%", "1.0"] {
        let machine = Machine::with(|builder| builder.withheld(2 * MB));
        let holder = machine.hold(&format!("--gpu 0,1 --reserve {spec} --name everything"));
        let whole = 24 * GB - CONTEXT - 2 * MB;
        assert_eq!([0, 1].map(|gpu| machine.balloon(gpu, &holder)), [whole; 2], "{spec}");
        assert_eq!(machine.status()["balloons"][0]["gpus"][0]["is_inflated"], true);
        machine.run("resize everything 1GB").exits(0);
        machine.run(&format!("resize everything {spec}")).exits(0);
        assert_eq!([0, 1].map(|gpu| machine.balloon(gpu, &holder)), [whole; 2], "{spec} again");
    }
    let machine = Machine::with(|builder| builder.withheld(2 * MB));
    let growing = machine.hold("--reserve all --greedy");
    assert_eq!(machine.balloon(0, &growing), 24 * GB - CONTEXT - 2 * MB);
    let machine = Machine::with(|builder| builder.withheld(2 * MB));
    machine.run("hold --reserve 24076MB").exits(3).says(&["2.0 MB missing"]);
    let machine = Machine::with(|builder| builder.withheld(2 * MB));
    machine.hold("--reserve 99.999%");
    // What more than the driver's own is missing, someone took.
    let machine = Machine::with(|builder| builder.withheld(GB));
    machine.run("hold --reserve all").exits(3).says(&["1.0 GB missing"]);
    assert_eq!(machine.used(0), 0);
}
