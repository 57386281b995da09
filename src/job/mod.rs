//! The wrapped command: starting it as if it ran alone, passing signals on to it, telling how it ended and ending the same
//! way. Knows nothing of GPUs or balloons.
//!
//! CMD stays in our process group and on our terminal, so job control is the shell's and the kernel's affair, and CMD's: the
//! terminal's stop signals stop us if and when they stop CMD, which may have a screen to restore first, or ignore them. To
//! the shell we are CMD.

// pre_exec, pidfd_send_signal with a value and the raw waiting calls have no safe binding; one call a block.
#![allow(unsafe_code)]

mod descriptors;
mod ended;
mod family;
mod program;
mod reach;
mod spawn;
mod streams;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid};

use crate::signals::{self, Reach, Received, SignalSet, Signals, group};
pub use descriptors::Inherited;
pub use ended::Ended;
pub use family::{Kin, Mark};
pub use reach::reach;
pub use spawn::{SpawnError, Spec};

/// `si_code` of a signal sent with `sigqueue` (sigaction(2)).
const SI_QUEUE: i32 = -1;

/// A running CMD, or one that has ended and was not yet asked how. It gets SIGTERM should the thread that started it die.
#[derive(Debug)]
pub struct Job {
    pid: Pid,
    pidfd: OwnedFd,
    end: Option<Ended>,
}

impl Job {
    /// CMD's process id. Valid until [`Job::ended`] has told the end.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    fn raw_id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends CMD a signal by number. Goes to CMD or to nobody, never to a process that got its pid later. `ESRCH` once it
    /// has ended. Source: pidfd_send_signal(2).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.send(signal, None)
    }

    /// Passes a signal on to CMD if it [is for CMD](Received::is_for_job), with the value and sender that `sigqueue` gave
    /// it. Says whether it did; that CMD has just ended is no error.
    pub fn pass_on(&self, received: &Received) -> io::Result<bool> {
        Ok(received.is_for_job() && self.relay(received)?)
    }

    /// Whether CMD lives, and so has or gets this signal: it is passed on unless CMD has been told already.
    pub fn takes(&mut self, received: &Received, signals: &mut Signals) -> bool {
        if received.is_of_a_child() {
            // Its end is told by its descriptor.
            if let Some(signal) = self.stopped() {
                signals.stop_with(self.raw_id(), signal);
            }
            return true;
        }
        if !matches!(self.ended(), Ok(None)) {
            return false;
        }
        let stays_stopped = received.reach == Reach::Us
            && SignalSet::stops().contains(received.signal)
            && signals::is_stopped(self.id());
        let passed = match received.reach {
            Reach::Group if self.has_left() => self.signal_group(received.signal),
            _ => self.pass_on(received).map(drop),
        };
        if let Err(error) = passed {
            // CMD may have become another user.
            tracing::warn!(signal = received.signal, %error, "signal not passed on");
        }
        if stays_stopped {
            // It has taken back a SIGCONT before we could pass that on: CMD has not gone on, and tells of no other stop.
            let _ = self.stopped();
            signals.stop_with(self.raw_id(), received.signal);
        }
        true
    }

    /// Waits until CMD has ended, and passes signals on meanwhile.
    pub fn wait(&mut self, signals: &mut Signals) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.ended()? {
                return Ok(ended);
            }
            match poll(&mut [PollFd::new(signals, PollFlags::IN), PollFd::new(self, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for received in signals.read() {
                self.takes(&received, signals);
            }
        }
    }

    /// How CMD ended, once it has (then [`Job::as_fd`] is readable); `None` while it runs or is stopped. Reaps it.
    pub fn ended(&mut self) -> io::Result<Option<Ended>> {
        if self.end.is_some() {
            return Ok(self.end);
        }
        let now = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // First look, then reap: until the second call the pid cannot be anyone else's.
        let look = now | WaitIdOptions::NOWAIT;
        let Some(status) = rustix::process::waitid(WaitId::Pid(self.pid), look)? else {
            return Ok(None);
        };
        rustix::process::waitid(WaitId::Pid(self.pid), now)?;
        self.end = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Ended::Code(code)),
            (None, signal) => signal.map(Ended::Signal),
        };
        Ok(self.end)
    }

    /// Whether CMD has made a group of its own, as shells and timeout(1) do, where it would still be the job's if it ran alone:
    /// a shell with job control had made it the leader already, and has made us the leader instead.
    fn has_left(&self) -> bool {
        let (us, cmd) = (getpid().as_raw_nonzero().get(), self.raw_id());
        group::of(0) == us && group::of(cmd) == cmd && group::session_of(cmd) == group::session_of(0)
    }

    /// Passes a signal to our group on to that of CMD, which leads it.
    fn signal_group(&self, signal: i32) -> io::Result<()> {
        // SAFETY: takes two numbers. CMD has not been reaped, so the group's is its own.
        match unsafe { libc::kill(-self.raw_id(), signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The signal that has stopped CMD, told once.
    fn stopped(&self) -> Option<i32> {
        let now = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        rustix::process::waitid(WaitId::Pid(self.pid), now).ok().flatten()?.stopping_signal()
    }

    fn relay(&self, received: &Received) -> io::Result<bool> {
        let sent = self.send(received.signal, (received.code == SI_QUEUE).then_some(received));
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send(&self, signal: i32, queued: Option<&Received>) -> io::Result<()> {
        let info = queued.map(siginfo);
        let info = info.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let pidfd = self.pidfd.as_raw_fd();
        // SAFETY: `info` is null or points to the 128 bytes of a siginfo that the kernel copies.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, info, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for Job {
    /// Readable once CMD has ended. Source: pidfd_open(2).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// `siginfo_t` of a queued signal as 64-bit Linux lays it out: number, error, code, padding, pid, uid, value.
fn siginfo(queued: &Received) -> [u64; 16] {
    let pair = |low: u32, high: u32| {
        let (low, high) = (low.to_ne_bytes(), high.to_ne_bytes());
        u64::from_ne_bytes([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]])
    };
    let mut info = [0; 16];
    info[0] = pair(queued.signal.cast_unsigned(), 0);
    info[1] = pair(queued.code.cast_unsigned(), 0);
    info[2] = pair(queued.pid, queued.uid);
    info[3] = queued.value;
    info
}
