//! What the caller gave this process, noted before Rust's runtime changes it: the runtime ignores SIGPIPE and opens
//! `/dev/null` on closed standard streams before `main`, so `main` is too late to see what CMD must get back.

use std::ffi::{c_char, c_int};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering::Relaxed};

static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);
static CLOSED_STREAMS: AtomicU8 = AtomicU8::new(0);
static ARGUMENTS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static ARGUMENTS_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// The dynamic linker calls this before `main`; glibc hands over the arguments (on Linux, both architectures).
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn(c_int, *const *mut c_char) = note;

extern "C" fn note(count: c_int, arguments: *const *mut c_char) {
    SIGPIPE_IGNORED.store(super::is_ignored(libc::SIGPIPE), Relaxed);
    let mut closed = 0;
    for stream in 0..=2 {
        // SAFETY: asks for a flag of a number that may or may not be open; touches no memory.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            closed |= 1 << stream;
        }
    }
    CLOSED_STREAMS.store(closed, Relaxed);
    let Some(last) = usize::try_from(count).ok().and_then(|n| n.checked_sub(1)) else {
        return;
    };
    // SAFETY: `arguments` is main's argv: `count` pointers to C strings that live as long as the process.
    let (first, last) = unsafe { (*arguments, *arguments.add(last)) };
    // SAFETY: as above, a C string.
    let length = unsafe { libc::strlen(last) };
    ARGUMENTS.store(first.cast(), Relaxed);
    ARGUMENTS_LENGTH.store((last as usize + length).saturating_sub(first as usize), Relaxed);
}

/// Whether SIGPIPE was ignored when the program started (before Rust's runtime ignored it).
pub fn sigpipe_was_ignored() -> bool {
    SIGPIPE_IGNORED.load(Relaxed)
}

/// Those of descriptors 0, 1, 2 that were closed when the program started; `/dev/null` sits there since.
pub fn closed_streams() -> impl Iterator<Item = u32> {
    let closed = CLOSED_STREAMS.load(Relaxed);
    (0..=2).filter(move |stream| closed & (1 << stream) != 0)
}

/// Writes `title` over this process's command line, as far as it fits. Only for a fork that never looks at its arguments
/// again. Allocates nothing.
pub fn retitle(title: &[u8]) {
    let start = ARGUMENTS.load(Relaxed);
    if start.is_null() {
        return;
    }
    // SAFETY: the kernel lays the argument strings out in a row, writable, for the life of the process (proc(5),
    // `cmdline`); the fork that calls this has one thread and holds no reference into them.
    let area = unsafe { slice::from_raw_parts_mut(start, ARGUMENTS_LENGTH.load(Relaxed)) };
    area.fill(0);
    for (to, from) in area.iter_mut().zip(title) {
        *to = *from;
    }
}
