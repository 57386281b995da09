//! `--handover vmm`: the job borrows the balloon's own memory, which is never free on the way.

use gpu_sim::{GB, MB, Script, Thief};
use rustix::process::{Pid, Signal, kill_process};

use super::allocators::probe;
use crate::harness::{CONTEXT, Machine, pid_of};

/// Holds 6 GB of a GPU of 8 GB for a job that has its context, and from which a thief has all else.
fn beside_a_thief(part: &str) -> (Machine, Script, Thief) {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = Script::start(machine.wrapped("--gpu 0 --reserve 6GB --handover vmm", part));
    job.must("ctx 0");
    let thief = thief(&machine, &job);
    (machine, job, thief)
}

/// From here on someone takes whatever is free. The balloon has given way to the job's context before.
fn thief(machine: &Machine, job: &Script) -> Thief {
    machine.wait_for("the context is accounted for", |state| state.used_by(0, job.pid()) == 6 * GB - CONTEXT);
    let thief = machine.thief(0, "spin");
    machine.wait_for("the thief has what was free", |state| state.used(0) > 8 * GB - 2 * MB);
    thief
}

/// How many pieces of 50 MB the job gets; the last answer is the driver's refusal.
fn take_all(job: &mut Script) -> Vec<String> {
    let mut pieces = Vec::new();
    loop {
        let answer = job.ask("alloc 50MB");
        match answer.strip_prefix("ok ") {
            Some(id) => pieces.push(id.trim().to_owned()),
            None => {
                assert!(answer.starts_with("error 2"), "{answer}");
                return pieces;
            }
        }
    }
}

#[test]
fn a_spinning_thief_gets_nothing_of_what_the_job_takes_and_frees() {
    let (machine, mut job, thief) = beside_a_thief("client");
    let before = machine.used_by(0, thief.pid());
    let first = take_all(&mut job);
    assert!(first.len() as u64 * 50 * MB > 6 * GB - CONTEXT - 50 * MB, "{} pieces", first.len());
    first.iter().for_each(|id| drop(job.must(&format!("free {id}"))));
    for _ in 0..2 {
        let again = take_all(&mut job);
        assert_eq!(again.len(), first.len());
        again.iter().for_each(|id| drop(job.must(&format!("free {id}"))));
    }
    assert_eq!(machine.used_by(0, thief.pid()) - before, 0, "bytes were stolen");
    assert!(job.end().success());
    machine.wait_for("nothing is left but the thief", |state| state.used(0) == state.used_by(0, thief.pid()));
}

#[test]
fn what_is_borrowed_is_memory_like_any_other() {
    let machine = Machine::with(|builder| builder.gpus(2));
    let mut job = probe(&machine, "--gpu 0,1 --reserve 4GB --handover vmm", "");
    for step in ["ctx 0", "alloc 0 50", "alloc 1 1"] {
        job.must(step);
    }
    assert_eq!(job.must("range 0"), "0 50", "one allocation, not pieces");
    assert_eq!(job.must("fill 0 77"), "77");
    assert_eq!(job.must("fill 1 9"), "9");
    assert_eq!(job.must("access 0 1"), "0");
    job.must("peer 1");
    assert_eq!(job.must("access 0 1"), "3", "what was there before");
    job.must("alloc 2 10");
    assert_eq!(job.must("access 2 1"), "3", "what came later");
    job.must("free 0");
    assert!(job.ask("free 0").starts_with("error 1"), "a second free is an error");
    assert!(job.ask("fill 0 1").starts_with("error"), "and so is a use after it");
}

#[test]
fn job_and_balloon_are_the_reservation_at_every_instant() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --handover vmm");
    job.must("ctx 0");
    machine.wait_for("the context is accounted for", |state| state.used(0) == 4 * GB);
    let mark = machine.mark(0);
    for _ in 0..3 {
        let id = job.must("alloc 1GB");
        let part = &machine.status()["balloons"][0]["gpus"][0];
        assert_eq!(part["handed_over_bytes"], GB + CONTEXT);
        assert_eq!(part["allocated_bytes"], 3 * GB - CONTEXT);
        job.must(&format!("free {id}"));
    }
    let (least, most) = machine.extremes(&mark, |_| true);
    assert_eq!((least, most), (4 * GB, 4 * GB));
}

#[test]
fn what_is_lent_is_shown_as_the_jobs() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --handover vmm");
    job.must("ctx 0");
    job.must("alloc 1GB");
    machine.wait_for("the context is accounted for", |state| state.used(0) == 4 * GB);
    let shown = machine.run("status").exits(0).stdout;
    assert!(shown.contains("your balloons 2.5 GB") && shown.contains("your processes 1.5 GB"), "{shown}");
    assert!(!shown.contains("others"), "{shown}");
}

#[test]
fn who_dies_leaves_its_loans_to_the_balloon_and_not_to_a_thief() {
    let client = gpu_sim::program().display().to_string();
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut command = machine.program("run --gpu 0 --reserve 6GB --handover vmm -- sh -c");
    // The first is killed with all that it borrowed; the second finds it again.
    command.arg(format!("{client} client; exec {client} client"));
    let mut job = Script::start(command);
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    let thief = thief(&machine, &job);
    job.must("alloc 5GB");
    let before = machine.used_by(0, thief.pid());
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL).expect("it runs");
    machine.wait_for("it is gone, and who was faster has its context", |state| {
        state.used_by(0, pid) == 0 && state.used(0) > 8 * GB - 2 * MB
    });
    let stolen = machine.used_by(0, thief.pid()) - before;
    assert!(stolen <= CONTEXT, "{stolen} bytes were stolen");
    let balloon = machine.used_by(0, job.pid());
    assert!(balloon >= 6 * GB - stolen - 2 * MB, "{balloon} bytes are left");
}

#[test]
fn a_context_that_ends_takes_its_loans_along() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB --handover vmm", "");
    for step in ["create_context 0", "alloc 0 1024", "destroy_context"] {
        job.must(step);
    }
    machine.wait_for("it is the balloon's", |state| state.used(0) == 4 * GB && state.used_by(0, job.pid()) == 4 * GB);
    assert_eq!(machine.status()["balloons"][0]["gpus"][0]["handed_over_bytes"], 0);
}

#[test]
fn chunks_that_are_far_too_large_are_not_lent() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 100MB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    job.must("alloc 10MB");
    assert_eq!(machine.used_by(0, pid), CONTEXT + 10 * MB, "it has memory of its own");
    job.must("alloc 300MB");
    assert_eq!(machine.used_by(0, pid), CONTEXT + 10 * MB, "and three chunks");
    machine.wait_for("job + balloon = reservation", |state| state.used(0) == 4 * GB);
}

#[test]
fn what_the_balloon_lacks_comes_from_the_driver() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 2GB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    job.must("alloc 1GB");
    assert_eq!(machine.used_by(0, pid), CONTEXT);
    job.must("alloc 3GB");
    assert_eq!(machine.used_by(0, pid), CONTEXT + 3 * GB);
    machine.wait_for("no balloon is left", |state| state.used(0) == CONTEXT + 4 * GB);
    job.must("free 1");
    machine.wait_for("job + balloon = reservation", |state| state.used(0) == 2 * GB);
}

#[test]
fn without_its_holder_the_job_keeps_what_it_borrowed() {
    let machine = Machine::new();
    let mut command = machine.program("run --gpu 0 --reserve 4GB --handover vmm -- sh -c");
    command.arg(format!("trap '' TERM; exec {} client", gpu_sim::program().display()));
    let mut job = Script::start(command);
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    job.must("alloc 1GB");
    kill_process(Pid::from_raw(job.pid().cast_signed()).expect("a pid"), Signal::KILL).expect("it runs");
    machine.wait_for("the balloon is gone", |state| state.used(0) == CONTEXT + GB);
    assert_eq!(machine.used_by(0, pid), CONTEXT + GB, "the last who has it");
    job.must("free 0");
    job.must("alloc 2GB");
    assert_eq!(machine.used_by(0, pid), CONTEXT + 2 * GB);
    assert!(job.ask("exit 0").is_empty());
}

#[test]
fn the_summary_counts_what_was_borrowed() {
    let machine = Machine::new();
    let mut command = machine.program("run --gpu 0 --reserve 4GB --handover vmm --summary --json -- sh -c");
    let client = gpu_sim::program().display().to_string();
    command.arg(format!(
        "printf 'ctx 0\\nalloc 1GB\\nalloc 512MB\\nfree 0\\nalloc 200MB\\n' | {client} client >/dev/null"
    ));
    let ended = crate::harness::Running::start(&mut command).wait().exits(0);
    let summary: serde_json::Value = serde_json::from_str(&ended.stderr).expect("JSON");
    let peak = summary["gpus"][0]["peak_bytes"].as_u64().expect("bytes");
    assert!(peak >= GB + 512 * MB, "{peak}");
}

#[test]
fn a_reservation_that_ends_leaves_the_loans_to_the_job() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --name train --handover vmm");
    job.must("ctx 0");
    job.must("alloc 1GB");
    machine.run("release train").exits(0);
    assert_eq!(machine.used(0), CONTEXT + GB);
    job.must("free 0");
    assert_eq!(machine.used(0), CONTEXT);
    assert!(job.end().success());
}

#[test]
fn a_resize_leaves_loans_alone() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --name train --handover vmm");
    job.must("ctx 0");
    job.must("alloc 2GB");
    machine.run("resize train 1GB").exits(0);
    machine.wait_for("only the job has some", |state| state.used(0) == CONTEXT + 2 * GB);
    job.must("free 0");
    machine.wait_for("what came home is too much", |state| state.used(0) == GB);
    machine.run("resize train 3GB").exits(0);
    assert_eq!(machine.used(0), 3 * GB);
    assert!(job.end().success());
    assert_eq!(machine.used(0), 0);
}
