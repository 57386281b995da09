//! Calls of the driver that fail, one after the other: a sensible exit code, the error's own name, nothing left behind.

use gpu_sim::{Fault, GB, MB};
use rustix::process::Signal;

use crate::harness::{CONTEXT, Ended, Machine};

const OUT_OF_MEMORY: i32 = 2;
const UNKNOWN: i32 = 999;

/// A hold on two GPUs in which one call fails.
#[track_caller]
fn with(fault: &Fault, code: i32) -> Ended {
    let machine = Machine::new();
    machine.inject(fault);
    let ended = machine.run("hold --gpu 0,1 --reserve 1GB --timeout 10ms").exits(code);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0), "after {fault:?}");
    for trouble in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!ended.stderr.contains(trouble), "{}", ended.stderr);
    }
    ended
}

#[test]
fn no_call_of_the_start_may_fail_without_a_word() {
    let calls = [
        "cuInit",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetUuid_v2",
        "cuDeviceGetName",
        "cuDeviceGetPCIBusId",
        "cuDeviceGetAttribute",
        "cuDeviceTotalMem_v2",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuMemGetInfo_v2",
        "cuMemAlloc_v2",
    ];
    for call in calls {
        let said = with(&Fault::next(call, UNKNOWN), 4);
        let name = call.trim_end_matches("_v2");
        assert_eq!(said.stdout, "", "{call}");
        assert!(said.stderr.starts_with("gpu-balloon: "), "{}", said.stderr);
        said.says(&[name, "CUDA_ERROR_UNKNOWN", "\nhint: "]);
    }
}

#[test]
fn a_chunk_in_the_midst_that_fails_gives_back_the_others() {
    for nth in [2, 7, 20] {
        let said = with(&Fault { nth, ..Fault::next("cuMemAlloc_v2", UNKNOWN) }, 4);
        said.says(&["cannot use GPU ", "cuMemAlloc: CUDA_ERROR_UNKNOWN"]);
    }
}

#[test]
fn a_context_that_finds_no_room_is_a_want_of_memory() {
    let said = with(&Fault::next("cuDevicePrimaryCtxRetain", OUT_OF_MEMORY), 3);
    said.says(&["cannot use GPU ", "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY", "hint: "]);
}

#[test]
fn what_only_makes_a_context_smaller_may_fail() {
    for call in ["cuCtxSetLimit", "cuDevicePrimaryCtxSetFlags_v2"] {
        with(&Fault { times: 100, ..Fault::next(call, UNKNOWN) }, 0).says(&["released 2.0 GB"]);
    }
}

#[test]
fn a_chunk_that_is_not_freed_is_told_and_not_counted() {
    let said = with(&Fault::next("cuMemFree_v2", UNKNOWN), 1);
    said.says(&["released 1.9 GB: its time is over", " did not free all: cuMemFree: CUDA_ERROR_UNKNOWN", "hint: "]);
}

#[test]
fn a_driver_of_another_version_than_its_module_is_told_as_such() {
    let said = with(&Fault::next("cuInit", 803), 4);
    said.says(&["CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "hint: the kernel module is of another version"]);
}

#[test]
fn nvml_may_fail_at_every_call() {
    for call in ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"] {
        let machine = Machine::new();
        machine.inject(&Fault { times: 1000, ..Fault::next(call, UNKNOWN) });
        let mut holder = machine.hold("--reserve auto");
        assert_eq!(machine.balloon(0, &holder), 7222 * MB, "{call}: nobody tells how busy it is, so 30 % are taken");
        machine.run("hold --reserve 20GB").exits(3).says(&["GPU 0: 20.0 GB wanted"]);
        holder.signal(Signal::TERM);
        holder.wait().exits(0);
    }
}

#[test]
fn a_gpu_that_is_lost_meanwhile_is_told_at_the_end_and_the_others_are_freed() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 2GB");
    machine.lose_gpu(0, UNKNOWN);
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(1);
    said.says(&["released 2.0 GB: SIGTERM came", "GPU 0 did not free all: cuMemFree: CUDA_ERROR_UNKNOWN", "hint: "]);
    assert_eq!(machine.calls(holder.pid(), "cuMemFree_v2"), 42, "each chunk is tried, on both GPUs");
    assert_eq!(machine.used(1), 0);
}

#[test]
fn a_gpu_that_is_lost_in_the_midst_of_an_inflation_ends_it() {
    let machine = Machine::with(|builder| builder.delay(gpu_sim::Family::Alloc, std::time::Duration::from_millis(10)));
    let mut holder = crate::harness::Running::start(&mut machine.program("hold --gpu 0,1 --reserve 20GB"));
    machine.wait_for("an inflation on its way", |_| machine.used_by(1, holder.pid()) > GB + CONTEXT);
    machine.lose_gpu(1, UNKNOWN);
    let said = holder.wait().exits(4);
    said.says(&["cannot use GPU 1: cuMemAlloc: CUDA_ERROR_UNKNOWN", "hint: "]);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
}

#[test]
fn a_lost_gpu_is_refused_and_the_others_serve() {
    let machine = Machine::new();
    machine.lose_gpu(1, UNKNOWN);
    machine.run("hold --gpu 0,1 --reserve 1GB").exits(4).says(&["GPU 1", "CUDA_ERROR_UNKNOWN"]);
    assert_eq!(machine.used(0), 0);
    let holder = machine.hold("--gpu 0 --reserve 1GB");
    assert_eq!(machine.balloon(0, &holder), GB);
}
