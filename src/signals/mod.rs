//! The signals that gpu-balloon acts on, as a descriptor to poll: blocked from the start, read when the event loop gets to
//! them, each with the answer to "has CMD been told already?". Knows nothing of balloons or of what a signal should do.
//!
//! Must be set up on the main thread before any other thread (those inherit the mask) and before any CUDA call (the
//! driver starts threads).

// signalfd, masks and dispositions have no safe binding among our dependencies; each call is one block below.
#![allow(unsafe_code)]

pub mod group;
mod missed;
mod proc;
mod reach;
mod set;
mod start;
mod stop;
mod witness;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

pub use missed::make_up_for;
pub use reach::Reach;
pub use set::SignalSet;
pub use start::{closed_streams, retitle};
pub use stop::is_stopped;
use witness::Witness;

/// Size and layout of the kernel's `signalfd_siginfo` (signalfd(2)).
const RECORD: usize = 128;

/// What the signals are for, which says which ones they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `INT`, `TERM` and `HUP`, unless ignored at start: they end the balloon.
    Hold,
    /// Everything that [`SignalSet::meant_for_a_job`] lists, ignored or not: CMD may have a use for it. Until CMD runs a stop
    /// stops us.
    Run,
}

/// Why signals cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum SignalsError {
    #[error("cannot block signals")]
    Block(#[source] io::Error),
    #[error("cannot open a descriptor for signals")]
    Open(#[source] io::Error),
    #[error("cannot start the process that witnesses group signals")]
    Witness(#[source] io::Error),
}

/// One signal as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// `si_code` (sigaction(2)): <= 0 if a process sent it.
    pub code: i32,
    /// The process that sent it; 0 if the kernel did or it lives outside our pid namespace.
    pub pid: u32,
    /// Real user id of that process.
    pub uid: u32,
    /// What `sigqueue` sent along.
    pub value: u64,
    pub reach: Reach,
}

impl Received {
    /// A process sent it, not the kernel.
    pub fn sent_by_process(&self) -> bool {
        self.code <= 0
    }

    /// Whether CMD should get it from us. From the kernel only what it sends to one process on behalf of someone else: the
    /// hang-up that a session leader alone is told of, with SIGCONT behind it, and an alarm set before we were started
    /// (`perl -e 'alarm 5; exec ..'`).
    pub fn is_for_job(&self) -> bool {
        self.reach == Reach::Us
            && if self.sent_by_process() {
                // Our own SIGPIPE says that we wrote to a closed pipe, which is no business of CMD's.
                self.pid != std::process::id()
            } else {
                matches!(self.signal, libc::SIGHUP | libc::SIGCONT | libc::SIGALRM)
            }
    }

    /// The kernel tells that a child of ours has ended, was stopped or goes on.
    pub fn is_of_a_child(&self) -> bool {
        self.signal == libc::SIGCHLD && !self.sent_by_process()
    }

    fn parse(record: &[u8; RECORD]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        let mut value = [0; 8];
        value.copy_from_slice(&record[VALUE..VALUE + 8]);
        Self {
            signal: word(0).cast_signed(),
            code: word(8).cast_signed(),
            pid: word(12),
            uid: word(16),
            value: u64::from_ne_bytes(value),
            reach: Reach::Us,
        }
    }
}

/// Offset of `ssi_ptr`, which holds the whole `sigval`.
const VALUE: usize = 48;

/// The signals of one purpose, blocked and readable. Dropping it forgets what is still unread and restores the mask.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    mask_at_start: libc::sigset_t,
    ignored_at_start: SignalSet,
    witness: Option<Witness>,
    /// Whether there is a CMD whose stops are ours; before that, the terminal's stop us.
    has_job: bool,
}

impl Signals {
    /// Blocks the signals of `purpose` in the calling thread and opens the descriptor; for [`Purpose::Run`] also posts the
    /// witness, a tiny process beside us (see `witness.rs`). Call it first thing, on the main thread.
    ///
    /// Sources: signalfd(2), signal(7); Linux queues a blocked signal even when it is ignored.
    pub fn block(purpose: Purpose) -> Result<Self, SignalsError> {
        let mut ignored_at_start = SignalSet::default();
        for signal in SignalSet::NUMBERS.filter(|signal| is_ignored(*signal)) {
            ignored_at_start.add(signal);
        }
        if !start::sigpipe_was_ignored() {
            ignored_at_start.remove(libc::SIGPIPE);
        }
        let set = match purpose {
            Purpose::Hold => SignalSet::ends_a_hold().without(ignored_at_start),
            Purpose::Run => SignalSet::meant_for_a_job(),
        };
        let mask_at_start = set_mask(libc::SIG_BLOCK, &set.to_libc()).map_err(SignalsError::Block)?;
        // SAFETY: a valid set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set.to_libc(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd == -1 {
            let error = io::Error::last_os_error();
            restore_mask(&mask_at_start);
            return Err(SignalsError::Open(error));
        }
        // SAFETY: signalfd just made it and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut signals = Self { fd, mask_at_start, ignored_at_start, witness: None, has_job: false };
        if purpose == Purpose::Run {
            // With SIGCHLD ignored the kernel would throw CMD's status away (wait(2)).
            set_disposition(libc::SIGCHLD, libc::SIG_DFL);
            signals.witness = Some(Witness::post().map_err(SignalsError::Witness)?);
        }
        Ok(signals)
    }

    /// Everything that has come in, oldest signal numbers first as the kernel gives them; empty when there is nothing.
    /// Never blocks, save for the witness's answer (tens of microseconds, at most a second).
    pub fn read(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        let mut told = Vec::new();
        // Until neither of us has anything new: then no group signal is left that only one of us has read, so none can be
        // taken for another later.
        loop {
            let known = received.len();
            self.drain(&mut received);
            if received.iter().all(Received::is_of_a_child) {
                break;
            }
            let Some(witness) = &mut self.witness else {
                break;
            };
            group::await_senders();
            match witness.ask() {
                Ok(news) if news.is_empty() && received.len() == known => break,
                Ok(news) => told.extend(news),
                Err(_) => self.witness = None,
            }
        }
        for one in &mut received {
            one.reach = match &self.witness {
                Some(_) => Reach::of(one, &mut told),
                // Without a witness (killed by someone) the sender is the best guess: the terminal tells the group.
                None if one.sent_by_process() || one.signal == libc::SIGALRM => Reach::Us,
                None => Reach::Group,
            };
        }
        // It wakes us from a stop, and means nobody else.
        let witness = self.witness();
        received.retain(|one| !(one.sent_by_process() && Some(one.pid) == witness));
        if !self.has_job {
            received.retain(|one| !self.stops_us(one));
        }
        received
    }

    /// Before there is a CMD: stops us, and says so, if `received` is from job control.
    fn stops_us(&self, received: &Received) -> bool {
        if SignalSet::stops().contains(received.signal) {
            if !self.was_ignored(received.signal) {
                stop::by(received.signal);
            }
            return true;
        }
        matches!(received.signal, libc::SIGCONT | libc::SIGCHLD)
    }

    /// From now on stops are CMD's affair.
    pub fn has_job(&mut self) {
        self.has_job = true;
    }

    /// There is no CMD any more that could have been told of a signal: nobody needs to witness that.
    pub fn job_has_ended(&self) {
        if let Some(witness) = &self.witness {
            witness.dismiss();
        }
    }

    /// Stops us as `signal` has stopped the process `job`, until we are continued, which happens at the latest when `job` is.
    /// A stop by hand, with SIGSTOP, is only shown where a shell would wait for ever for the end of its foreground job.
    pub fn stop_with(&mut self, job: i32, signal: i32) {
        let (ours, jobs) = (group::of(0), group::of(job));
        let terminal = stop::Terminal::open();
        let foreground = || terminal.as_ref().and_then(stop::Terminal::foreground);
        let before = foreground();
        if signal == libc::SIGSTOP && before.is_none_or(|group| group != ours && group != jobs) {
            return;
        }
        if let Some(witness) = &self.witness {
            witness.watch(job.cast_unsigned());
        }
        stop::by(signal);
        if let Some(witness) = &self.witness {
            witness.rest();
        }
        // The shell has given its terminal to us. A job that had it for itself, as a shell has, gets it back.
        if let Some(terminal) = &terminal
            && jobs != ours
            && before == Some(jobs)
            && foreground() == Some(ours)
        {
            terminal.give_to(jobs);
        }
    }

    /// Whether `signal` was ignored when the program started (under `nohup`, or in the background of a script).
    pub fn was_ignored(&self, signal: i32) -> bool {
        self.ignored_at_start.contains(signal)
    }

    /// Whether `received` would have ended a program that handles no signals: for the time before CMD is there.
    pub fn would_end_us(&self, received: &Received) -> bool {
        let from_us = received.sent_by_process() && received.pid == std::process::id();
        !from_us
            && !self.was_ignored(received.signal)
            && !self.was_blocked(received.signal)
            && !is_harmless(received.signal)
    }

    fn was_blocked(&self, signal: i32) -> bool {
        // SAFETY: reads a valid set.
        unsafe { libc::sigismember(&raw const self.mask_at_start, signal) == 1 }
    }

    /// The mask and the ignored signals that a child must get back.
    pub fn at_start(&self) -> (libc::sigset_t, SignalSet) {
        (self.mask_at_start, self.ignored_at_start)
    }

    /// The process id of the witness, which is a child of ours but no part of the job.
    pub fn witness(&self) -> Option<u32> {
        self.witness.as_ref().map(Witness::id)
    }

    /// Ends the watch but leaves the signals blocked, for a process that is about to end in a way already decided.
    pub fn keep_blocked(mut self) {
        self.witness = None;
        std::mem::forget(self);
    }

    fn drain(&self, received: &mut Vec<Received>) {
        let mut record = [0; RECORD];
        while let Ok(RECORD) = rustix::io::read(&self.fd, &mut record) {
            received.push(Received::parse(&record));
        }
    }
}

impl AsFd for Signals {
    /// Readable when a signal has come in.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.drain(&mut Vec::new());
        restore_mask(&self.mask_at_start);
    }
}

/// Whether its default action leaves a program running. Those that stop it are not among them.
fn is_harmless(signal: i32) -> bool {
    matches!(signal, libc::SIGURG | libc::SIGWINCH | libc::SIGCONT | libc::SIGCHLD)
}

/// The kernel's `sigaction` for handler, flags, restorer and mask, on x86-64 and aarch64. The C library's own refuses the two
/// signals that it keeps for itself, which a caller may have ignored all the same.
type Action = [usize; 4];

/// The size of the kernel's set of signals.
const SET: usize = size_of::<u64>();

/// Whether `signal` is ignored now. Async-signal-safe.
fn is_ignored(signal: i32) -> bool {
    let mut action: Action = [0; 4];
    // SAFETY: a null action changes nothing; `action` is a place for the present one.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<Action>(), &raw mut action, SET) };
    result == 0 && action[0] == libc::SIG_IGN
}

/// Sets `signal` to `SIG_DFL` or `SIG_IGN`. Async-signal-safe; a refusal (KILL, STOP) is of no consequence.
pub fn set_disposition(signal: i32, disposition: libc::sighandler_t) {
    let action: Action = [disposition, 0, 0, 0];
    // SAFETY: both dispositions name no function of ours, so flags, restorer and mask do not matter.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, ptr::null::<Action>(), SET) };
}

/// Changes this thread's mask and returns the one before. Async-signal-safe.
pub fn set_mask(how: i32, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut before = SignalSet::default().to_libc();
    // SAFETY: both point to a `sigset_t`, which begins with the kernel's set.
    match unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, ptr::from_ref(set), &raw mut before, SET) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A mask that came from the kernel is never refused.
fn restore_mask(mask: &libc::sigset_t) {
    let _ = set_mask(libc::SIG_SETMASK, mask);
}
