//! `doctor`: what it finds, that it leaves nothing behind, and that its exit code tells whether a hold would work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gpu_sim::{ComputeMode, Fault, GB, MB};
use serde_json::{Value, json};

use crate::harness::{Machine, Running};

/// What a context costs on the simulated GPUs.
const CONTEXT: u64 = 500 * MB;

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: i32 = 2;

/// Runs it and reads its JSON; whatever it finds, it gives all memory back.
#[track_caller]
fn doctor(machine: &Machine, code: i32) -> Value {
    let said = machine.run("doctor --json").exits(code);
    assert_eq!(said.stderr, "");
    let diagnosis: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(diagnosis["is_healthy"], json!(code == 0), "{diagnosis}");
    diagnosis
}

#[track_caller]
fn has_problem(diagnosis: &Value, words: &[&str]) {
    let problems = diagnosis["problems"].to_string();
    for word in words {
        assert!(problems.contains(word), "no `{word}` in {problems}");
    }
}

#[test]
fn a_healthy_machine_is_tried_on_every_gpu() {
    let machine = Machine::new();
    let diagnosis = doctor(&machine, 0);
    assert_eq!(diagnosis["problems"], json!([]));
    for name in ["driver_version", "cuda_version", "nvml_version", "runtime_directory"] {
        assert!(diagnosis[name].is_string(), "{name} in {diagnosis}");
    }
    for gpu in [0, 1] {
        let seen = &diagnosis["gpus"][gpu];
        assert_eq!((&seen["gpu_id"], &seen["nvml_index"]), (&json!(gpu), &json!(gpu)));
        assert_eq!(seen["total_bytes"], json!(24 * GB));
        assert_eq!(seen["compute_mode"], json!("Default"));
        assert_eq!(seen["trial"]["balloon_bytes"], json!(64 * MB));
        assert_eq!(seen["trial"]["overhead_bytes"], json!(CONTEXT));
        assert!(seen["trial"]["free_to_visible_microseconds"].is_u64(), "{seen}");
        assert_eq!((machine.peak(gpu), machine.used(gpu)), (CONTEXT + 64 * MB, 0));
    }
}

#[test]
fn people_can_read_it() {
    let machine = Machine::new();
    let text = machine.run("doctor").exits(0).stdout;
    for piece in
        ["NVIDIA driver", "GPU 0", "GPU 1", "compute mode Default", "64.0 MB held and released", "a hold would work"]
    {
        assert!(text.contains(piece), "no `{piece}` in:\n{text}");
    }
}

#[test]
fn the_lag_of_the_driver_is_measured() {
    let lag = Duration::from_millis(50);
    let machine = Machine::with(|builder| builder.gpus(1).lag(lag));
    let seen = doctor(&machine, 0)["gpus"][0]["trial"]["free_to_visible_microseconds"].as_u64().unwrap();
    assert!(u128::from(seen) >= lag.as_micros() - 1_000, "{seen} us");
}

#[test]
fn a_gpu_that_takes_no_process_is_named_and_the_others_are_tried() {
    let modes = [ComputeMode::Prohibited, ComputeMode::Default];
    let machine = Machine::with(|builder| builder.compute_mode_each(modes));
    let diagnosis = doctor(&machine, 4);
    has_problem(&diagnosis, &["GPU 0", "prohibited", "nvidia-smi -c DEFAULT"]);
    assert!(diagnosis["gpus"][0]["trial"].is_null() && diagnosis["gpus"][1]["trial"].is_object(), "{diagnosis}");
}

#[test]
fn a_full_gpu_has_the_exit_code_of_a_hold() {
    let machine = Machine::with(|builder| builder.gpus(1));
    let _holder = machine.hold("--reserve all");
    has_problem(&doctor(&machine, 3), &["GPU 0", "CUDA_ERROR_OUT_OF_MEMORY", "gpu-balloon status"]);
}

#[test]
fn a_trial_that_fails_midway_leaves_nothing() {
    let machine = Machine::with(|builder| builder.gpus(1));
    machine.inject(&Fault { nth: 3, ..Fault::next("cuMemAlloc_v2", OUT_OF_MEMORY) });
    has_problem(&doctor(&machine, 3), &["cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn it_says_why_a_gpu_is_not_visible() {
    let machine = Machine::with(|builder| builder.gpus(3));
    let diagnose = |list: &str| -> Value {
        let mut command = machine.program("doctor --json");
        let said = Running::start(command.env("CUDA_VISIBLE_DEVICES", list)).wait();
        serde_json::from_str(&said.stdout).unwrap()
    };
    let diagnosis = diagnose("2,7,0");
    let ids: Vec<&Value> = (0..3).map(|gpu| &diagnosis["gpus"][gpu]["gpu_id"]).collect();
    assert_eq!(ids, [&Value::Null, &Value::Null, &json!(0)]);
    let why = diagnosis["gpus"][0]["hidden_because"].as_str().unwrap();
    assert!(why.contains("CUDA_VISIBLE_DEVICES=2,7,0") && why.contains("`7`, which is no GPU"), "{why}");
    let diagnosis = diagnose("1,1");
    assert_eq!(diagnosis["is_healthy"], json!(false));
    let why = diagnosis["gpus"][1]["hidden_because"].as_str().unwrap();
    assert!(why.contains("names `1` twice"), "{why}");
}

#[test]
fn without_a_driver_it_still_tells_what_it_can() {
    let no_cuda = Machine::with(|builder| builder.without_cuda());
    let diagnosis = doctor(&no_cuda, 4);
    has_problem(&diagnosis, &["libcuda.so.1", "hint"]);
    assert!(diagnosis["driver_version"].is_string() && diagnosis["gpus"][1]["gpu_id"] == json!(1), "{diagnosis}");
    let no_nvml = Machine::with(|builder| builder.without_nvml());
    let diagnosis = doctor(&no_nvml, 0);
    assert!(diagnosis["notes"].to_string().contains("libnvidia-ml.so.1"), "{diagnosis}");
    assert!(diagnosis["gpus"][1]["trial"].is_object(), "{diagnosis}");
    let stub = Machine::with(|builder| builder.stub());
    has_problem(&doctor(&stub, 4), &["toolkit's stub", "LD_LIBRARY_PATH"]);
}

#[test]
fn a_runtime_directory_that_others_may_enter_is_a_problem() {
    let machine = Machine::new();
    fs::create_dir(machine.registry()).unwrap();
    fs::set_permissions(machine.registry(), fs::Permissions::from_mode(0o755)).unwrap();
    has_problem(&doctor(&machine, 1), &["runtime directory", "755"]);
}
