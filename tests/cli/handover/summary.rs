//! `--summary`: what the job had, and what would have been right; and the reservation that ends before the job.

use gpu_sim::{GB, MB};
use rustix::process::{Pid, Signal, kill_process};

use super::{balloon, whole};
use crate::harness::{CONTEXT, Machine, Running};

/// The summary as JSON, of a job that does `steps`, each of which the balloon follows.
#[track_caller]
fn summary(machine: &Machine, options: &str, steps: &[&str]) -> serde_json::Value {
    let file = machine.runtime().join("summary.json");
    let mut job = machine.job(&format!("{options} --json --summary={}", file.display()));
    for step in steps {
        job.must(step);
    }
    // NVML tells of the context a moment later.
    whole(machine, 0, 4 * GB);
    assert!(job.end().success());
    let text = std::fs::read_to_string(file).expect("a summary");
    assert!(text.ends_with("}\n") && text.lines().count() == 1, "one line: {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn it_tells_the_peak_and_the_right_reservation() {
    let machine = Machine::new();
    let steps = ["ctx 0", "alloc 1GB", "alloc 200MB", "free 0", "alloc 100MB"];
    let summary = summary(&machine, "--gpu 0,1 --reserve 4GB,2GB", &steps);
    let gpus = summary["gpus"].as_array().expect("a list");
    let uuids = [0, 1].map(|gpu| machine.uuid_text(gpu));
    let number = |gpu: usize, name: &str| gpus[gpu][name].as_u64();
    assert_eq!(
        (gpus.len(), &gpus[0]["uuid"], &gpus[1]["uuid"]),
        (2, &uuids[0].clone().into(), &uuids[1].clone().into())
    );
    assert_eq!((number(0, "gpu_id"), number(1, "gpu_id")), (Some(0), Some(1)));
    assert_eq!((number(0, "reserved_bytes"), number(1, "reserved_bytes")), (Some(4 * GB), Some(2 * GB)));
    assert_eq!((number(0, "peak_bytes"), number(1, "peak_bytes")), (Some(CONTEXT + GB + 200 * MB), Some(0)));
    assert_eq!(number(0, "handed_over_bytes"), Some(CONTEXT + GB + 200 * MB));
    assert_eq!(number(0, "out_of_memory_retries"), Some(0));
    assert_eq!(number(0, "right_reserve_bytes"), Some(CONTEXT + GB + 200 * MB));
    assert_eq!(gpus[1]["right_reserve_bytes"], serde_json::Value::Null);
    assert_eq!(summary["right_reserve"], serde_json::Value::Null, "not every GPU was used");
}

/// The summary as JSON, of a job that runs each of these scripts in a process of its own, and ends at once.
#[track_caller]
fn summary_of_a_short_job(machine: &Machine, options: &str, scripts: &[&str]) -> serde_json::Value {
    let client = gpu_sim::program().display().to_string();
    let mut command = machine.program(&format!("run {options} --json --summary -- sh -c"));
    let lines = scripts.iter().map(|script| format!("printf '{script}' | {client} client >/dev/null"));
    command.arg(lines.collect::<Vec<_>>().join("; "));
    let said = Running::start(&mut command).wait().exits(0);
    serde_json::from_str(&said.stderr).expect("JSON")
}

const SHORT: &str = "ctx 0\\nalloc 1GB\\n";

#[test]
fn a_job_that_ends_at_once_has_its_context_counted() {
    let machine = Machine::new();
    for options in ["--reserve 4GB", "--reserve 4GB --chunk-size 64MB --handover vmm"] {
        for scripts in [&[SHORT][..], &["ctx 0\\n", SHORT, "ctx 0\\nalloc 500MB\\n"]] {
            let summary = summary_of_a_short_job(&machine, options, scripts);
            let gpu = &summary["gpus"][0];
            assert_eq!(gpu["peak_bytes"], CONTEXT + GB, "{summary}");
            assert_eq!((&gpu["is_estimated"], &summary["right_reserve"]), (&false.into(), &"1524MB".into()));
        }
    }
}

#[test]
fn a_context_of_which_nobody_tells_counts_as_much_as_one_takes_as_a_rule() {
    let machine = Machine::new();
    let blind = Machine::with(|builder| builder.without_nvml());
    for (machine, options) in [(&machine, "--handover preload"), (&blind, "--handover auto")] {
        let options = format!("--gpu 0,1 --reserve 4GB {options}");
        let summary = summary_of_a_short_job(machine, &options, &[SHORT, "ctx 0\\n"]);
        let gpu = &summary["gpus"][0];
        assert_eq!((&gpu["peak_bytes"], &gpu["is_estimated"]), (&(GB + 528 * MB).into(), &true.into()), "{summary}");
        let unused = &summary["gpus"][1];
        assert_eq!((&unused["peak_bytes"], &unused["is_estimated"]), (&0.into(), &false.into()), "{summary}");
    }
    let said = machine.run("run --reserve 1GB --handover preload --summary -- true").exits(0);
    said.says(&["GPU 0: peak 0 B of"]);
}

#[test]
fn a_few_looks_at_a_job_tell_no_peak() {
    let machine = Machine::new();
    for script in ["", SHORT] {
        let summary = summary_of_a_short_job(&machine, "--reserve 4GB --handover nvml", &[script]);
        assert_eq!(summary["gpus"][0]["peak_bytes"], serde_json::Value::Null, "{summary}");
        assert_eq!(summary["right_reserve"], serde_json::Value::Null, "{summary}");
    }
}

#[test]
fn many_looks_at_a_job_tell_its_peak() {
    let machine = Machine::new();
    let file = machine.runtime().join("summary.json");
    let options = format!("--reserve 4GB --handover nvml --json --summary={}", file.display());
    let mut job = machine.job(&options);
    job.must("ctx 0");
    job.must("alloc 1GB");
    // What it takes to be sure is how long it was looked at.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(job.end().success());
    let summary: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(summary["gpus"][0]["peak_bytes"], CONTEXT + GB, "{summary}");
}

#[test]
fn a_reservation_of_what_it_suggests_is_enough_on_a_full_gpu() {
    let steps = ["ctx 0", "alloc 1GB", "alloc 700MB"];
    let summary = summary(&Machine::new(), "--gpu 0 --reserve 4GB", &steps);
    let suggested = summary["right_reserve"].as_str().expect("a suggestion");
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = machine.job(&format!("--gpu 0 --reserve {suggested}"));
    job.must("pid");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    for step in steps {
        job.must(step);
    }
}

#[test]
fn retries_on_a_full_gpu_are_counted() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let file = machine.runtime().join("summary.json");
    let mut job = machine.job(&format!("--gpu 0 --reserve 6GB --json --summary={}", file.display()));
    job.must("pid");
    let others = machine.occupy(0, 8 * GB - machine.used(0));
    job.must("ctx 0");
    job.must("alloc 1GB");
    assert!(job.ask("alloc 20GB").starts_with("error 2"));
    drop(others);
    assert!(job.end().success());
    let summary: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let retries = summary["gpus"][0]["out_of_memory_retries"].as_u64();
    assert_eq!(retries, Some(2), "one for the context, one for the allocation; what cannot be had is no retry");
}

#[test]
fn without_a_file_it_goes_to_standard_error_and_stdout_is_the_commands() {
    let machine = Machine::new();
    let said = machine.run("run --gpu 0 --reserve 1GB --summary -- echo hello").exits(0);
    assert_eq!(said.stdout, "hello\n");
    assert_eq!(
        said.stderr,
        "gpu-balloon: summary of echo hello\n  GPU 0: peak 0 B of 1.0 GB reserved, 0 B handed over, out of memory and \
         retried 0 times\n  not every GPU was used\n"
    );
}

#[test]
fn a_summary_that_cannot_be_written_is_not_lost_and_changes_nothing_else() {
    let machine = Machine::new();
    for (file, why) in [("/no/such/place", "No such file"), ("/dev/full", "No space left"), ("/", "Is a directory")] {
        let said = machine.run(&format!("run --gpu 0 --reserve 1GB --summary={file} -- sh -c")).exits(2);
        let told = format!("gpu-balloon: cannot write the summary to {file}: {why}");
        said.says(&[&told, "\ngpu-balloon: summary of sh -c\n", "GPU 0: peak 0 B"]);
    }
}

#[test]
fn the_reservation_may_end_before_the_job() {
    let machine = Machine::new();
    for end in ["release train", "timeout"] {
        let timeout = if end == "timeout" { "--timeout 300ms" } else { "" };
        let mut job = machine.job(&format!("--gpu 0 --reserve 4GB --name train {timeout}"));
        job.must("ctx 0");
        job.must("alloc 1GB");
        if end != "timeout" {
            machine.run(end).exits(0);
        }
        machine.wait_for("only the job's memory is left", |state| state.used(0) == CONTEXT + GB);
        job.must("alloc 2GB");
        job.must("free 0");
        assert_eq!(job.must("info"), format!("free {} total {}", 22 * GB - CONTEXT, 24 * GB), "the driver's word");
        assert!(job.end().success());
    }
}

#[test]
fn a_part_that_is_released_leaves_the_other_gpu_as_it_is() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0,1 --reserve 4GB --name train");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    machine.run("release train --gpu 0").exits(0);
    machine.wait_for("the part is free", |state| state.used(0) == CONTEXT + GB);
    job.must("alloc 1GB");
    job.must("info");
    job.must("ctx 1");
    job.must("alloc 1GB");
    whole(&machine, 1, 4 * GB);
    assert_eq!(balloon(&machine, 1, &job), 3 * GB - CONTEXT);
}

#[test]
fn grandchildren_that_live_on_are_said() {
    let machine = Machine::new();
    let client = gpu_sim::program().display().to_string();
    let script = format!("{client} client </dev/null >/dev/null 2>&1; sleep 1000 >/dev/null 2>&1 & echo $!");
    let mut command = machine.program("-v run --gpu 0 --reserve 1GB -- sh -c");
    let said = Running::start(command.arg(script)).wait().exits(0);
    let pid: i32 = said.stdout.trim().parse().expect("a pid");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    said.says(&["lives on", &format!("pid={pid}")]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn of_a_job_that_nobody_follows_no_peak_is_told() {
    let machine = Machine::new();
    for (json, told) in [("", "GPU 0: peak not known of 1.0 GB reserved"), ("--json", "\"peak_bytes\":null")] {
        let said = machine.run(&format!("run --reserve 1GB --handover off --summary {json} -- true")).exits(0);
        assert!(!said.stderr.contains("not every GPU was used"), "{}", said.stderr);
        said.says(&[told]);
    }
}
