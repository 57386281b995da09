//! Drivers that are missing, old, false or shut: exit code 4 and a hint, never a panic.

use std::path::PathBuf;

use gpu_sim::{ComputeMode, GB, MB};
use rustix::process::Signal;

use crate::harness::{Ended, Machine, PROGRAM, Running};

/// A hold that finds no usable driver or GPU, and says so.
#[track_caller]
fn no_driver(machine: &Machine, arguments: &[&str]) -> Ended {
    let said = machine.refuses(4, arguments, &[("RUST_BACKTRACE", "1")]);
    for trouble in ["panicked", "RUST_BACKTRACE", "backtrace"] {
        assert!(!said.stderr.contains(trouble), "{}", said.stderr);
    }
    said.says(&["\nhint: "])
}

#[test]
fn without_a_driver() {
    let machine = Machine::with(|builder| builder.without_cuda());
    let said = no_driver(&machine, &["--reserve", "1GB"]);
    said.says(&["no usable driver or GPU: libcuda.so.1 cannot be loaded", "hint: install the NVIDIA driver"]);
}

#[test]
fn without_a_gpu() {
    let machine = Machine::with(|builder| builder.gpus(0));
    no_driver(&machine, &["--reserve", "1GB"]).says(&["no usable driver or GPU", "CUDA_ERROR_NO_DEVICE"]);
}

#[test]
fn with_the_stub_of_the_toolkit() {
    let machine = Machine::with(|builder| builder.stub());
    let library = machine.libraries().join("libcuda.so.1").display().to_string();
    no_driver(&machine, &["--reserve", "1GB"]).says(&["CUDA_ERROR_STUB_LIBRARY", &library, "LD_LIBRARY_PATH"]);
}

#[test]
fn with_a_driver_too_old_for_a_symbol() {
    let symbols = ["cuInit", "cuDeviceGetUuid_v2", "cuDevicePrimaryCtxRelease_v2", "cuMemAlloc_v2", "cuMemGetInfo_v2"];
    for symbol in symbols {
        let machine = Machine::with(|builder| builder.without_symbol(symbol));
        let said = no_driver(&machine, &["--reserve", "1GB"]);
        said.says(&[&format!("the installed NVIDIA driver has no {symbol}"), "hint: update the NVIDIA driver"]);
    }
}

#[test]
fn with_a_driver_that_lacks_what_is_not_needed() {
    for symbol in ["cuDevicePrimaryCtxSetFlags_v2", "cuCtxSetLimit", "cuMemCreate", "cuMemRelease"] {
        let machine = Machine::with(|builder| builder.without_symbol(symbol));
        let holder = machine.hold("--reserve 1GB");
        assert_eq!(machine.balloon(0, &holder), GB, "{symbol}");
    }
}

#[test]
fn without_nvml() {
    let machine = Machine::with(|builder| builder.without_nvml());
    let mut holder = machine.hold("--gpu 0,1 --reserve 20GB");
    assert_eq!((machine.balloon(0, &holder), machine.balloon(1, &holder)), (20 * GB, 20 * GB));
    machine.run("hold --reserve 10GB").exits(3).says(&[
        "GPU 0: 10.0 GB wanted, 3.0 GB free, 7.0 GB missing",
        "who holds the memory is not known: libnvidia-ml.so.1 cannot be loaded",
    ]);
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(0);
    assert_eq!(said.stderr, "gpu-balloon: released 40.0 GB: SIGTERM came\n", "no complaint about what is not needed");
}

#[test]
fn with_an_nvml_that_lacks_a_symbol() {
    for symbol in ["nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo_v2"] {
        let machine = Machine::with(|builder| builder.without_symbol(symbol));
        let holder = machine.hold("--gpu 0 --reserve auto");
        assert!(machine.balloon(0, &holder) >= 7222 * MB, "{symbol}");
        machine.run("hold --reserve 24GB").exits(3).says(&["GPU 0: 24.0 GB wanted"]);
    }
}

#[test]
fn a_gpu_that_another_process_has_for_itself() {
    let machine = Machine::with(|builder| builder.compute_mode_each([ComputeMode::ExclusiveProcess]));
    let other = machine.hold("--gpu 1 --reserve 1GB");
    machine.run("hold --gpu 0,1 --reserve 1GB").exits(4).says(&[
        "gpu-balloon: cannot use GPU 1, which is in Exclusive_Process compute mode: ",
        "cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE",
        &format!("GPU 1: pid {} holds 1.5 GB", other.pid()),
        "hint: root can let more processes in: nvidia-smi -i GPU-b1",
    ]);
    assert_eq!(machine.used(0), 0);
    let holder = machine.hold("--gpu 0 --reserve 1GB");
    assert_eq!(machine.balloon(0, &holder), GB, "a GPU in that mode that is nobody's");
}

#[test]
fn a_gpu_that_takes_no_process() {
    let machine = Machine::with(|builder| builder.compute_mode_each([ComputeMode::Default, ComputeMode::Prohibited]));
    let said = no_driver(&machine, &["--gpu", "0,1", "--reserve", "1GB"]);
    said.says(&["GPU 1 is in prohibited compute mode", "nvidia-smi -i GPU-b1"]);
    let holder = machine.hold("--gpu 0 --reserve 1GB");
    assert_eq!(machine.balloon(0, &holder), GB);
}

#[test]
fn contextless_needs_nvml_and_says_so() {
    let machine = Machine::with(|builder| builder.without_nvml());
    let said = no_driver(&machine, &["--contextless", "--reserve", "1GB"]);
    said.says(&["libnvidia-ml.so.1 cannot be loaded", "hint: without NVML, hold in a CUDA context"]);
}

#[test]
fn contextless_needs_a_driver_that_can() {
    let machine = Machine::with(|builder| builder.without_symbol("cuMemCreate"));
    let said = no_driver(&machine, &["--contextless", "--reserve", "1GB"]);
    said.says(&["cuMemCreate: the installed driver lacks it"]);
}

/// The directory of NVIDIA's own `libcuda.so.1`, as Debian's package `libcuda1` has it.
fn real_driver() -> PathBuf {
    let directory = std::env::var_os("GPU_BALLOON_TEST_REAL_DRIVER").map(PathBuf::from);
    directory.expect("GPU_BALLOON_TEST_REAL_DRIVER names the directory of NVIDIA's libcuda.so.1")
}

#[test]
#[ignore = "needs NVIDIA's user-space driver, and no GPU: GPU_BALLOON_TEST_REAL_DRIVER"]
fn with_the_real_driver_and_no_gpu() {
    let machine = Machine::with(|builder| builder.without_cuda().without_nvml());
    for line in ["hold --reserve 1GB", "hold --gpu all --reserve 1GB -vv", "hold --contextless --reserve 1GB"] {
        let mut command = machine.program(line);
        command.env("LD_LIBRARY_PATH", real_driver()).env("RUST_BACKTRACE", "1");
        let said =
            Running::start(&mut command).wait().exits(4).says(&["no usable driver or GPU: ", "CUDA_ERROR_", "hint: "]);
        assert!(!said.stderr.contains("panicked"), "{PROGRAM} {line}: {}", said.stderr);
    }
}
#[test]
fn contextless_memory_is_held_without_a_context() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 2GB --contextless");
    assert_eq!([0, 1].map(|gpu| machine.used_by(gpu, holder.pid())), [2 * GB; 2], "not a byte beside");
    let pid = holder.pid();
    let contexts: u64 = machine.all_calls(pid).iter().filter(|(name, _)| name.contains("Ctx")).map(|(_, n)| n).sum();
    assert_eq!(contexts, 0, "{:?}", machine.all_calls(pid));
    holder.signal(Signal::TERM);
    holder.wait().exits(0).says(&["released 4.0 GB"]);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    let all = machine.hold("--gpu 0 --reserve 100% --contextless");
    assert_eq!(machine.used_by(0, all.pid()), 24 * GB);
}

#[test]
fn a_mode_is_named_with_whatever_error_it_refuses() {
    const UNKNOWN: i32 = 999;
    let machine = Machine::with(|builder| builder.compute_mode_each([ComputeMode::ExclusiveProcess]));
    machine.inject(&gpu_sim::Fault::next("cuDevicePrimaryCtxRetain", UNKNOWN));
    machine.run("hold --reserve 1GB").exits(4).says(&[
        "cannot use GPU 0, which is in Exclusive_Process compute mode: ",
        "cuDevicePrimaryCtxRetain: CUDA_ERROR_UNKNOWN",
        "nvidia-smi -i GPU-",
    ]);
}
