//! The handover: the balloon gives way exactly as the job grows, and never makes it fail.

mod allocators;
mod cudarc;
mod full;
mod lending;
mod others;
mod processes;
mod strain;
mod summary;
mod turns;
mod views;
mod waiters;

use gpu_sim::{GB, MB, Script};

use crate::harness::{CONTEXT, Machine, pid_of};

/// Waits until job and balloon are the reservation again, beside the holder's own context.
#[track_caller]
fn whole(machine: &Machine, gpu: usize, reservation: u64) {
    machine.wait_for("job + balloon = reservation", |state| state.used(gpu) == reservation + CONTEXT);
}

#[track_caller]
fn balloon(machine: &Machine, gpu: usize, wrapper: &Script) -> u64 {
    machine.used_by(gpu, wrapper.pid()).saturating_sub(CONTEXT)
}

#[test]
fn the_balloon_follows_the_job_however_that_finds_the_driver() {
    for lookup in ["dlsym", "proc", "linked"] {
        let machine = Machine::new();
        let mut job = Script::start(machine.wrapped("--gpu 0 --reserve 4GB", &format!("client --lookup {lookup}")));
        let pid = pid_of(&mut job);
        assert_eq!(balloon(&machine, 0, &job), 4 * GB, "{lookup}: CMD starts when everything is held");
        job.must("ctx 0");
        whole(&machine, 0, 4 * GB);
        let first = job.must("alloc 1GB");
        whole(&machine, 0, 4 * GB);
        assert_eq!(machine.used_by(0, pid), CONTEXT + GB);
        assert_eq!(balloon(&machine, 0, &job), 3 * GB - CONTEXT, "{lookup}");
        let second = job.must("alloc 300MB");
        job.must(&format!("free {first}"));
        whole(&machine, 0, 4 * GB);
        assert_eq!(balloon(&machine, 0, &job), 4 * GB - CONTEXT - 300 * MB, "{lookup}");
        job.must("alloc 2GB");
        job.must(&format!("free {second}"));
        whole(&machine, 0, 4 * GB);
        assert!(job.end().success());
        assert_eq!(machine.used(0), 0);
    }
}

#[test]
fn a_job_that_outgrows_the_reservation_goes_on_in_free_memory() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 2GB");
    job.must("ctx 0");
    job.must("alloc 5GB");
    machine.wait_for("no balloon is left", |state| state.used(0) == CONTEXT + CONTEXT + 5 * GB);
    job.must("free 0");
    whole(&machine, 0, 2 * GB);
}

#[test]
fn on_two_gpus_each_balloon_follows_its_own() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0,1 --reserve 4GB,6GB");
    job.must("ctx 1");
    job.must("alloc 1GB");
    whole(&machine, 1, 6 * GB);
    assert_eq!(balloon(&machine, 0, &job), 4 * GB);
    assert_eq!(balloon(&machine, 1, &job), 5 * GB - CONTEXT);
    job.must("ctx 0");
    job.must("alloc 2GB");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 2 * GB - CONTEXT);
}

#[test]
fn a_crash_in_the_middle_releases_everything() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    assert_eq!(job.ask("crash"), "");
    let status = job.end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "it dies as the job did");
    assert_eq!(machine.used(0), 0);
}

#[test]
fn what_a_process_held_that_has_ended_is_the_balloons_again() {
    let machine = Machine::new();
    let client = gpu_sim::program().display().to_string();
    let mut command = machine.program("run --gpu 0 --reserve 4GB -- sh -c");
    // The first ends with the memory still allocated; the second finds the whole reservation.
    command.arg(format!("printf 'ctx 0\\nalloc 3GB\\n' | {client} client >/dev/null; exec {client} client"));
    let mut job = Script::start(command);
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 4 * GB - CONTEXT);
}

#[test]
fn a_reset_context_takes_its_memory_along() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    job.must("release 0");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 4 * GB);
}

#[test]
fn status_shows_live_what_was_handed_over() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    let part = &machine.status()["balloons"][0]["gpus"][0];
    assert_eq!(part["handed_over_bytes"], GB + CONTEXT);
    assert_eq!(part["allocated_bytes"], 3 * GB - CONTEXT);
    assert_eq!(part["target_bytes"], 4 * GB);
}

#[test]
fn a_resize_is_of_job_and_balloon_together() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --name train");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    machine.run("resize train 6GB").exits(0);
    whole(&machine, 0, 6 * GB);
    machine.run("resize train 2GB").exits(0);
    whole(&machine, 0, 2 * GB);
    job.must("free 0");
    whole(&machine, 0, 2 * GB);
}

#[test]
fn off_keeps_the_balloon_beside_the_job() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --handover off");
    job.must("ctx 0");
    job.must("alloc 1GB");
    assert_eq!(balloon(&machine, 0, &job), 4 * GB);
}

#[test]
fn nvml_alone_follows_too() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 4GB --handover nvml");
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    job.must("free 0");
    whole(&machine, 0, 4 * GB);
}
