//! Stream-ordered memory, counted by what its pools hold. Where the driver has none it is borrowed, as linear memory is.

use crate::driver::{self, SUCCESS, Status, Stream};
use crate::holder::Turn;
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::memory::borrowed;
use crate::hooks::{A_LITTLE, current_gpu, insist, own_or_borrowed};
use crate::lending;
use crate::state::{allocated, freeing, state};
use crate::table::Kind;

pub const HOOKS: &[&Hook] = &[
    &ALLOC,
    &ALLOC_PER_THREAD,
    &ALLOC_FROM,
    &ALLOC_FROM_PER_THREAD,
    &FREE,
    &FREE_PER_THREAD,
    &CREATE,
    &DESTROY,
    &TRIM,
    &STREAM_SYNC,
    &STREAM_SYNC_PER_THREAD,
    &CONTEXT_SYNC,
    &CONTEXT_SYNC_V2,
    &EVENT_SYNC,
];

/// Calls the driver for memory out of a pool, of the current device unless it is given, and counts what the pool holds then.
/// Borrows where the driver has none, if the stream is not recorded for a graph.
fn allocate(
    size: usize,
    pool: Option<u64>,
    address: *mut u64,
    stream: Stream,
    mut call: impl FnMut() -> Status,
) -> Status {
    // SAFETY: the caller's place for the address, for which the caller vouches to the driver.
    let borrow = || !stream.is_capturing() && unsafe { borrowed(address, size as u64) };
    own_or_borrowed(size as u64, borrow, |need| {
        let mut turn = Turn::default();
        let status = insist(&mut turn, current_gpu, need, &mut call);
        if status == SUCCESS && !count(pool) {
            // SAFETY: where the driver succeeded it has written the address.
            allocated(Kind::Memory, unsafe { *address }, size as u64);
        }
        status
    })
}

/// Says whether the pool's size is known, or none of the reservation's GPUs is concerned.
fn count(pool: Option<u64>) -> bool {
    let Some(state) = state() else { return true };
    let known = pool.and_then(|pool| Some((pool, state.pools.gpu(pool)?)));
    let of_device = || {
        let device = driver::current_device()?;
        Some((pool.or_else(|| driver::current_pool(device))?, state.gpu(device)?))
    };
    known.or_else(of_device).is_none_or(|(pool, gpu)| state.pools.refresh(state, pool, gpu))
}

fn free(address: u64, stream: Stream, call: impl FnOnce() -> Status) -> Status {
    let is_borrowed = lending::is_borrowed(address) && !stream.is_capturing();
    let borrowed = if is_borrowed { lending::free_in_order(address, stream) } else { None };
    borrowed.unwrap_or_else(|| freeing(Kind::Memory, address, call))
}

/// Counts anew after a call that may have made pools shrink.
fn synchronized(status: Status) -> Status {
    if let Some(state) = state() {
        state.pools.synchronized(state);
    }
    status
}

hook! {
    ALLOC = c"cuMemAllocAsync", c"cuMemAllocAsync", (11020, NEWEST), false;
    fn cuMemAllocAsync(address: *mut u64, size: usize, stream: usize) |real| {
        allocate(size, None, address, Stream::Legacy(stream), || real(address, size, stream))
    }
}

hook! {
    ALLOC_PER_THREAD = c"cuMemAllocAsync_ptsz", c"cuMemAllocAsync", (11020, NEWEST), true;
    fn cuMemAllocAsync_ptsz(address: *mut u64, size: usize, stream: usize) |real| {
        allocate(size, None, address, Stream::PerThread(stream), || real(address, size, stream))
    }
}

hook! {
    ALLOC_FROM = c"cuMemAllocFromPoolAsync", c"cuMemAllocFromPoolAsync", (11020, NEWEST), false;
    fn cuMemAllocFromPoolAsync(address: *mut u64, size: usize, pool: u64, stream: usize) |real| {
        allocate(size, Some(pool), address, Stream::Legacy(stream), || real(address, size, pool, stream))
    }
}

hook! {
    ALLOC_FROM_PER_THREAD = c"cuMemAllocFromPoolAsync_ptsz", c"cuMemAllocFromPoolAsync", (11020, NEWEST), true;
    fn cuMemAllocFromPoolAsync_ptsz(address: *mut u64, size: usize, pool: u64, stream: usize) |real| {
        allocate(size, Some(pool), address, Stream::PerThread(stream), || real(address, size, pool, stream))
    }
}

hook! {
    FREE = c"cuMemFreeAsync", c"cuMemFreeAsync", (11020, NEWEST), false;
    fn cuMemFreeAsync(address: u64, stream: usize) |real| {
        free(address, Stream::Legacy(stream), || real(address, stream))
    }
}

hook! {
    FREE_PER_THREAD = c"cuMemFreeAsync_ptsz", c"cuMemFreeAsync", (11020, NEWEST), true;
    fn cuMemFreeAsync_ptsz(address: u64, stream: usize) |real| {
        free(address, Stream::PerThread(stream), || real(address, stream))
    }
}

/// `CUmemPoolProps`, as far as it is of interest.
#[repr(C)]
struct Properties {
    kind: u32,
    handle_types: u32,
    location: u32,
    id: i32,
}

hook! {
    CREATE = c"cuMemPoolCreate", c"cuMemPoolCreate", (11020, NEWEST), false;
    fn cuMemPoolCreate(pool: *mut u64, properties: *const Properties) |real| {
        const DEVICE: u32 = 1;
        let mut turn = Turn::default();
        let status = insist(&mut turn, current_gpu, A_LITTLE, || real(pool, properties));
        if status == SUCCESS
            && let Some(state) = state()
            // SAFETY: the driver has read them, so they are there.
            && let Some(Properties { location: DEVICE, id, .. }) = unsafe { properties.as_ref() }
            && let Some(gpu) = state.gpu(*id)
        {
            // SAFETY: where the driver succeeded it has written the handle.
            state.pools.created(unsafe { *pool }, gpu);
        }
        status
    }
}

hook! {
    DESTROY = c"cuMemPoolDestroy", c"cuMemPoolDestroy", (11020, NEWEST), false;
    fn cuMemPoolDestroy(pool: u64) |real| {
        let status = real(pool);
        if status == SUCCESS
            && let Some(state) = state()
        {
            state.pools.destroyed(state, pool);
        }
        status
    }
}

hook! {
    TRIM = c"cuMemPoolTrimTo", c"cuMemPoolTrimTo", (11020, NEWEST), false;
    fn cuMemPoolTrimTo(pool: u64, keep: usize) |real| {
        let status = real(pool, keep);
        if let Some(state) = state() {
            state.pools.refresh_all(state);
        }
        status
    }
}

hook! {
    STREAM_SYNC = c"cuStreamSynchronize", c"cuStreamSynchronize", (2000, NEWEST), false;
    fn cuStreamSynchronize(stream: usize) |real| {
        synchronized(real(stream))
    }
}

hook! {
    STREAM_SYNC_PER_THREAD = c"cuStreamSynchronize_ptsz", c"cuStreamSynchronize", (7000, NEWEST), true;
    fn cuStreamSynchronize_ptsz(stream: usize) |real| {
        synchronized(real(stream))
    }
}

hook! {
    CONTEXT_SYNC = c"cuCtxSynchronize", c"cuCtxSynchronize", (2000, 13000), false;
    fn cuCtxSynchronize() |real| {
        synchronized(real())
    }
}

hook! {
    CONTEXT_SYNC_V2 = c"cuCtxSynchronize_v2", c"cuCtxSynchronize", (13000, NEWEST), false;
    fn cuCtxSynchronize_v2(context: u64) |real| {
        synchronized(real(context))
    }
}

hook! {
    EVENT_SYNC = c"cuEventSynchronize", c"cuEventSynchronize", (2000, NEWEST), false;
    fn cuEventSynchronize(event: usize) |real| {
        synchronized(real(event))
    }
}
