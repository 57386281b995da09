//! Being stopped: as the default action of a signal would do it, although all of them are blocked.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::getpid;

use super::{SignalSet, proc, set_disposition, set_mask};

/// Stops this process by the default action of `signal`; returns when it is continued. The parent sees which signal it was.
/// Like every program in a group that no shell looks after, it is not stopped by the terminal's signals then.
pub fn by(signal: i32) {
    set_disposition(signal, libc::SIG_DFL);
    let mut only = SignalSet::default();
    only.add(signal);
    let only = only.to_libc();
    // SAFETY: `kill` on ourselves; the signal waits while it is blocked.
    unsafe { libc::kill(getpid().as_raw_nonzero().get(), signal) };
    let _ = set_mask(libc::SIG_UNBLOCK, &only);
    let _ = set_mask(libc::SIG_BLOCK, &only);
}

/// The controlling terminal.
pub struct Terminal(OwnedFd);

impl Terminal {
    /// `None` for a process without one.
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open("/dev/tty", flags, Mode::empty()).ok().map(Self)
    }

    /// The group that it listens to.
    pub fn foreground(&self) -> Option<c_int> {
        // SAFETY: the descriptor is open.
        Some(unsafe { libc::tcgetpgrp(self.0.as_raw_fd()) }).filter(|group| *group >= 0)
    }

    /// Makes it listen to another group. Needs SIGTTOU blocked where ours is in the background.
    pub fn give_to(&self, group: c_int) {
        // SAFETY: the descriptor is open.
        unsafe { libc::tcsetpgrp(self.0.as_raw_fd(), group) };
    }
}

/// Whether the process is stopped. Async-signal-safe: the witness asks.
pub fn is_stopped(pid: u32) -> bool {
    let mut stat = [0; 128];
    let length = proc::read(pid, b"stat", &mut stat);
    let stat = &stat[..length];
    // The name in parentheses has at most 15 bytes, which may be parentheses too.
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
    state.is_some_and(|state| matches!(state, b'T' | b't'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_known() {
        let mut child = std::process::Command::new("sh").args(["-c", "kill -STOP $$"]).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let options = rustix::process::WaitIdOptions::STOPPED;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        assert!(is_stopped(child.id()));
        assert!(!is_stopped(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_stopped(child.id()));
    }
}
