//! The keeper: a tiny process that holds the library's file open for as long as any process of the job may load it.
//!
//! The job's programs name the library by a descriptor of another process. That cannot be the holder: what CMD leaves
//! behind may start programs when the holder has ended, or was killed, and for each of them the dynamic linker would complain
//! about a file that is gone. So the keeper outlives the holder, and ends when no process of the job is left.
//!
//! It sleeps, holds nothing of the caller's open, and belongs to no terminal.
#![expect(unsafe_code, reason = "fork(2)")]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open};

use crate::signals::{SignalSet, set_mask};

const NAME: &std::ffi::CStr = c"balloon-library";

/// How long the holder waits at its end for the keeper's, to take it off init's hands. Looking through `/proc` takes
/// milliseconds.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

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
    /// Starts it. The calling process must have one thread, and should be small.
    ///
    /// # Errors
    /// The system has no process or descriptor left.
    pub fn post() -> io::Result<Self> {
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // SAFETY: the only thread forks, so the child finds every lock free; it never returns from `keep`.
        match unsafe { libc::fork() } {
            0 => {
                keep(theirs);
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(0) }
            }
            child => match Pid::from_raw(child).filter(|_| child > 0) {
                Some(pid) => Ok(Self { pid, socket }),
                None => Err(io::Error::last_os_error()),
            },
        }
    }

    /// Hands it a file, and returns the path by which other processes of this user reach that. After the holder's end it stays
    /// reachable as long as the path stands in some process's `LD_PRELOAD`.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn keep(&self, file: BorrowedFd<'_>) -> io::Result<String> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        control.push(SendAncillaryMessage::ScmRights(&files));
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        let mut number = [0; size_of::<RawFd>()];
        let (length, _) = rustix::net::recv(&self.socket, &mut number[..], RecvFlags::empty())?;
        if length != number.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(format!("/proc/{}/fd/{}", self.pid.as_raw_nonzero(), RawFd::from_ne_bytes(number)))
    }

    /// CMD has ended: the keeper looks whether anybody of the job is left, while the holder has other things to do.
    pub fn job_has_ended(&self) {
        let _ = rustix::net::send(&self.socket, &[0], SendFlags::NOSIGNAL);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
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
fn keep(socket: OwnedFd) {
    let _ = set_mask(libc::SIG_BLOCK, &SignalSet::all().to_libc());
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    close_all_but(&socket);
    crate::signals::retitle(NAME.to_bytes());
    let _ = rustix::thread::set_name(NAME);
    let Some(file) = receive(&socket) else { return };
    let number = file.as_raw_fd();
    let _ = rustix::net::send(&socket, &number.to_ne_bytes(), SendFlags::NOSIGNAL);
    // Readable when CMD has ended, or the holder has.
    let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], None);
    let entry = format!("/proc/{}/fd/{number}", std::process::id());
    while let Some(user) = a_user(&entry) {
        let _ = rustix::net::send(&socket, &[0], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let _ = poll(&mut [PollFd::new(&user, PollFlags::IN)], None);
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

fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    })
}

/// A process that has `path` in its `LD_PRELOAD`. `/proc` lists them in the order of their pids, and so nearly always children
/// behind their parents: none is born behind the reader's back.
fn a_user(path: &str) -> Option<OwnedFd> {
    let processes = fs::read_dir("/proc").ok()?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Pid::from_raw).filter(|pid| preloads(*pid, path)).find_map(|pid| {
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
