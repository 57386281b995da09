//! Several processes on one machine.
#![expect(unsafe_code, reason = "calls into the driver and the system")]

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use gpu_sim::{ComputeMode, Family, Fault, GB, MB, Sandbox, Script};

const CONTEXT: u64 = 500 * MB;

#[track_caller]
fn kill(pid: u32) {
    // SAFETY: the pid is of a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
}

#[test]
fn a_killed_process_leaves_nothing_behind_before_anybody_waits_for_it() {
    let sandbox = Sandbox::builder().memory(4 * GB).build();
    let hog = sandbox.hog(1, 2 * GB);
    assert_eq!(sandbox.used_by(1, hog.pid()), 2 * GB + CONTEXT);
    kill(hog.pid());
    sandbox.wait_for("the hog's memory", |machine| machine.used(1) == 0);
    assert_eq!(sandbox.contexts_of(1, hog.pid()), 0);
    assert_eq!(sandbox.peak_by(1, hog.pid()), 2 * GB + CONTEXT);
}

#[test]
fn processes_killed_in_the_middle_of_calls_break_nothing() {
    let sandbox = Sandbox::builder().gpus(1).memory(4 * GB).build();
    for _ in 0..5 {
        let jobs: Vec<Script> = (0..4).map(|_| sandbox.client()).collect();
        let pids: Vec<u32> = jobs.iter().map(Script::pid).collect();
        for mut job in jobs.into_iter() {
            job.must("ctx 0");
            job.send("churn 100000000 2MB");
            std::mem::forget(job);
        }
        let from = sandbox.traced(0);
        sandbox.wait_for("some allocations", |machine| machine.traced(0) > from + 500);
        pids.into_iter().for_each(kill);
        sandbox.wait_for("all memory", |machine| machine.used(0) == 0 && machine.processes(0).is_empty());
    }
    let mut job = sandbox.client();
    job.must("ctx 0");
    job.must("alloc 3GB");
}

#[test]
fn an_exclusive_gpu_takes_the_contexts_of_one_process() {
    let sandbox = Sandbox::builder().build();
    sandbox.set_compute_mode(0, ComputeMode::ExclusiveProcess);
    sandbox.set_compute_mode(1, ComputeMode::Prohibited);
    let (mut first, mut second) = (sandbox.client(), sandbox.client());
    first.must("ctx 0");
    first.must("ctx 0");
    assert_eq!(second.ask("ctx 0"), "error 46 CUDA_ERROR_DEVICE_UNAVAILABLE");
    assert_eq!(second.ask("ctx 1"), "error 46 CUDA_ERROR_DEVICE_UNAVAILABLE");
    kill(first.pid());
    sandbox.wait_for("the first to be gone", |machine| machine.used(0) == 0);
    second.must("ctx 0");
}

#[test]
fn a_thief_gets_what_is_let_go_for_an_instant() {
    let sandbox = Sandbox::builder().gpus(1).memory(4 * GB).build();
    let mut occupant = sandbox.occupy(0, 4 * GB - CONTEXT);
    let thief = sandbox.thief(0, "spin");
    let mark = sandbox.mark(0);
    occupant.resize(2 * GB).unwrap();
    sandbox.wait_for("the theft", |machine| machine.used(0) == 4 * GB);
    let me = std::process::id();
    assert_eq!(sandbox.extremes(&mark, |pid| pid == me), (2 * GB, 4 * GB - CONTEXT));
    assert_eq!(sandbox.extremes(&mark, |_| true).1, 4 * GB);
    assert_eq!(thief.stop(), 2 * GB - CONTEXT);
}

#[test]
fn calls_fail_and_take_time_as_asked() {
    let sandbox = Sandbox::builder().build();
    let (mut job, mut other) = (sandbox.client(), sandbox.client());
    job.must("ctx 0");
    other.must("ctx 0");
    sandbox.inject(&Fault { nth: 2, pid: Some(job.pid()), ..Fault::next("cuMemAlloc_v2", 2) });
    job.must("alloc 2MB");
    other.must("alloc 2MB");
    other.must("alloc 2MB");
    assert_eq!(job.ask("alloc 2MB"), "error 2 CUDA_ERROR_OUT_OF_MEMORY");
    job.must("alloc 2MB");
    assert_eq!(sandbox.calls(job.pid(), "cuMemAlloc_v2"), 3);
    assert_eq!(sandbox.calls(job.pid(), "cuCtxCreate_v2"), 0);

    sandbox.set_delay(Family::Alloc, Duration::from_millis(50));
    let start = Instant::now();
    job.must("alloc 2MB");
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn freed_memory_may_show_late() {
    let sandbox = Sandbox::builder().gpus(1).build();
    sandbox.set_lag(Duration::from_secs(3600));
    let mut occupant = sandbox.occupy(0, GB);
    occupant.resize(0).unwrap();
    assert_eq!((sandbox.used(0), sandbox.seen(0).used), (0, GB));
    sandbox.set_lag(Duration::ZERO);
    assert_eq!(sandbox.seen(0).used, 0);
}

#[test]
fn visible_devices_are_in_the_order_that_the_environment_says() {
    let sandbox = Sandbox::builder().memory_each([4 * GB, 8 * GB]).fastest_first([1, 0]).build();
    let total = |order: Option<&str>, visible: Option<&str>| {
        let mut command = sandbox.command(gpu_sim::program());
        command.arg("client");
        command.envs(order.map(|order| ("CUDA_DEVICE_ORDER", order)));
        command.envs(visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible)));
        let mut job = Script::start(command);
        match job.ask("ctx 0").is_empty() {
            true => "no device".to_owned(),
            false => job.must("info").split("total ").last().unwrap_or_default().to_owned(),
        }
    };
    let (small, large) = ((4 * GB).to_string(), (8 * GB).to_string());
    assert_eq!(total(None, None), large);
    assert_eq!(total(Some("PCI_BUS_ID"), None), small);
    assert_eq!(total(Some("PCI_BUS_ID"), Some("1")), large);
    assert_eq!(total(None, Some("1")), small);
    assert_eq!(total(None, Some(&sandbox.uuid_text(0))), small);
    assert_eq!(total(None, Some("")), "no device");
}

#[test]
fn a_job_finds_the_driver_by_every_way_there_is() {
    let sandbox = Sandbox::builder().build();
    for lookup in ["dlsym", "proc", "linked"] {
        let mut command = sandbox.command(gpu_sim::program());
        command.args(["client", "--lookup", lookup]);
        let mut job = Script::start(command);
        job.must("ctx 1");
        assert_eq!(sandbox.used_by(1, job.pid()), CONTEXT, "{lookup}");
    }
}

#[test]
fn drivers_can_be_old_or_absent_or_a_stub() {
    let says = |sandbox: &Sandbox| {
        let mut command = sandbox.command(gpu_sim::program());
        let output =
            command.arg("client").env("RUST_BACKTRACE", "0").stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let without = Sandbox::builder().without_symbol("cuMemAlloc_v2").build();
    assert!(says(&without).contains("no cuMemAlloc_v2"), "{}", says(&without));
    let ancient = Sandbox::builder().cuda_version(3000).build();
    assert!(says(&ancient).contains("libcuda.so.1 has no"), "{}", says(&ancient));
    let stub = Sandbox::builder().stub().build();
    assert!(says(&stub).contains("CUDA error 34"), "{}", says(&stub));
    let absent = Sandbox::builder().without_cuda().build();
    assert!(says(&absent).contains("libcuda.so.1"), "{}", says(&absent));
    assert_eq!(says(&Sandbox::builder().build()), "");
}

#[test]
fn exported_memory_lives_while_any_process_holds_it() {
    let sandbox = Sandbox::builder().gpus(1).build();
    let (mut first, mut second) = (sandbox.client(), sandbox.client());
    first.must("create 0 1GB");
    let descriptor = first.must("export 0");
    second.must(&format!("import {} {descriptor}", first.pid()));
    assert_eq!(sandbox.used(0), GB);
    let (one, other) = (first.pid(), second.pid());
    assert_eq!((sandbox.used_by(0, one), sandbox.used_by(0, other)), (GB, 0));
    let mark = sandbox.mark(0);
    kill(one);
    sandbox.wait_for("the second to inherit", |machine| machine.used_by(0, other) == GB);
    assert_eq!(sandbox.extremes(&mark, |_| true).0, GB);
    second.must("free 0");
    assert_eq!(sandbox.used(0), 0);
}

#[test]
fn every_kind_of_memory_counts() {
    let sandbox = Sandbox::builder().gpus(1).context(0).build();
    let mut job = sandbox.client();
    job.must("ctx 0");
    let kinds = [("alloc 4MB", 4), ("managed 4MB", 4), ("pitch 1000B 4096", 4), ("async 4MB", 32), ("create 0 4MB", 4)];
    for (request, megabytes) in kinds {
        let id = job.must(request);
        assert_eq!(sandbox.used(0), megabytes * MB, "{request}");
        job.must(&format!("free {id}"));
        job.must("sync");
        assert_eq!(sandbox.used(0), 0, "{request}");
        assert_eq!(job.ask(&format!("free {id}")), "error 1 CUDA_ERROR_INVALID_VALUE", "{request}");
    }
}

#[test]
fn a_script_ends_as_told() {
    let sandbox = Sandbox::builder().build();
    let mut job = sandbox.client();
    assert_eq!(job.ask("exit 7"), "");
    assert_eq!(job.end().code(), Some(7));
    let mut job = sandbox.client();
    assert_eq!(job.ask("crash"), "");
    assert_eq!(job.end().signal(), Some(libc::SIGABRT));
    assert_eq!(sandbox.number_of_gpus(), 2);
}
