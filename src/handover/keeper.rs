//! The keeper: a tiny process that has the library in memory for as long as any process of the job may load it.
//!
//! The job's programs name the library by a descriptor of another process. That cannot be the holder: what CMD leaves
//! behind may start programs when the holder has ended, or was killed, and for each of them the dynamic linker would complain
//! about a file that is gone. So the keeper outlives the holder, and ends when no process of the job is left.
//!
//! It sleeps, holds nothing of the caller's open, and belongs to no terminal.
#![expect(unsafe_code, reason = "fork(2)")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open};

use super::library::{self, INSTRUCTIONS};
use crate::signals::{SignalSet, set_mask};

const NAME: &std::ffi::CStr = c"balloon-library";

/// How long the holder waits at its end for the keeper's, to take it off init's hands. Looking through `/proc` takes
/// milliseconds.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How long a process that is being killed may take to end. If its pid is another's by then, nothing is lost.
const DEATH: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// In this time no system gives out all its pids, so that those of a job's processes come after CMD's. To look at all
/// processes of a large machine takes far longer than many a job.
const MOMENT: Duration = Duration::from_millis(100);

/// More pids than this are not looked at one by one.
const FEW: i32 = 1000;

/// How often, and how far apart, a process is looked at that seems to have no environment.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// The holder's end of the keeper. Dropping it waits for the keeper's end, unless that has something left to keep.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    socket: OwnedFd,
}

impl Keeper {
    /// Starts it. The calling process must have one thread, and should be small. Should it be killed, the keeper calls `bury`.
    ///
    /// # Errors
    /// The system has no process or descriptor left.
    pub fn post(bury: fn()) -> io::Result<Self> {
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let holder = getpid();
        // SAFETY: the only thread forks, so the child finds every lock free; it never returns from `keep`.
        match unsafe { libc::fork() } {
            0 => {
                keep(&Holder { socket: theirs, pid: holder, bury });
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(0) }
            }
            child => match Pid::from_raw(child).filter(|_| child > 0) {
                Some(pid) => Ok(Self { pid, socket }),
                None => Err(io::Error::last_os_error()),
            },
        }
    }

    /// Has it write its instructions into the library, and returns the path by which other processes of this user reach that.
    /// After the holder's end it stays reachable as long as the path stands in some process's `LD_PRELOAD`.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn instruct(&self, instructions: &[u8; INSTRUCTIONS]) -> io::Result<String> {
        rustix::net::send(&self.socket, instructions, SendFlags::NOSIGNAL)?;
        let mut number = [0; size_of::<RawFd>()];
        let (length, _) = rustix::net::recv(&self.socket, &mut number[..], RecvFlags::empty())?;
        if length != number.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(format!("/proc/{}/fd/{}", self.pid.as_raw_nonzero(), RawFd::from_ne_bytes(number)))
    }

    /// CMD, which was started at `start` as `job`, has ended: the keeper looks whether anybody of the job is left, while the
    /// holder has other things to do.
    pub fn job_has_ended(&self, job: u32, start: Instant) {
        self.say_end(if start.elapsed() < MOMENT { job } else { 0 });
    }

    fn say_end(&self, since: u32) {
        let _ = rustix::net::send(&self.socket, &since.to_ne_bytes(), SendFlags::NOSIGNAL);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.say_end(0);
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        // It says so if it stays; else its end closes the socket.
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        let _ = poll(&mut polled, Some(&PATIENCE));
        let received = rustix::net::recv(&self.socket, &mut [0; 1][..], RecvFlags::DONTWAIT);
        let has_ended = matches!(received, Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET));
        let how = if has_ended { WaitOptions::empty() } else { WaitOptions::NOHANG };
        let _ = rustix::process::waitpid(Some(self.pid), how);
    }
}

/// The life of the keeper.
fn keep(holder: &Holder) {
    let socket = &holder.socket;
    let _ = set_mask(libc::SIG_BLOCK, &SignalSet::all().to_libc());
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    close_all_but(socket);
    crate::signals::retitle(NAME.to_bytes());
    let _ = rustix::thread::set_name(NAME);
    // Put into memory while the holder takes its own.
    let Ok(file) = library::blank() else { return };
    let mut instructions = [0; INSTRUCTIONS];
    if holder.says(&mut instructions) != INSTRUCTIONS || library::finish(&file, &instructions).is_err() {
        return;
    }
    let number = file.as_raw_fd();
    let _ = rustix::net::send(socket, &number.to_ne_bytes(), SendFlags::NOSIGNAL);
    // Until CMD has ended, or the holder has.
    let mut job = [0; size_of::<u32>()];
    holder.says(&mut job);
    let mut candidates = born_since(u32::from_ne_bytes(job));
    let entry = format!("/proc/{}/fd/{number}", std::process::id());
    while let Some(user) = a_user(&entry, candidates.take().unwrap_or_else(all)) {
        let _ = rustix::net::send(socket, &[0], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let _ = poll(&mut [PollFd::new(&user, PollFlags::IN)], None);
    }
}

/// The holder, as the keeper knows it.
struct Holder {
    socket: OwnedFd,
    pid: Pid,
    bury: fn(),
}

impl Holder {
    /// How long the holder's next word is; 0 if it was killed, and is buried.
    fn says(&self, word: &mut [u8]) -> usize {
        if let Ok((length @ 1.., _)) = rustix::net::recv(&self.socket, word, RecvFlags::empty()) {
            return length;
        }
        // What it had is its own until it has ended altogether.
        if let Ok(process) = pidfd_open(self.pid, PidfdFlags::empty()) {
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&DEATH));
        }
        (self.bury)();
        0
    }
}

/// Whoever reads our output to its end must not wait for us.
fn close_all_but(socket: &OwnedFd) {
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let kept = socket.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: nothing in this process uses a descriptor other than `kept` and the standard streams from here on.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// The pids given since that of a process that was started a [`MOMENT`] ago at most. `None` where they cannot be told, or are
/// not much fewer than all.
fn born_since(process: u32) -> Option<Vec<i32>> {
    let last = fs::read_to_string("/proc/sys/kernel/ns_last_pid").ok()?.trim().parse::<i32>().ok()?;
    let first = process.cast_signed();
    (first > 0 && (first..first.saturating_add(FEW)).contains(&last)).then(|| (first..=last).collect())
}

/// `/proc` lists them in order, and so nearly always children behind their parents: none is born behind the reader's back.
fn all() -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Which of the processes has `path` in its `LD_PRELOAD`.
fn a_user(path: &str, pids: Vec<i32>) -> Option<OwnedFd> {
    pids.into_iter().filter_map(Pid::from_raw).filter(|pid| preloads(*pid, path)).find_map(|pid| {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Still the same one.
        preloads(pid, path).then_some(process)
    })
}

/// Zombies have no environment, and another user's cannot be read. A process has none either for the moment in which it
/// replaces its program.
fn preloads(pid: Pid, path: &str) -> bool {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let read = || fs::read(format!("{process}/environ")).unwrap_or_default();
    let mut environment = read();
    for _ in 0..LOOKS {
        if !environment.is_empty() || fs::read_link(format!("{process}/exe")).is_err() {
            break;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        environment = read();
    }
    environment.split(|byte| *byte == 0).any(|variable| {
        variable.strip_prefix(b"LD_PRELOAD=").is_some_and(|libraries| {
            libraries.split(|byte| matches!(byte, b':' | b' ')).any(|library| library == path.as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_after_a_process_is_known_where_there_are_few() {
        let mut elder = std::process::Command::new("true").spawn().unwrap();
        let mut younger = std::process::Command::new("true").spawn().unwrap();
        let pids = born_since(elder.id());
        // Where the system does not tell the last pid, or has begun anew meanwhile, all are looked at.
        assert!(pids.is_none_or(|pids| pids.contains(&younger.id().cast_signed())));
        assert_eq!(born_since(0), None);
        assert_eq!(born_since(u32::MAX), None);
        elder.wait().unwrap();
        younger.wait().unwrap();
    }
}
