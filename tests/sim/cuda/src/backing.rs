//! What is written to device memory can be read back: the bytes that copies touch lie in this process's memory.
//!
//! Only what is touched costs anything, and nothing does before the first copy.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::arena::{ADDRESSES_PER_GPU, FIRST_ADDRESS, RESERVED};

/// One range for each GPU and some for reserved addresses, as [`crate::arena`] gives them out.
const RANGES: usize = gpu_sim_state::MAX_GPUS + RESERVED;

const PAGE: u64 = 4096;

/// What a process's copies may take of this machine's memory.
const KEPT_AT_MOST: usize = 256 << 20;
static KEPT: AtomicUsize = AtomicUsize::new(0);

static SHADOWS: [OnceLock<usize>; RANGES] = [const { OnceLock::new() }; RANGES];

/// Where the bytes of a device address are; `None` if the system gives no room for them.
pub(crate) fn of(address: u64) -> Option<*mut u8> {
    let (range, offset) = split(address)?;
    let start = *SHADOWS[range].get_or_init(|| reserve().unwrap_or(0));
    (start != 0).then(|| ptr::with_exposed_provenance_mut(start + offset))
}

/// Whether another `size` bytes can be kept. A job that fills its GPU must not fill this machine's memory: once it has
/// written much, what it writes is lost.
pub(crate) fn may_keep(size: usize) -> bool {
    KEPT.fetch_add(size, Relaxed).saturating_add(size) <= KEPT_AT_MOST
}

/// Forgets what was written to whole pages that are freed.
pub(crate) fn forget(address: u64, size: u64) {
    if let Some(start) = existing(address) {
        // SAFETY: the range is part of this module's own mapping, and no reference into it exists.
        unsafe { libc::madvise(start.cast(), size as usize, libc::MADV_DONTNEED) };
    }
}

/// Makes bytes zero; whole pages of them by giving them back.
pub(crate) fn zero(address: u64, size: u64) {
    let Some(start) = existing(address) else { return };
    let (first, last) = (address.next_multiple_of(PAGE), (address + size) / PAGE * PAGE);
    let edges = if first < last {
        forget(first, last - first);
        [(address, first), (last, address + size)]
    } else {
        [(address, address + size), (0, 0)]
    };
    for (from, to) in edges {
        if from < to {
            // SAFETY: part of this module's own mapping, to which no reference exists.
            unsafe { start.add((from - address) as usize).write_bytes(0, (to - from) as usize) };
        }
    }
}

/// Where the bytes of an address are, if anything was ever written to this GPU.
fn existing(address: u64) -> Option<*mut u8> {
    let (range, offset) = split(address)?;
    let start = SHADOWS[range].get().copied().filter(|start| *start != 0)?;
    Some(ptr::with_exposed_provenance_mut(start + offset))
}

fn split(address: u64) -> Option<(usize, usize)> {
    let offset = address.checked_sub(FIRST_ADDRESS)?;
    let range = (offset / ADDRESSES_PER_GPU) as usize;
    (range < RANGES).then_some((range, (offset % ADDRESSES_PER_GPU) as usize))
}

fn reserve() -> Option<usize> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the system's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), ADDRESSES_PER_GPU as usize, access, flags, -1, 0) };
    (start != libc::MAP_FAILED).then(|| start.expose_provenance())
}
