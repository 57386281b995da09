//! The witness: a tiny process in our process group that blocks every signal and is asked, when one reaches us, whether
//! it got that one too. If so the sender meant the group, CMD has been told, and passing it on would tell CMD twice. The
//! kernel says who sent a signal, never to whom, so nothing less can tell `kill PID` from `kill -- -PGID`.
//!
//! While we are stopped along with CMD it also watches over CMD, and continues us when CMD goes on or ends: whoever continues
//! CMD alone does not know of us.
//!
//! It leaves what it gets pending until asked, so that repeats merge with it just as they do with us. It costs one fork of
//! a small process, sleeps in one read, holds no descriptor but its socket, and ends with us whatever happens.
//!
//! What it cannot see: a sender that signals the group's processes one after the other. Hence its own name and command
//! line, which `pkill` and `killall` do not take for ours.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};

use super::{Received, SignalSet, start, stop};

/// How long an answer may take before the witness is taken to have been stopped, with the group say, while only we were
/// continued; and how often it is then continued before it is given up.
const PATIENCE: Duration = Duration::from_millis(50);
const TRIES: u32 = 20;
/// What it is told.
const ASK: u8 = 0;
const WATCH: u8 = 1;
const REST: u8 = 2;
/// How often it looks whether a stopped CMD goes on. Nothing tells that to anyone but CMD's parent, which is stopped.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Most signals in one answer; more come with the next.
const MOST: usize = 64;
const NAME: &std::ffi::CStr = c"signal-witness";

/// One signal that the witness got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub signal: i32,
    pub code: i32,
    pub pid: u32,
}

impl Told {
    const SIZE: usize = 12;
    const NONE: [u8; Self::SIZE] = [0; Self::SIZE];

    pub fn is_same_as(&self, received: &Received) -> bool {
        (self.signal, self.code, self.pid) == (received.signal, received.code, received.pid)
    }

    fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { signal: word(0).cast_signed(), code: word(4).cast_signed(), pid: word(8) }
    }

    fn write(self, bytes: &mut [u8; Self::SIZE]) {
        bytes[..4].copy_from_slice(&self.signal.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.code.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.pid.to_ne_bytes());
    }
}

/// Our end of the witness; dropping it ends the process.
#[derive(Debug)]
pub struct Witness {
    pid: Pid,
    socket: OwnedFd,
}

impl Witness {
    /// Starts it. The calling process should be small and have one thread.
    pub fn post() -> io::Result<Self> {
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        let parent = rustix::process::getpid();
        // SAFETY: the child calls only async-signal-safe functions and never returns from `witness`.
        let child = unsafe { libc::fork() };
        if child < 0 {
            return Err(io::Error::last_os_error());
        }
        match Pid::from_raw(child) {
            None => witness(theirs.as_raw_fd(), parent),
            Some(pid) => Ok(Self { pid, socket }),
        }
    }

    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// What it got since the last question, in no particular order. An error means that it is gone.
    pub fn ask(&mut self) -> io::Result<Vec<Told>> {
        self.tell(ASK, 0)?;
        let mut answer = [0; 1 + MOST * Told::SIZE];
        let length = self.receive(&mut answer)?;
        match answer.get(1..length) {
            Some(told) => Ok(told.chunks_exact(Told::SIZE).map(Told::parse).collect()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn receive(&self, answer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..TRIES {
            match rustix::net::recv(&self.socket, &mut *answer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(rustix::io::Errno::AGAIN) => rustix::process::kill_process(self.pid, Signal::CONT)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Continue us when the process `job` goes on or ends, until told to rest.
    pub fn watch(&self, job: u32) {
        let _ = self.tell(WATCH, job);
    }

    pub fn rest(&self) {
        let _ = self.tell(REST, 0);
    }

    fn tell(&self, what: u8, job: u32) -> io::Result<()> {
        let [a, b, c, d] = job.to_ne_bytes();
        rustix::net::send(&self.socket, &[what, a, b, c, d], SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Witness {
    /// Ends it, without waiting for that.
    pub fn dismiss(&self) {
        // The pid is ours until it is reaped; an error would say that it is gone, which is what we want.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.dismiss();
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// The life of the witness. Between fork and exit: no allocation, no lock, no panic.
fn witness(socket: RawFd, parent: Pid) -> ! {
    let everything = SignalSet::all().to_libc();
    let _ = super::set_mask(libc::SIG_BLOCK, &everything);
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Whoever reads our output to its end must not wait for us.
    close_all_but(socket.cast_unsigned());
    start::retitle(NAME.to_bytes());
    // SAFETY: a C string of at most 15 characters (prctl(2)).
    unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) };
    // Without this `pidof` finds the program behind the name.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let mut told = [0_u8; 5];
    while rustix::process::getppid() == Some(parent) {
        // SAFETY: `told` has room for the five bytes asked for.
        if unsafe { libc::read(socket, told.as_mut_ptr().cast(), told.len()) } < 1 {
            break;
        }
        let [what, a, b, c, d] = told;
        match what {
            ASK => answer(socket, &everything),
            WATCH => watch_over(u32::from_ne_bytes([a, b, c, d]), parent, socket),
            _ => {}
        }
    }
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// Tells all that is pending.
fn answer(socket: RawFd, everything: &libc::sigset_t) {
    let mut answer = [Told::NONE; MOST];
    let mut count = 0;
    while count < MOST
        && let Some(told) = take(everything)
    {
        told.write(&mut answer[count]);
        count += 1;
    }
    let mut packet = [0; 1 + MOST * Told::SIZE];
    packet[1..].copy_from_slice(answer.as_flattened());
    // SAFETY: the first `1 + count` records' worth of `packet` is initialised memory.
    unsafe { libc::send(socket, packet.as_ptr().cast(), 1 + count * Told::SIZE, libc::MSG_NOSIGNAL) };
}

/// Continues `parent` once `job` is not stopped, until there is something new on the socket.
fn watch_over(job: u32, parent: Pid, socket: RawFd) {
    // SAFETY: the socket stays open as long as this process lives.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let parents_id = parent.as_raw_nonzero().get().cast_unsigned();
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&GLANCE)) {
            Ok(0) => {}
            _ => return,
        }
        if !stop::is_stopped(job) && stop::is_stopped(parents_id) {
            let _ = rustix::process::kill_process(parent, Signal::CONT);
        }
    }
}

/// Takes one pending signal, if there is one.
fn take(set: &libc::sigset_t) -> Option<Told> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: all three point to their types; the set is blocked.
    if unsafe { libc::sigtimedwait(set, info.as_mut_ptr(), ptr::from_ref(&at_once)) } == -1 {
        return None;
    }
    // SAFETY: filled by the call.
    let info = unsafe { info.assume_init() };
    // SAFETY: every `siginfo_t` starts as one of `kill`'s; for another kind the bytes are still initialised.
    let pid = unsafe { info.si_pid() };
    Some(Told { signal: info.si_signo, code: info.si_code, pid: pid.cast_unsigned() })
}

/// `kept` is never 0: the runtime sees to it that the standard streams are open.
fn close_all_but(kept: u32) {
    for (first, last) in [(0, kept - 1), (kept + 1, u32::MAX)] {
        // SAFETY: nothing in this process uses a descriptor other than `kept` from here on.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
