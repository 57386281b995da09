//! `--wait`: the line, what wakes it, and how waiting ends.

mod any;
mod greedy;
mod stress;
mod terminal;

use std::time::{Duration, Instant};

use gpu_sim::{GB, MB};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{CONTEXT, DEADLINE, Machine, Running};

/// From memory freed to ready.
const PROMPT: Duration = Duration::from_millis(500);

/// Starts `gpu-balloon hold` and returns once it stands in line.
#[track_caller]
fn wait(machine: &Machine, line: &str) -> Running {
    let mut waiter = Running::start(&mut machine.program(&format!("hold {line}")));
    let pid = waiter.pid();
    until("it waits", || balloon(machine, pid).is_some_and(|balloon| balloon["state"] == "waiting"));
    assert!(waiter.is_silent());
    waiter
}

/// A balloon as `status` shows it.
fn balloon(machine: &Machine, pid: u32) -> Option<Value> {
    let status = machine.status();
    status["balloons"].as_array().unwrap().iter().find(|balloon| balloon["pid"] == pid).cloned()
}

/// What `status` says of a balloon's place in line.
#[track_caller]
fn is_at_place(machine: &Machine, waiter: &Running, place: u32) -> bool {
    let said = machine.run(&format!("status {}", waiter.pid())).exits(0).stdout;
    said.contains(&format!("waiting, place {place} in line"))
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
    }
}

/// Says what was measured, for who runs the test with `--nocapture`.
#[expect(clippy::print_stdout, reason = "the harness captures it")]
fn measured(what: std::fmt::Arguments<'_>) {
    println!("{what}");
}

/// How long from `free` until the waiter is ready.
#[track_caller]
fn time_to_ready(waiter: &mut Running, free: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    free();
    assert!(waiter.line().starts_with("ready "));
    let time = begin.elapsed();
    measured(format_args!("ready after {time:?}"));
    time
}

fn files_in_line(machine: &Machine) -> Vec<String> {
    let entries = std::fs::read_dir(machine.registry().join("line")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Nothing is left of the line but the turnstile, and the file that wakes.
#[track_caller]
fn line_is_empty(machine: &Machine) {
    let names = files_in_line(machine);
    assert!(names.iter().all(|name| name == "turnstile" || name == "freed"), "{names:?}");
}

#[test]
fn memory_that_is_free_is_taken_without_waiting() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 4GB --wait=1s");
    assert_eq!(machine.used_by(1, holder.pid()), 4 * GB + CONTEXT);
    line_is_empty(&machine);
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
}

#[test]
fn a_holder_that_ends_shrinks_or_is_killed_lets_the_next_one_in_at_once() {
    let machine = Machine::new();
    for how in ["signal", "kill", "release", "resize", "release --gpu"] {
        let mut first = machine.hold("--name first --gpu 0,1 --reserve 20GB");
        let mut second = wait(&machine, "--gpu 0 --reserve 10GB --wait");
        assert_eq!(machine.contexts_of(0, second.pid()), 0, "no context before it fits");
        let time = time_to_ready(&mut second, || match how {
            "signal" => first.signal(Signal::TERM),
            "kill" => first.signal(Signal::KILL),
            "release" => drop(machine.run("release first").exits(0)),
            "resize" => drop(machine.run("resize first 8GB").exits(0)),
            _ => drop(machine.run("release first --gpu 0").exits(0)),
        });
        assert!(time <= PROMPT, "{how}: {time:?}");
        first.signal(Signal::KILL);
        first.wait();
        second.signal(Signal::KILL);
        second.wait();
    }
}

#[test]
fn what_others_free_is_found_in_time_however_long_one_has_waited() {
    let machine = Machine::new();
    let hog = machine.hog(0, 20 * GB);
    let mut waiter = wait(&machine, "--gpu 0 --reserve 10GB --wait");
    let time = time_to_ready(&mut waiter, || drop(hog));
    assert!(time <= PROMPT, "a process that ends: {time:?}");
    // Long enough for the looks to have become rare.
    let mut job = machine.client();
    job.must("ctx 1");
    let id = job.must("alloc 20GB");
    let mut waiter = wait(&machine, "--gpu 1 --reserve 10GB --wait");
    until("it has looked often", || machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2") >= 12);
    let time = time_to_ready(&mut waiter, || drop(job.must(&format!("free {id}"))));
    assert!(time <= PROMPT, "a process that frees and stays: {time:?}");
}

/// The processor time of a process, which has one thread while it waits.
fn processor_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn waiting_costs_next_to_nothing() {
    const WATCHED: Duration = Duration::from_secs(5);
    let machine = Machine::new();
    let _balloon = machine.hold("--gpu 0 --reserve 20GB");
    let _other = machine.hog(1, 20 * GB);
    // Balloons announce what they free; others do not.
    for (gpu, per_second) in [(0, 1.0), (1, 10.0 / 3.0)] {
        let mut waiter = wait(&machine, &format!("--gpu {gpu} --reserve 10GB --wait"));
        let looks = || machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2");
        assert!(looks() <= 5, "in the first second");
        until("nothing has changed for a while", || looks() >= 9);
        let (before, time) = (looks(), processor_time(waiter.pid()));
        let (looks, time) = {
            let pid = waiter.pid();
            assert_eq!(waiter.line_within(WATCHED), None);
            (machine.calls(pid, "nvmlDeviceGetMemoryInfo_v2") - before, processor_time(pid) - time)
        };
        measured(format_args!("GPU {gpu}: {looks} looks, {time:?} of processor time in {WATCHED:?}"));
        assert!(looks as f64 <= per_second * WATCHED.as_secs_f64() + 1.0, "{looks}");
        assert!(looks >= 4, "it has given up");
        // 0.1 %; the program that is tested without optimisation needs more.
        let most = WATCHED / 1000 * if cfg!(debug_assertions) { 3 } else { 1 };
        assert!(time <= most, "{time:?}");
        assert_eq!(machine.peak_by(gpu, waiter.pid()), 0, "no device memory");
    }
}

#[test]
fn the_first_in_line_is_served_first_and_nobody_is_passed() {
    let machine = Machine::new();
    let first = machine.hold("--reserve 20GB");
    let mut large = wait(&machine, "--reserve 15GB --wait");
    let mut small = wait(&machine, "--reserve 2GB --wait");
    assert!(is_at_place(&machine, &large, 1) && is_at_place(&machine, &small, 2));
    assert!(balloon(&machine, large.pid()).unwrap()["started_at"].is_string());
    first.signal(Signal::TERM);
    assert!(large.line().starts_with("ready "));
    assert!(small.line().starts_with("ready "), "beside the large one");
    let mut third = wait(&machine, "--reserve 10GB --wait");
    large.signal(Signal::TERM);
    assert!(third.line().starts_with("ready "));
    line_is_empty(&machine);
}

#[test]
fn a_small_one_passes_only_where_it_cannot_delay() {
    let machine = Machine::new();
    let first = machine.hold("--gpu 0 --reserve 20GB");
    let mut both = wait(&machine, "--gpu 0,1 --reserve 10GB --wait");
    let mut blocked = wait(&machine, "--gpu 1 --reserve 14GB --wait");
    let mut beside = Running::start(&mut machine.program("hold --gpu 1 --reserve 10GB --wait"));
    assert!(is_at_place(&machine, &blocked, 2));
    // 14 GB on GPU 1 would leave less than the first in line wants there; 10 GB behind those would not have room either.
    until("it waits", || balloon(&machine, beside.pid()).is_some_and(|balloon| balloon["state"] == "waiting"));
    blocked.signal(Signal::TERM);
    blocked.wait().exits(143);
    assert!(beside.line().starts_with("ready "), "10 GB leave room for the first in line");
    assert!(both.is_silent());
    first.signal(Signal::TERM);
    assert!(both.line().starts_with("ready "));
}

#[test]
fn a_killed_waiter_leaves_the_line_at_once() {
    let machine = Machine::new();
    let _first = machine.hold("--reserve 20GB");
    let mut large = wait(&machine, "--reserve 15GB --wait");
    let mut small = wait(&machine, "--reserve 1GB --wait");
    let time = time_to_ready(&mut small, || large.signal(Signal::KILL));
    assert!(time <= PROMPT, "{time:?}");
    large.wait();
    line_is_empty(&machine);
}

#[test]
fn a_stopped_waiter_does_not_hold_up_the_line() {
    let machine = Machine::new();
    let first = machine.hold("--reserve 20GB");
    let mut stopped = wait(&machine, "--reserve 15GB --wait");
    let mut next = wait(&machine, "--reserve 12GB --wait");
    stopped.signal(Signal::STOP);
    first.signal(Signal::TERM);
    assert!(next.line().starts_with("ready "), "after a while it is passed");
    stopped.signal(Signal::CONT);
    next.signal(Signal::TERM);
    assert!(stopped.line().starts_with("ready "), "it has not lost its place");
}

#[test]
fn the_deadline_tells_what_was_missing_and_who_held_it() {
    let machine = Machine::new();
    let hog = machine.hog(0, 20 * GB);
    let begin = Instant::now();
    let in_the_way = format!("GPU 0: pid {} holds 20.5 GB", hog.pid());
    machine.run("hold --reserve 10GB --wait=1s").exits(3).says(&[
        "the memory was not available in time",
        "GPU 0: 10.0 GB wanted, 3.5 GB free, 6.5 GB missing",
        &in_the_way,
        "hint:",
    ]);
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    line_is_empty(&machine);
}

#[test]
fn at_the_deadline_best_effort_takes_what_there_is() {
    let machine = Machine::new();
    let _hog = machine.hog(0, 20 * GB);
    let mut holder = Running::start(&mut machine.program("hold --reserve 10GB --wait=1s --best-effort"));
    assert!(holder.line().ends_with(&format!("held={}", 4 * GB - 2 * CONTEXT)));
    holder.signal(Signal::TERM);
    holder.wait().exits(0).says(&["holding less than asked"]);
}

#[test]
fn a_signal_ends_the_wait() {
    let machine = Machine::new();
    let _hog = machine.hog(0, 20 * GB);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut waiter = wait(&machine, "--reserve 10GB --wait");
        waiter.signal(signal);
        waiter.wait().exits(128 + signal.as_raw());
        line_is_empty(&machine);
    }
    let mut waiter = wait(&machine, "--name waits --reserve 10GB --wait");
    machine.run("release waits").exits(0);
    waiter.wait().exits(1).says(&["released before everything was held"]);
}

#[test]
fn the_cost_of_the_context_is_learned_and_waited_for() {
    let machine = Machine::new();
    let hog = machine.hog(0, 20 * GB);
    let mut job = machine.client();
    job.must("ctx 0");
    let last = job.must("alloc 1GB");
    // 2 GB are free, in which no context of 500 MB has room beside them.
    let mut waiter = Running::start(&mut machine.program("hold --reserve 2GB --wait"));
    machine.wait_for("it has tried", |state| state.peak_by(0, waiter.pid()) > 0);
    until("it waits on", || balloon(&machine, waiter.pid()).is_some_and(|balloon| balloon["state"] == "waiting"));
    machine.wait_for("it has given the context back", |state| state.used_by(0, waiter.pid()) == 0);
    let tries = machine.calls(waiter.pid(), "cuDevicePrimaryCtxRetain");
    let looks = machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2");
    until("it has looked on", || machine.calls(waiter.pid(), "nvmlDeviceGetMemoryInfo_v2") >= looks + 8);
    assert_eq!(machine.calls(waiter.pid(), "cuDevicePrimaryCtxRetain"), tries, "it knows better now");
    let time = time_to_ready(&mut waiter, || drop(job.must(&format!("free {last}"))));
    assert!(time <= PROMPT, "{time:?}");
    drop(hog);
}

#[test]
fn what_can_never_fit_is_not_waited_for() {
    let machine = Machine::new();
    let refused = machine.run("hold --reserve 24GB --wait").exits(3);
    refused.says(&["GPU 0 has 23.5 GB at most beside the CUDA context, and 24.0 GB is wanted", "hint: ask for less"]);
    machine.run("hold --reserve 24GB --greedy").exits(3);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn two_halves_started_together_are_a_half_and_a_quarter() {
    for options in ["", "--wait"] {
        let machine = Machine::new();
        let line = format!("hold --reserve 50% {options}");
        let mut holders = [(); 2].map(|()| Running::start(&mut machine.program(&line)));
        let mut held = holders.each_mut().map(|holder| {
            let line = holder.line();
            line.rsplit_once("held=").unwrap().1.parse::<u64>().unwrap()
        });
        held.sort_unstable();
        let half = (24 * GB - CONTEXT) / 2;
        let quarter = (24 * GB - CONTEXT - half - CONTEXT) / 2;
        assert_eq!(held, [quarter, half].map(|size| size / (2 * MB) * (2 * MB)), "{options}");
    }
}

#[test]
fn those_who_start_together_never_fail_each_other_half_way() {
    let machine = Machine::new();
    // Two of the three fit, whoever is first.
    let line = "hold --gpu 0,1 --reserve 10GB --chunk-size 8MB";
    let mut holders = [(); 3].map(|()| Running::start(&mut machine.program(line)));
    let mut running = 0;
    until("all have ended or hold", || {
        let held = holders.iter().filter(|holder| machine.used_by(1, holder.pid()) == 10 * GB + CONTEXT).count();
        running = holders.iter_mut().map(Running::is_running).filter(|running| *running).count();
        held == running
    });
    assert_eq!(running, 2);
    for holder in &mut holders {
        if !holder.is_running() {
            holder.wait().exits(3);
        }
    }
}

#[test]
fn without_nvml_attempts_find_out() {
    let machine = Machine::with(|builder| builder.without_nvml());
    let first = machine.hold("--reserve 20GB");
    let mut second = Running::start(&mut machine.program("hold --reserve 10GB --wait"));
    machine.wait_for("it has tried", |state| state.peak_by(0, second.pid()) > 0);
    first.signal(Signal::TERM);
    assert!(second.line().starts_with("ready "));
    second.signal(Signal::TERM);
    second.wait().exits(0).says(&["without NVML"]);
}

#[test]
fn without_a_runtime_directory_it_waits_all_the_same() {
    let machine = Machine::new();
    let hog = machine.hog(0, 20 * GB);
    let blocked = machine.runtime().join("file");
    std::fs::write(&blocked, "").unwrap();
    let mut command = machine.program("hold --reserve 10GB --wait");
    command.env("XDG_RUNTIME_DIR", &blocked).env("TMPDIR", &blocked);
    let mut waiter = Running::start(&mut command);
    let pid = waiter.pid();
    machine.wait_for("it looks", |state| state.calls(pid, "nvmlDeviceGetMemoryInfo_v2") > 1);
    let time = time_to_ready(&mut waiter, || drop(hog));
    assert!(time <= PROMPT, "{time:?}");
}
