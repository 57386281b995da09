//! What is written to device memory can be read back: each byte that a copy touches lies in this process's memory.
//!
//! Only what is touched costs anything, and nothing does before the first copy.

use std::ptr;
use std::sync::OnceLock;

use crate::arena::{ADDRESSES_PER_GPU, FIRST_ADDRESS};

/// One range for each GPU and one for reserved addresses, as [`crate::arena`] gives them out.
const RANGES: usize = gpu_sim_state::MAX_GPUS + 1;

static SHADOWS: [OnceLock<usize>; RANGES] = [const { OnceLock::new() }; RANGES];

/// Where the bytes of a device address are; `None` if the system gives no room for them.
pub(crate) fn of(address: u64) -> Option<*mut u8> {
    let (range, offset) = split(address)?;
    let start = *SHADOWS[range].get_or_init(|| reserve().unwrap_or(0));
    (start != 0).then(|| ptr::with_exposed_provenance_mut(start + offset))
}

/// Forgets what was written to whole pages that are freed.
pub(crate) fn forget(address: u64, size: u64) {
    let Some((range, offset)) = split(address) else { return };
    let Some(start) = SHADOWS[range].get().copied().filter(|start| *start != 0) else { return };
    // SAFETY: the range is part of this module's own mapping, and no reference into it exists.
    unsafe { libc::madvise(ptr::with_exposed_provenance_mut(start + offset), size as usize, libc::MADV_DONTNEED) };
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
