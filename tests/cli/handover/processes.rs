//! Jobs of several processes: forks, ranks, processes that are stopped, killed, or replaced.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use gpu_sim::{GB, MB, Script};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::allocators::uninitialised;
use super::{balloon, whole};
use crate::harness::{CONTEXT, DEADLINE, Machine, PROGRAM, Running, pid_of};

#[test]
fn a_forked_child_counts_for_itself() {
    let machine = Machine::new();
    let mut job = uninitialised(&machine, "--gpu 0 --reserve 4GB", "");
    // CUDA does not survive a fork, so the child comes first.
    assert_eq!(job.must("fork"), "child");
    for step in ["init", "ctx 0", "alloc 0 512"] {
        job.must(step);
    }
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 4 * GB - CONTEXT - 512 * MB);
    assert_eq!(job.must("exit 0"), "joined");
    for step in ["init", "ctx 0", "alloc 0 1024"] {
        job.must(step);
    }
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 3 * GB - CONTEXT);
    // A child that does not use CUDA takes nothing along when it ends.
    assert_eq!(job.must("fork"), "child");
    assert!(job.ask("free 0").starts_with("error"));
    assert_eq!(job.must("exit 0"), "joined");
    job.must("alloc 1 1024");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 2 * GB - CONTEXT);
}

/// Ranks started by one shell, each with a pipe of its own to the test.
struct Ranks {
    _wrapper: Running,
    wrapper: u32,
    ranks: Vec<Running>,
}

impl Ranks {
    /// `count` processes under one `run`: each is started by the test in the job's own environment.
    fn start(machine: &Machine, options: &str, count: usize) -> Self {
        let mut command = machine.program(&format!("run {options} -- sh -c"));
        // The environment that CMD has; then it waits for its end.
        command.arg("tr '\\0' '\\n' < /proc/self/environ; echo END; exec sleep 1000");
        let mut wrapper = Running::start(&mut command);
        let mut environment = Vec::new();
        loop {
            match wrapper.line() {
                line if line == "END" => break,
                line => environment.push(line),
            }
        }
        let rank = || {
            let mut command = Command::new(gpu_sim::program());
            let pairs = environment.iter().filter_map(|entry| entry.split_once('='));
            Running::start(command.arg("client").env_clear().envs(pairs))
        };
        let ranks = (0..count).map(|_| rank()).collect();
        Self { wrapper: wrapper.pid(), _wrapper: wrapper, ranks }
    }

    #[track_caller]
    fn must(&mut self, rank: usize, request: &str) -> String {
        self.ranks[rank].say(request);
        let answer = self.ranks[rank].line();
        assert!(answer.starts_with("ok"), "rank {rank}: {request}: {answer}");
        answer.trim_start_matches("ok").trim().to_owned()
    }
}

#[test]
fn four_ranks_on_two_gpus() {
    let machine = Machine::new();
    let mut ranks = Ranks::start(&machine, "--gpu 0,1 --reserve 12GB", 4);
    for rank in 0..4 {
        ranks.must(rank, &format!("ctx {}", rank % 2));
        ranks.must(rank, "alloc 1GB");
    }
    for gpu in [0, 1] {
        whole(&machine, gpu, 12 * GB);
        assert_eq!(machine.used_by(gpu, ranks.wrapper), 12 * GB - 2 * GB - 2 * CONTEXT + CONTEXT);
    }
    ranks.must(2, "free 0");
    whole(&machine, 0, 12 * GB);
    // One dies in the middle.
    let pid = Pid::from_raw(ranks.ranks[3].pid().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    ranks.ranks[3].wait();
    whole(&machine, 1, 12 * GB);
    assert_eq!(machine.used_by(1, ranks.wrapper), 12 * GB - GB - CONTEXT + CONTEXT);
}

#[test]
fn ranks_that_need_memory_at_the_same_time_all_get_theirs() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(16 * GB));
    let mut ranks = Ranks::start(&machine, "--gpu 0 --reserve 14GB", 4);
    let _others = machine.occupy(0, 16 * GB - machine.used(0));
    for rank in 0..4 {
        ranks.must(rank, "ctx 0");
    }
    for _ in 0..5 {
        // All ask before any is answered.
        for rank in &mut ranks.ranks {
            rank.say("alloc 500MB");
        }
        for rank in &mut ranks.ranks {
            let answer = rank.line();
            assert!(answer.starts_with("ok"), "{answer}");
        }
    }
}

#[test]
fn a_stopped_process_keeps_what_it_has_and_stops_nobody() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(16 * GB));
    let mut ranks = Ranks::start(&machine, "--gpu 0 --reserve 14GB", 2);
    let _others = machine.occupy(0, 16 * GB - machine.used(0));
    for rank in 0..2 {
        ranks.must(rank, "ctx 0");
        ranks.must(rank, "alloc 1GB");
    }
    ranks.ranks[0].signal(Signal::STOP);
    ranks.must(1, "alloc 2GB");
    ranks.ranks[0].signal(Signal::CONT);
    ranks.must(0, "alloc 2GB");
}

#[test]
fn a_child_that_is_forked_during_a_turn_does_not_prolong_it() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut command = machine.program("run --gpu 0 --reserve 6GB -- python3 -c");
    command.arg(include_str!("clients/forks.py"));
    let mut job = Script::start(command);
    job.must("alloc");
    whole(&machine, 0, 6 * GB);
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    let holder = Pid::from_raw(job.pid().cast_signed()).unwrap();
    kill_process(holder, Signal::STOP).unwrap();
    job.must("fork");
    kill_process(holder, Signal::CONT).unwrap();
    job.must("join");
    let start = Instant::now();
    job.must("alloc");
    assert!(start.elapsed() < Duration::from_secs(4), "it has waited for the end of the turn: {:?}", start.elapsed());
}

#[test]
fn a_program_that_replaces_itself_leaves_its_memory_to_the_balloon() {
    let machine = Machine::new();
    let client = gpu_sim::program().display().to_string();
    let script = "import ctypes, os, sys\n\
        cuda = ctypes.CDLL('libcuda.so.1')\n\
        context, address = ctypes.c_void_p(), ctypes.c_uint64()\n\
        steps = [cuda.cuInit(0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)]\n\
        steps += [cuda.cuCtxSetCurrent(context), cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(3 << 30))]\n\
        assert steps == [0, 0, 0, 0], steps\n\
        os.execv(sys.argv[1], [sys.argv[1], 'client'])\n";
    let mut command = machine.program("run --gpu 0 --reserve 4GB -- python3 -c");
    command.arg(script).arg(client);
    let mut job = Script::start(command);
    job.must("ctx 0");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 4 * GB - CONTEXT);
}

#[test]
fn without_its_holder_the_job_goes_on() {
    let machine = Machine::new();
    let client = gpu_sim::program().display().to_string();
    let mut command = machine.command(PROGRAM);
    // SIGTERM is what CMD gets when its wrapper is killed.
    command.args(["run", "--gpu", "0", "--reserve", "4GB", "--", "sh", "-c"]);
    command.arg(format!("trap '' TERM; exec {client} client"));
    let mut job = Script::start(command);
    let pid = pid_of(&mut job);
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    kill_process(Pid::from_raw(job.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
    machine.wait_for("the balloon is gone", |state| state.used(0) == CONTEXT + GB);
    job.must("alloc 500MB");
    job.must("free 0");
    assert!(job.ask("alloc 30GB").starts_with("error 2"));
    assert_eq!(machine.used_by(0, pid), CONTEXT + 500 * MB);
    job.must("info");
}

/// The process that holds the library open, out of the environment of a job that prints it.
#[track_caller]
fn keeper(line: &str) -> OwnedFd {
    let pid = line.strip_prefix("/proc/").and_then(|rest| rest.split('/').next()?.parse().ok()).and_then(Pid::from_raw);
    pidfd_open(pid.expect("a path in /proc"), PidfdFlags::empty()).expect("the keeper lives")
}

#[track_caller]
fn ends(process: &OwnedFd) {
    let timeout = Timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)), Ok(1), "it does not end");
}

#[test]
fn what_is_left_behind_starts_programs_without_a_complaint() {
    for end in ["exit 8", "sleep 0.2; exit 8", "kill -9 $PPID; exit 8"] {
        let machine = Machine::new();
        let script = format!(
            "trap '' TERM; echo $LD_PRELOAD; exec 3<&0; (setsid sh -c 'read go; ls /; echo late' <&3 &); {end}"
        );
        let mut wrapper = Running::start(&mut machine.wrap("--reserve 10MB", &["sh", "-c", &script]));
        let keeper = keeper(&wrapper.line());
        machine.wait_for("the wrapper has ended", |machine| machine.peak(0) > 0 && machine.used(0) == 0);
        wrapper.say("go");
        while wrapper.line() != "late" {}
        let said = wrapper.wait();
        assert_eq!(said.stderr, "", "{end}");
        ends(&keeper);
    }
}

#[test]
fn the_keeper_holds_nothing_of_the_callers_and_ends_with_the_job() {
    let machine = Machine::new();
    let mut wrapper = Running::start(&mut machine.wrap("--reserve 10MB", &["sh", "-c", "echo $LD_PRELOAD; read go"]));
    let line = wrapper.line();
    let keeper = keeper(&line);
    let directory = line.rsplit_once('/').expect("a path").0;
    let mut open: Vec<String> = std::fs::read_dir(directory)
        .expect("its descriptors")
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    open.sort();
    let kinds: Vec<&str> = open.iter().map(|name| name.split('[').next().unwrap_or(name)).collect();
    assert_eq!(kinds, ["/dev/null", "/dev/null", "/dev/null", "/memfd:gpu-balloon (deleted)", "socket:"]);
    wrapper.say("go");
    wrapper.wait().exits(0);
    ends(&keeper);
}
