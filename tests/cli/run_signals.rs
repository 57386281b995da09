//! Signals under `run`: each reaches the command once, however it was sent, and the wrapper ends as the command does.
#![expect(unsafe_code, reason = "kill and sigqueue by number, of which some have no name")]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{Machine, Running};

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

/// The listener's program, compiled once.
pub fn listener() -> &'static Path {
    static LISTENER: OnceLock<PathBuf> = OnceLock::new();
    LISTENER.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/run_signals/listener.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("listener");
        // Complete before it gets its name: another run of the tests may use it.
        let unfinished = program.with_extension(std::process::id().to_string());
        let compiled = Command::new("cc").args(["-O1", "-o"]).arg(&unfinished).arg(source).status().unwrap();
        assert!(compiled.success());
        std::fs::rename(&unfinished, &program).unwrap();
        program
    })
}

#[test]
fn a_command_that_handles_them_gets_each_once() {
    for to in EVERYBODY {
        let machine = Machine::new();
        let mut wrapped = Wrapped::start(&machine, &["handle", "64"]);
        for (signal, mark) in catchable().zip(1000..) {
            wrapped.send(signal, to);
            assert_eq!(wrapped.0.line(), signal.to_string(), "{to:?}");
            // What comes late would come before this: it takes the same way, and no signal has a higher number.
            wrapped.queue(END, 0);
            assert_eq!(wrapped.0.line(), "64 0", "after {signal} to {to:?}, {mark}");
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
