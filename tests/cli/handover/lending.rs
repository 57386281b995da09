//! The job borrows the balloon's own memory, which is never free on the way: when others are faster, and with
//! `--handover vmm` always.

use gpu_sim::{GB, MB, Script, Thief};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::allocators::probe;
use super::{balloon, whole};
use crate::harness::{CONTEXT, Machine, pid_of};

/// What is kept free for the driver, once, where the job does not borrow from the first on.
const HEADROOM: u64 = 64 * MB;

/// What a chunk measures unless told.
const CHUNK: u64 = 100 * MB;

/// Holds 6 GB of a GPU of 8 GB for a job that has its context, and from which a thief has all else.
fn beside_a_thief(options: &str) -> (Machine, Script, Thief) {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = machine.job(&format!("--gpu 0 --reserve 6GB {options}"));
    job.must("ctx 0");
    let thief = thief(&machine, &job);
    (machine, job, thief)
}

/// From here on someone takes whatever is free. The balloon has given way to the job's context before.
fn thief(machine: &Machine, job: &Script) -> Thief {
    machine.wait_for("the context is accounted for", |state| state.used_by(0, job.pid()) == 6 * GB);
    let thief = machine.thief(0, "spin");
    machine.wait_for("the thief has what was free", |state| state.used(0) > 8 * GB - 2 * MB);
    thief
}

/// What `status` tells of the balloon, once its holder has heard all that the job had to say: its view of the memory comes
/// from there.
fn told(machine: &Machine, job: &mut Script) -> serde_json::Value {
    job.must("info");
    machine.status()["balloons"][0]["gpus"][0].clone()
}

/// Pieces of 50 MB until the driver refuses one.
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

fn free_all(job: &mut Script, pieces: &[String]) {
    for id in pieces {
        job.must(&format!("free {id}"));
    }
}

#[test]
fn a_spinning_thief_gets_nothing_of_what_the_job_takes_and_frees() {
    let (machine, mut job, thief) = beside_a_thief("--handover vmm");
    let before = machine.used_by(0, thief.pid());
    let first = take_all(&mut job);
    assert!(first.len() as u64 * 50 * MB > 6 * GB - CONTEXT - 50 * MB, "{} pieces", first.len());
    free_all(&mut job, &first);
    for _ in 0..2 {
        let again = take_all(&mut job);
        assert_eq!(again.len(), first.len());
        free_all(&mut job, &again);
    }
    assert_eq!(machine.used_by(0, thief.pid()) - before, 0, "bytes were stolen");
    assert!(job.end().success());
    machine.wait_for("nothing is left but the thief", |state| state.used(0) == state.used_by(0, thief.pid()));
}

#[test]
fn who_was_faster_once_gets_no_more() {
    let (machine, mut job, thief) = beside_a_thief("");
    // A race may be won; the first that is lost is the last.
    let pieces = take_all(&mut job);
    let stolen = machine.used_by(0, thief.pid()) + 6 * GB + CONTEXT - 8 * GB;
    assert!(stolen <= 2 * CHUNK, "{stolen} bytes were stolen");
    let got = pieces.len() as u64 * 50 * MB;
    assert!(got > 6 * GB - CONTEXT - stolen - 2 * 50 * MB, "{got} bytes of memory and {stolen} stolen");
    let before = machine.used_by(0, thief.pid());
    let last = pieces.len() - 1;
    for _ in 0..10 {
        job.must(&format!("free {}", pieces[last]));
        if job.ask("alloc 50MB").starts_with("ok") {
            break;
        }
    }
    let stolen = machine.used_by(0, thief.pid()) - before;
    assert!(stolen <= HEADROOM, "what was borrowed comes back, but {stolen} bytes were stolen");
}

#[test]
fn what_pools_do_not_get_is_borrowed_and_freed_in_the_order_of_the_stream() {
    for streams in ["", "ptsz"] {
        let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
        let mut job = probe(&machine, "--gpu 0 --reserve 6GB", streams);
        job.must("ctx 0");
        let thief = thief(&machine, &job);
        for number in 0..20 {
            job.must(&format!("async {number} 200"));
        }
        let stolen = machine.used_by(0, thief.pid()) + 6 * GB + CONTEXT - 8 * GB;
        assert!(stolen <= 3 * CHUNK, "{stolen} bytes were stolen");
        assert_eq!(job.must("fill 19 5"), "5");
        for number in 0..20 {
            job.must(&format!("free_async {number}"));
        }
        job.must("sync");
        assert!(job.ask("free_async 19").starts_with("error 1"), "a second free is an error");
        assert!(job.end().success());
    }
}

#[test]
fn a_chunk_of_the_right_size_is_lent_as_a_handle() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = probe(&machine, "--gpu 0 --reserve 6GB --chunk-size 64MB --handover vmm", "");
    job.must("ctx 0");
    let thief = thief(&machine, &job);
    let take_all = |job: &mut Script| {
        let mut count = 0;
        while job.ask(&format!("create {count} 64")).starts_with("ok") {
            job.must(&format!("reserve {} 64", 1000 + count));
            job.must(&format!("map {} {count} 64", 1000 + count));
            job.must(&format!("release {count}"));
            count += 1;
        }
        count
    };
    let before = machine.used_by(0, thief.pid());
    let count = take_all(&mut job);
    assert!(count * 64 * MB > 6 * GB - CONTEXT - 2 * 64 * MB, "{count} handles");
    for number in 0..count {
        job.must(&format!("unmap {} 64", 1000 + number));
    }
    assert_eq!(take_all(&mut job), count, "they are there again");
    assert_eq!(machine.used_by(0, thief.pid()), before, "nothing was stolen");
}

#[test]
fn a_chunk_of_another_size_is_made_of_others_where_nobody_is_faster() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = probe(&machine, "--gpu 0 --reserve 6GB --handover vmm", "");
    let pid = job.must("pid").parse().expect("a pid");
    job.must("ctx 0");
    machine.wait_for("the context is accounted for", |state| state.used_by(0, job.pid()) == 6 * GB);
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    for (thing, size) in [(0, 64), (1, 20), (2, 350), (3, 2)] {
        job.must(&format!("create {thing} {size}"));
    }
    assert_eq!(machine.used_by(0, pid), CONTEXT, "all are the balloon's");
    assert_eq!(machine.used_by(0, job.pid()), 6 * GB, "and it is as large as before");
    for thing in 0..4 {
        job.must(&format!("release {thing}"));
    }
    assert!(job.end().success());
}

#[test]
fn handles_are_borrowed_as_frameworks_ask_for_them() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm", "");
    let pid = job.must("pid").parse().expect("a pid");
    job.must("ctx 0");
    job.must("create 0 64");
    // PyTorch's expandable segments.
    job.must("create_rdma 1 64");
    assert_eq!(machine.used_by(0, pid), CONTEXT, "both are the balloon's");
}

#[test]
fn what_is_borrowed_is_memory_like_any_other() {
    let machine = Machine::with(|builder| builder.gpus(2));
    let mut job = probe(&machine, "--gpu 0,1 --reserve 4GB --handover vmm", "");
    for step in ["ctx 0", "alloc 0 150", "alloc 1 1", "alloc 2 30"] {
        job.must(step);
    }
    assert_eq!(job.must("range 0"), "0 150", "one allocation, not pieces");
    assert_eq!(job.must("range 2"), "0 30", "a part of a piece");
    for (thing, value) in [(0, 77), (1, 9), (2, 200)] {
        assert_eq!(job.must(&format!("fill {thing} {value}")), value.to_string());
    }
    assert_eq!(job.must("access 0 1"), "0");
    job.must("peer 1");
    assert_eq!(job.must("access 0 1"), "3", "what was there before");
    job.must("alloc 3 500");
    assert_eq!(job.must("access 3 1"), "3", "what came later");
    job.must("free 0");
    assert!(job.ask("free 0").starts_with("error 1"), "a second free is an error");
    assert!(job.ask("fill 0 1").starts_with("error"), "and so is a use after it");
    assert_eq!(job.must("fill 2 1"), "1", "the others stay");
}

#[test]
fn job_and_balloon_are_the_reservation_at_every_instant() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm");
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    let mark = machine.mark(0);
    for _ in 0..3 {
        let id = job.must("alloc 1GB");
        let part = told(&machine, &mut job);
        assert_eq!(part["handed_over_bytes"], GB + CONTEXT);
        assert_eq!(part["allocated_bytes"], 3 * GB - CONTEXT);
        assert_eq!(part["overhead_bytes"], CONTEXT, "the job's is not the holder's");
        job.must(&format!("free {id}"));
    }
    assert_eq!(machine.extremes(&mark, |_| true), (4 * GB + CONTEXT, 4 * GB + CONTEXT));
}

#[test]
fn pieces_are_shared_by_small_allocations_and_go_with_the_last() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    let lent = |job: &mut Script| told(&machine, job)["handed_over_bytes"].as_u64().expect("bytes") - CONTEXT;
    let mut taken = 0;
    let mut take = |job: &mut Script, size: u64| {
        taken += size;
        let id = job.must(&format!("alloc {}MB", size / MB));
        let lent = lent(job);
        assert!((taken..taken + CHUNK).contains(&lent), "{lent} for {taken}");
        id
    };
    let small: Vec<String> = (0..30).map(|_| take(&mut job, 10 * MB)).collect();
    let large = take(&mut job, 350 * MB);
    assert_eq!(machine.used_by(0, pid), CONTEXT, "none of it is the job's own");
    free_all(&mut job, &small);
    let still = lent(&mut job);
    assert!((350 * MB..350 * MB + 2 * CHUNK).contains(&still), "{still}");
    job.must(&format!("free {large}"));
    assert_eq!(lent(&mut job), 0);
}

#[test]
fn what_is_lent_is_shown_as_the_jobs() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    told(&machine, &mut job);
    let shown = machine.run("status").exits(0).stdout;
    assert!(shown.contains("your balloons 2.5 GB") && shown.contains("your processes 1.5 GB"), "{shown}");
    assert!(shown.contains("500.0 MB overhead") && !shown.contains("others"), "{shown}");
}

#[test]
fn who_dies_leaves_its_loans_to_the_balloon_and_not_to_a_thief() {
    let client = gpu_sim::program().display().to_string();
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut command = machine.program("run --gpu 0 --reserve 6GB --handover vmm -- sh -c");
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
    let left = balloon(&machine, 0, &job);
    assert!(left >= 6 * GB - stolen - 2 * MB, "{left} bytes are left");
}

#[test]
fn a_context_that_ends_takes_its_loans_along() {
    let machine = Machine::new();
    let mut job = probe(&machine, "--gpu 0 --reserve 4GB --handover vmm", "");
    for step in ["create_context 0", "alloc 0 1024", "alloc 1 10", "destroy_context"] {
        job.must(step);
    }
    machine.wait_for("it is the balloon's", |state| state.used_by(0, job.pid()) == 4 * GB + CONTEXT);
    job.must("ctx 0");
    let handed_over = told(&machine, &mut job)["handed_over_bytes"].as_u64().expect("bytes");
    assert!(handed_over <= CONTEXT, "{handed_over}");
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
    machine.wait_for("no balloon is left beside the loan", |state| {
        (CONTEXT + 4 * GB..CONTEXT + 4 * GB + CHUNK).contains(&(state.used(0) - CONTEXT))
    });
    job.must("free 1");
    whole(&machine, 0, 2 * GB);
}

#[test]
fn without_its_holder_the_job_keeps_what_it_borrowed() {
    let machine = Machine::new();
    let mut command = machine.program("run --gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm -- sh -c");
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
fn what_is_lent_too_late_to_be_taken_comes_back() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm");
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    let holder = Pid::from_raw(job.pid().cast_signed()).expect("a pid");
    kill_process(holder, Signal::STOP).expect("it runs");
    // From the driver, once the holder's answer is overdue. It hears of all that when it goes on.
    job.must("alloc 1GB");
    kill_process(holder, Signal::CONT).expect("it is stopped");
    assert_eq!(told(&machine, &mut job)["handed_over_bytes"], GB + CONTEXT);
    job.must("alloc 1GB");
    assert_eq!(told(&machine, &mut job)["handed_over_bytes"], 2 * GB + CONTEXT, "and loans go on");
}

/// Leaves a process as many descriptors to open; `None` leaves it as many as it may have. Returns those that it has.
fn leave_descriptors(pid: u32, count: Option<usize>) -> Vec<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let mut open: Vec<u64> =
        entries.map(|entry| entry.expect("readable").file_name().to_str().unwrap().parse().unwrap()).collect();
    open.sort_unstable();
    let current = count.map(|count| (0..).filter(|number| !open.contains(number)).nth(count).expect("one"));
    let ours = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: current.or(ours.current), ..ours };
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, limit).expect("the limit of a child");
    open
}

#[test]
fn whoever_has_no_descriptor_left_borrows_nothing_and_owes_nothing() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 8GB --chunk-size 64MB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    whole(&machine, 0, 8 * GB);
    let mut taken = CONTEXT;
    for left in [0, 1] {
        let before = leave_descriptors(pid, Some(left));
        job.must("alloc 1GB");
        taken += GB;
        assert_eq!(leave_descriptors(pid, None), before);
        assert_eq!(machine.used_by(0, pid), taken, "with {left} descriptors it comes from the driver");
        assert_eq!(told(&machine, &mut job)["handed_over_bytes"], taken, "with {left} descriptors");
    }
    job.must("alloc 1GB");
    assert_eq!(machine.used_by(0, pid), taken);
    assert_eq!(told(&machine, &mut job)["handed_over_bytes"], taken + GB, "and loans go on");
}

#[test]
fn what_cannot_be_given_back_for_want_of_a_descriptor_comes_home_later() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    job.must("alloc 1GB");
    leave_descriptors(pid, Some(0));
    job.must("free 0");
    job.must("alloc 1GB");
    job.must("free 1");
    leave_descriptors(pid, None);
    job.must("alloc 512MB");
    assert_eq!(told(&machine, &mut job)["handed_over_bytes"], GB / 2 + CONTEXT, "the rest is the balloon's");
    job.must("free 2");
    assert_eq!(told(&machine, &mut job)["handed_over_bytes"], CONTEXT);
}

/// What a process has had of a CPU so far, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("as in proc(5)");
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_holder_that_has_no_descriptor_left_waits_for_one_asleep() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    leave_descriptors(job.pid(), Some(0));
    let before = ticks(job.pid());
    // From the driver, once the holder's answer is overdue.
    job.must("alloc 1GB");
    let busy = ticks(job.pid()) - before;
    assert!(busy < 20, "{busy} ticks");
    assert_eq!(machine.used_by(0, pid), CONTEXT + GB);
    leave_descriptors(job.pid(), None);
    assert_eq!(told(&machine, &mut job)["handed_over_bytes"], GB + CONTEXT, "it has heard all of it");
}

#[test]
fn the_summary_counts_what_was_borrowed() {
    let machine = Machine::new();
    let mut command = machine.program("run --gpu 0 --reserve 4GB --handover vmm --summary --json -- sh -c");
    let client = gpu_sim::program().display().to_string();
    let script = "ctx 0\\nalloc 1GB\\nalloc 512MB\\nfree 0\\nalloc 200MB\\n";
    command.arg(format!("printf '{script}' | {client} client >/dev/null"));
    let ended = crate::harness::Running::start(&mut command).wait().exits(0);
    let summary: serde_json::Value = serde_json::from_str(&ended.stderr).expect("JSON");
    let peak = summary["gpus"][0]["peak_bytes"].as_u64().expect("bytes");
    assert!((GB + 512 * MB..GB + 512 * MB + CONTEXT + CHUNK).contains(&peak), "{peak}");
}

#[test]
fn a_reservation_that_ends_leaves_the_loans_to_the_job() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --name train --handover vmm");
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
    let mut job = machine.job("--gpu 0 --reserve 4GB --chunk-size 64MB --name train --handover vmm");
    job.must("ctx 0");
    job.must("alloc 2GB");
    machine.run("resize train 1GB").exits(0);
    machine.wait_for("only the job has some", |state| state.used(0) == CONTEXT + CONTEXT + 2 * GB);
    job.must("free 0");
    machine.wait_for("what came home is too much", |state| state.used(0) == CONTEXT + GB);
    machine.run("resize train 3GB").exits(0);
    assert_eq!(machine.used(0), CONTEXT + 3 * GB);
    assert!(job.end().success());
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_driver_that_shares_no_memory_is_asked_for_it_in_the_ordinary_way() {
    let machine = Machine::new();
    for _ in ["with RDMA", "without"] {
        machine.inject(&gpu_sim::Fault::next("cuMemCreate", 801));
    }
    let mut job = machine.job("--gpu 0 --reserve 4GB --handover vmm");
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    job.must("alloc 1GB");
    assert_eq!(machine.used_by(0, pid), CONTEXT + GB);
    whole(&machine, 0, 4 * GB);
}
