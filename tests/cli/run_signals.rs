//! Signals under `run`: each reaches the command once, however it was sent, and the wrapper ends as the command does.
#![expect(unsafe_code, reason = "kill and sigqueue by number, of which some have no name")]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::harness::{Machine, PROGRAM, Running, compile};

/// Every signal that a program can do something about. The C library keeps 32 and 33 to itself.
fn catchable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal))
}

/// What a signal does to a program that does nothing about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Default {
    Ends,
    Stops,
    Nothing,
}

fn default(signal: i32) -> Default {
    match signal {
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Default::Stops,
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => Default::Nothing,
        _ => Default::Ends,
    }
}

/// To whom a signal is sent.
#[derive(Clone, Copy, Debug)]
enum To {
    Wrapper,
    Group,
}

const EVERYBODY: [To; 2] = [To::Wrapper, To::Group];

/// Ends the listener, with the code that is sent along.
const END: i32 = 64;

/// A listener under `run`, in a process group of its own.
struct Wrapped(Running);

impl Wrapped {
    fn start(machine: &Machine, arguments: &[&str]) -> Self {
        let mut command = machine.wrap("--reserve 10MB", &[listener().to_str().unwrap()]);
        let mut running = Running::start(command.args(arguments).process_group(0));
        assert_eq!(running.line(), "ready");
        Self(running)
    }

    fn send(&self, signal: i32, to: To) {
        let pid = self.0.pid().cast_signed();
        let pid = match to {
            To::Wrapper => pid,
            To::Group => -pid,
        };
        // SAFETY: takes two numbers.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until the wrapper is stopped, and says by which signal.
    fn stopped(&self) -> Option<i32> {
        let stopped = waitid(self.id(), WaitIdOptions::STOPPED).expect("it is ours");
        stopped.and_then(|status| status.stopping_signal())
    }

    fn goes_on(&self) {
        waitid(self.id(), WaitIdOptions::CONTINUED).expect("it is ours");
    }

    fn id(&self) -> WaitId<'static> {
        WaitId::Pid(Pid::from_raw(self.0.pid().cast_signed()).expect("a pid"))
    }

    /// To the wrapper alone, with a value.
    fn queue(&self, signal: i32, value: usize) {
        queue(self.0.pid(), signal, value);
    }
}

/// Sends a signal with a value.
pub fn queue(pid: u32, signal: i32, value: usize) {
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value) };
    // SAFETY: the value is a number, which nobody takes for a pointer.
    assert_eq!(unsafe { libc::sigqueue(pid.cast_signed(), signal, value) }, 0);
}

/// The listener's program.
pub fn listener() -> PathBuf {
    compile("cc", "tests/cli/run_signals/listener.c", &[])
}

#[test]
fn a_command_that_handles_them_gets_each_once() {
    for to in EVERYBODY {
        let machine = Machine::new();
        let mut wrapped = Wrapped::start(&machine, &["handle", "64"]);
        for signal in catchable() {
            wrapped.send(signal, to);
            assert_eq!(wrapped.0.line(), signal.to_string(), "{to:?}");
            // What comes late would come before this: it takes the same way, and no signal has a higher number.
            wrapped.queue(END, 0);
            assert_eq!(wrapped.0.line(), "64 0", "after {signal} to {to:?}");
        }
        wrapped.queue(END, 7);
        wrapped.0.wait().exits(7);
        assert_eq!(machine.used(0), 0);
    }
}

#[test]
fn a_command_that_ignores_them_goes_on() {
    for to in EVERYBODY {
        let machine = Machine::new();
        let mut wrapped = Wrapped::start(&machine, &["ignore", "64"]);
        for signal in catchable().filter(|signal| *signal != END) {
            wrapped.send(signal, to);
            wrapped.queue(END, 0);
            assert_eq!(wrapped.0.line(), "64 0", "after {signal} to {to:?}");
        }
        wrapped.queue(END, 7);
        wrapped.0.wait().exits(7);
        assert_eq!(machine.used(0), 0);
    }
}

#[test]
fn a_command_that_dies_of_one_takes_the_wrapper_along() {
    let machine = Machine::new();
    let fatal: Vec<i32> = catchable().filter(|signal| default(*signal) == Default::Ends).collect();
    std::thread::scope(|scope| {
        for some in fatal.chunks(8) {
            let machine = &machine;
            scope.spawn(move || {
                for (signal, to) in some.iter().flat_map(|signal| EVERYBODY.map(|to| (*signal, to))) {
                    let mut wrapped = Wrapped::start(machine, &["die"]);
                    wrapped.send(signal, to);
                    let ended = wrapped.0.wait();
                    assert_eq!(ended.status.signal(), Some(signal), "{to:?}: {}", ended.stderr);
                    assert!(!ended.status.core_dumped());
                    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("ready\n", ""));
                }
            });
        }
    });
    assert_eq!(machine.used(0), 0);
}

#[test]
fn what_is_harmless_harms_nobody() {
    for to in EVERYBODY {
        let machine = Machine::new();
        let mut wrapped = Wrapped::start(&machine, &["die"]);
        for signal in catchable().filter(|signal| default(*signal) == Default::Nothing) {
            wrapped.send(signal, to);
        }
        wrapped.send(libc::SIGUSR1, To::Wrapper);
        assert_eq!(wrapped.0.wait().status.signal(), Some(libc::SIGUSR1));
    }
}

#[test]
fn what_stops_the_command_stops_the_wrapper() {
    let machine = Machine::new();
    let stops = catchable().filter(|signal| default(*signal) == Default::Stops);
    for (signal, to) in stops.flat_map(|signal| EVERYBODY.map(|to| (signal, to))) {
        let mut wrapped = Wrapped::start(&machine, &["die"]);
        for _ in 0..2 {
            wrapped.send(signal, to);
            assert_eq!(wrapped.stopped(), Some(signal), "{to:?}");
            wrapped.send(libc::SIGCONT, to);
            wrapped.goes_on();
        }
        wrapped.send(libc::SIGUSR1, To::Wrapper);
        assert_eq!(wrapped.0.wait().status.signal(), Some(libc::SIGUSR1));
    }
}

#[test]
fn a_stop_that_takes_back_a_continuation_stops_both() {
    let machine = Machine::new();
    for to in EVERYBODY {
        let mut wrapped = Wrapped::start(&machine, &["die"]);
        wrapped.send(libc::SIGTSTP, to);
        // Some of the many come between the wrapper's going on and its reading why.
        for delay in 0..100 {
            assert_eq!(wrapped.stopped(), Some(libc::SIGTSTP), "{to:?}");
            wrapped.send(libc::SIGCONT, to);
            let at = Instant::now() + Duration::from_micros(2) * delay;
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            wrapped.send(libc::SIGTSTP, to);
        }
        assert_eq!(wrapped.stopped(), Some(libc::SIGTSTP), "{to:?}");
        wrapped.send(libc::SIGCONT, to);
        wrapped.goes_on();
        wrapped.send(libc::SIGUSR1, To::Wrapper);
        assert_eq!(wrapped.0.wait().status.signal(), Some(libc::SIGUSR1));
    }
}

/// The wrapper wakes its witness by a SIGCONT, which the witness then has got as well.
#[test]
fn a_witness_that_has_to_be_woken_takes_no_stop_back() {
    let machine = Machine::new();
    let wrapped = Wrapped::start(&machine, &["die"]);
    let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (pid, rest) = stat.split_once(" (signal-witness) ")?;
        let parent: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        (parent == wrapped.0.pid()).then(|| pid.parse::<i32>().ok())?
    });
    for witness in children {
        // SAFETY: takes two numbers.
        assert_eq!(unsafe { libc::kill(witness, libc::SIGSTOP) }, 0);
    }
    wrapped.send(libc::SIGTSTP, To::Wrapper);
    assert_eq!(wrapped.stopped(), Some(libc::SIGTSTP));
}

#[test]
fn who_continues_or_kills_the_command_alone_wakes_the_wrapper() {
    let machine = Machine::new();
    let shell = "echo $$; kill -TSTP $$; exit 3";
    for signal in [libc::SIGCONT, libc::SIGKILL] {
        let mut wrapper = machine.wrap("--reserve 10MB", &["sh", "-c", shell]);
        let mut wrapped = Wrapped(Running::start(wrapper.process_group(0)));
        let command = wrapped.0.line().parse().expect("a pid");
        assert_eq!(wrapped.stopped(), Some(libc::SIGTSTP));
        // SAFETY: takes two numbers.
        assert_eq!(unsafe { libc::kill(command, signal) }, 0);
        let ended = wrapped.0.wait();
        let expected = if signal == libc::SIGCONT { (Some(3), None) } else { (None, Some(signal)) };
        assert_eq!((ended.status.code(), ended.status.signal()), expected);
    }
}

#[test]
fn a_signal_while_the_command_is_being_started_reaches_it_once() {
    let machine = Machine::new();
    // It inherits the mask, so that nothing is lost before it listens.
    let line = format!("exec env --block-signal=RTMIN,RTMAX {PROGRAM} run --reserve 10MB --ready-fd 1 -- \"$@\"");
    let listener = listener();
    for (delay, to) in (0..60).zip(EVERYBODY.into_iter().cycle()) {
        let mut shell = machine.command("bash");
        shell.args(["-c", &line, "launcher", listener.to_str().unwrap(), "handle", "64"]);
        let mut wrapped = Wrapped(Running::start(shell.process_group(0)));
        assert!(wrapped.0.line().starts_with("ready name="));
        let at = Instant::now() + Duration::from_micros(100) * delay;
        while Instant::now() < at {
            std::hint::spin_loop();
        }
        wrapped.send(libc::SIGRTMIN(), to);
        wrapped.queue(END, 7);
        let said = wrapped.0.wait().exits(7).stdout;
        assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), ["ready", "34", "64 7"], "{to:?}, {delay}00 us");
    }
}

#[test]
fn what_sigqueue_sends_along_arrives() {
    let machine = Machine::new();
    let mut wrapped = Wrapped::start(&machine, &["handle", "64"]);
    for (signal, value) in
        [(libc::SIGUSR1, 17), (libc::SIGRTMIN(), 18), (libc::SIGRTMIN() + 5, 19), (libc::SIGCHLD, 20)]
    {
        wrapped.queue(signal, value);
        assert_eq!(wrapped.0.line(), format!("{signal} {value}"));
    }
    // Real-time signals queue.
    for value in [1, 2, 3] {
        wrapped.queue(libc::SIGRTMIN(), value);
    }
    for value in [1, 2, 3] {
        assert_eq!(wrapped.0.line(), format!("{} {value}", libc::SIGRTMIN()));
    }
    wrapped.queue(END, 7);
    wrapped.0.wait().exits(7);
}

#[test]
fn killing_the_command_kills_the_wrapper_the_same_way() {
    let machine = Machine::new();
    let mut wrapped = Running::start(&mut machine.wrap("--reserve 10MB", &["sh", "-c", "kill -KILL $$"]));
    assert_eq!(wrapped.wait().status.signal(), Some(libc::SIGKILL));
    assert_eq!(machine.used(0), 0);
}
