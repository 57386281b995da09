//! A holder that is no child of the test: known by its pid, and ended with its test.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{DEADLINE, Ended, Machine};

/// A detached holder.
pub struct Background {
    pub ready: String,
    pid: u32,
    process: OwnedFd,
}

impl Machine {
    /// `gpu-balloon hold --detach`, once it has returned.
    #[track_caller]
    pub fn detach(&self, line: &str) -> Background {
        Background::of(&self.run(&format!("hold --detach {line}")).exits(0))
    }
}

impl Background {
    /// The holder that a caller left behind.
    #[track_caller]
    pub fn of(caller: &Ended) -> Self {
        let ready = caller.stdout.clone();
        let pid = ready.split(' ').find_map(|word| word.strip_prefix("pid=")).and_then(|pid| pid.parse().ok());
        Self::with(ready, pid.expect("the ready line has the pid"))
    }

    /// A process that is there, by its pid.
    #[track_caller]
    pub fn with(ready: String, pid: u32) -> Self {
        let raw = Pid::from_raw(pid.cast_signed()).unwrap();
        Self { ready, pid, process: pidfd_open(raw, PidfdFlags::empty()).expect("it lives") }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.process, signal).expect("it lives");
    }

    /// What the system shows of it.
    pub fn proc(&self, file: &str) -> std::path::PathBuf {
        format!("/proc/{}/{file}", self.pid).into()
    }

    /// Where its descriptors lead, by number.
    pub fn descriptors(&self) -> Vec<(u32, String)> {
        let entries = fs::read_dir(self.proc("fd")).unwrap().map(Result::unwrap);
        let mut descriptors: Vec<_> = entries
            .filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
            })
            .collect();
        descriptors.sort_unstable();
        descriptors
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&self) {
        let timeout = Timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&timeout));
        assert_eq!(ready, Ok(1), "it does not end");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}
