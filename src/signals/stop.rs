//! Being stopped: as the default action of a signal would do it, although all of them are blocked.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{getpgrp, getpid};

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

/// Whether our group is the one that the controlling terminal listens to. False without a terminal.
pub fn is_in_foreground() -> bool {
    let terminal = rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(terminal.as_fd()) == Ok(getpgrp()))
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
