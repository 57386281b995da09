//! System calls without the C library, so that the job's `errno` stays as it is and no symbol of a certain libc is needed.

use core::arch::asm;
use core::ffi::c_void;

use super::protocol::MOST_PIECES;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const MADVISE: usize = 28;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDTO: usize = 44;
    pub const RECVMSG: usize = 47;
    pub const SETSOCKOPT: usize = 54;
    pub const FUTEX: usize = 202;
    pub const NANOSLEEP: usize = 35;
    pub const CLOCK_GETTIME: usize = 228;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const CLOSE: usize = 57;
    pub const FUTEX: usize = 98;
    pub const NANOSLEEP: usize = 101;
    pub const CLOCK_GETTIME: usize = 113;
    pub const SOCKET: usize = 198;
    pub const CONNECT: usize = 203;
    pub const SENDTO: usize = 206;
    pub const SETSOCKOPT: usize = 208;
    pub const RECVMSG: usize = 212;
    pub const MUNMAP: usize = 215;
    pub const MMAP: usize = 222;
    pub const MADVISE: usize = 233;
}

const INTERRUPTED: isize = -4;
const WOULD_BLOCK: isize = -11;

/// A system call; the kernel's answer, negative for an error.
///
/// # Safety
/// As for the call itself.
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's calling convention: these registers in, `rax` out, `rcx` and `r11` lost.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's calling convention: these registers in, `x0` out.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
             in("x4") e, in("x5") f, options(nostack));
    }
    result
}

/// Memory that a forked child finds zeroed (`MADV_WIPEONFORK`); `None` where there is none to be had.
pub fn map_wiped_on_fork(length: usize) -> Option<*mut u8> {
    const READ_WRITE: usize = 1 | 2;
    const PRIVATE_ANONYMOUS: usize = 0x02 | 0x20;
    const WIPE_ON_FORK: usize = 18;
    // SAFETY: a new mapping anywhere touches no memory in use.
    let address = unsafe { call(number::MMAP, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]) };
    let address = usize::try_from(address).ok()?;
    // SAFETY: the mapping just made.
    if unsafe { call(number::MADVISE, [address, length, WIPE_ON_FORK, 0, 0, 0]) } < 0 {
        unmap(address as *mut u8, length);
        return None;
    }
    Some(address as *mut u8)
}

/// Maps a descriptor to be shared with its other users.
pub fn map_shared(descriptor: i32, length: usize) -> Option<*mut u8> {
    const READ_WRITE: usize = 1 | 2;
    const SHARED: usize = 1;
    // SAFETY: a new mapping anywhere touches no memory in use.
    let address = unsafe { call(number::MMAP, [0, length, READ_WRITE, SHARED, descriptor as usize, 0]) };
    usize::try_from(address).ok().map(|address| address as *mut u8)
}

/// Gives a mapping back, to which the caller must hold no reference.
pub fn unmap(address: *mut u8, length: usize) {
    // SAFETY: the caller's mapping.
    unsafe { call(number::MUNMAP, [address as usize, length, 0, 0, 0, 0]) };
}

/// Microseconds on a clock that runs steadily.
pub fn now() -> i64 {
    const MONOTONIC: usize = 1;
    let mut time = [0_i64; 2];
    let at = (&raw mut time) as usize;
    // SAFETY: a place for a `timespec`, two words.
    unsafe { call(number::CLOCK_GETTIME, [MONOTONIC, at, 0, 0, 0, 0]) };
    time[0] * 1_000_000 + time[1] / 1000
}

/// Sleeps for less than a second, or until a signal.
pub fn sleep(milliseconds: i64) {
    let time = [0_i64, milliseconds * 1_000_000];
    // SAFETY: a `timespec`, two words.
    unsafe { call(number::NANOSLEEP, [time.as_ptr() as usize, 0, 0, 0, 0, 0]) };
}

/// Which processes may share a futex.
#[derive(Clone, Copy)]
pub enum Futex {
    OfProcess = 128,
    Shared = 0,
}

/// Sleeps while `word` is `expected`, or for no reason.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32, kind: Futex) {
    // SAFETY: the word is alive; the kernel only reads it.
    unsafe { call(number::FUTEX, [word.as_ptr() as usize, kind as usize, expected as usize, 0, 0, 0]) };
}

pub fn futex_wake(word: &core::sync::atomic::AtomicU32, most: usize, kind: Futex) {
    const WAKE: usize = 1;
    // SAFETY: the kernel takes the address for a name.
    unsafe { call(number::FUTEX, [word.as_ptr() as usize, kind as usize | WAKE, most, 0, 0, 0]) };
}

/// A connected socket that keeps packets apart. Closed when dropped; never passed on to another program.
pub struct Socket(i32);

#[repr(C)]
struct Address {
    family: u16,
    path: [u8; super::protocol::PATH],
}

#[repr(C)]
struct Buffer {
    start: *mut c_void,
    length: usize,
}

#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    buffers: *mut Buffer,
    buffer_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: i32,
}

/// `cmsghdr` with descriptors.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; MOST_PIECES],
}

impl Control {
    const HEADER: usize = core::mem::offset_of!(Self, descriptors);
}

const UNIX: usize = 1;
const SOL_SOCKET: usize = 1;
const SCM_RIGHTS: i32 = 1;

impl Socket {
    /// Connects to `path`; each later step gives up after `seconds`.
    pub fn connect(path: &[u8; super::protocol::PATH], seconds: i64) -> Option<Self> {
        const SEQPACKET_CLOEXEC: usize = 5 | 0o2_000_000;
        const TIMEOUTS: [usize; 2] = [20, 21];
        // SAFETY: takes no pointer.
        let socket = unsafe { call(number::SOCKET, [UNIX, SEQPACKET_CLOEXEC, 0, 0, 0, 0]) };
        let socket = Self(i32::try_from(socket).ok().filter(|socket| *socket >= 0)?);
        let timeout = [seconds, 0];
        for option in TIMEOUTS {
            let at = timeout.as_ptr() as usize;
            // SAFETY: the option is a `timeval`, two words.
            unsafe { call(number::SETSOCKOPT, [socket.0 as usize, SOL_SOCKET, option, at, size_of_val(&timeout), 0]) };
        }
        let address = Address { family: UNIX as u16, path: *path };
        let at = (&raw const address) as usize;
        // SAFETY: a whole `sockaddr_un`.
        let connect = || unsafe { call(number::CONNECT, [socket.0 as usize, at, size_of::<Address>(), 0, 0, 0]) };
        (uninterrupted(connect) == 0).then_some(socket)
    }

    /// Sends one packet.
    pub fn send<T: super::protocol::Packet>(&self, packet: &T) -> bool {
        const NO_SIGNAL: usize = 0x4000;
        let at = core::ptr::from_ref(packet) as usize;
        // SAFETY: `packet` is alive and as long as said.
        let send = || unsafe { call(number::SENDTO, [self.0 as usize, at, size_of::<T>(), NO_SIGNAL, 0, 0]) };
        uninterrupted(send) == size_of::<T>() as isize
    }

    /// Receives one packet of exactly the right length, and the descriptors that came with it: fewer than were sent where
    /// this process may open no more of them (`MSG_CTRUNC`, recvmsg(2)).
    pub fn receive<T: super::protocol::Packet>(&self, packet: &mut T) -> Option<Descriptors> {
        self.receive_with(packet, 0).ok()
    }

    /// Whether a packet is there already; an error says that none will come.
    pub fn receive_at_once<T: super::protocol::Packet>(&self, packet: &mut T) -> Result<bool, ()> {
        const AT_ONCE: usize = 0x40;
        match self.receive_with(packet, AT_ONCE) {
            Ok(_) => Ok(true),
            Err(WOULD_BLOCK) => Ok(false),
            Err(_) => Err(()),
        }
    }

    fn receive_with<T: super::protocol::Packet>(&self, packet: &mut T, flags: usize) -> Result<Descriptors, isize> {
        const CLOEXEC: usize = 0x4000_0000;
        let mut buffer = Buffer { start: core::ptr::from_mut(packet).cast(), length: size_of::<T>() };
        let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [-1; MOST_PIECES] };
        let mut message = Message {
            name: 0,
            name_length: 0,
            buffers: &raw mut buffer,
            buffer_count: 1,
            control: (&raw mut control).cast(),
            control_length: size_of::<Control>(),
            flags: 0,
        };
        let at = (&raw mut message) as usize;
        // SAFETY: a `msghdr` whose buffers are alive and as long as said.
        let receive = || unsafe { call(number::RECVMSG, [self.0 as usize, at, CLOEXEC | flags, 0, 0, 0]) };
        let length = uninterrupted(receive);
        let carried = control.level == SOL_SOCKET as i32 && control.kind == SCM_RIGHTS;
        let bytes = if carried { control.length.saturating_sub(Control::HEADER) } else { 0 };
        let count = (bytes / size_of::<i32>()).min(MOST_PIECES);
        let descriptors = Descriptors { numbers: control.descriptors, count };
        if length == size_of::<T>() as isize { Ok(descriptors) } else { Err(length) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// The descriptors that came with a packet. Closed when dropped.
pub struct Descriptors {
    numbers: [i32; MOST_PIECES],
    count: usize,
}

impl Descriptors {
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn first(&self) -> Option<i32> {
        self.numbers().first().copied()
    }

    pub fn numbers(&self) -> &[i32] {
        self.numbers.get(..self.count).unwrap_or(&[])
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.numbers().iter().for_each(|descriptor| close(*descriptor));
    }
}

fn close(descriptor: i32) {
    // SAFETY: its owner is being dropped.
    unsafe { call(number::CLOSE, [descriptor as usize, 0, 0, 0, 0, 0]) };
}

/// Repeats a call that signals interrupt, but not for ever: a timer that fires faster than the holder answers would
/// otherwise keep the job here.
fn uninterrupted(call: impl Fn() -> isize) -> isize {
    let mut result = INTERRUPTED;
    for _ in 0..1000 {
        result = call();
        if result != INTERRUPTED {
            break;
        }
    }
    result
}
