//! Loans that come to nothing: the holder was stopped, or one of both has no descriptor left for them.

use gpu_sim::GB;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::lending::told;
use super::whole;
use crate::harness::{CONTEXT, Machine, pid_of};

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
