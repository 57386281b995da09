//! Memory of the balloon that the job maps instead of taking its own from the driver. Holder and job then have it both, so it
//! is never free: nobody can take it while it changes hands, and when the job lets go of it the balloon still has it.
//!
//! It comes in the balloon's chunks. They are mapped one behind the other, so that an allocation of any size can be made of
//! them, and to the job it is memory of `cuMemAlloc`.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::driver::{self, SUCCESS, Status, Stream};
use crate::heap::{Content, Heap, Piece, Use};
use crate::holder::{self, Loan};
use crate::protocol::{LENDS_FIRST, LENDS_NEVER, Uuid};
use crate::state::{DEVICES, State, state};
use crate::system;

/// For each GPU several times its memory, and for eight GPUs a fraction of a process's 128 TB, of which the job may reserve some,
/// too. Where there are fewer: the half, and so on.
const MOST_ADDRESSES: u64 = 2 << 40;
const LEAST_ADDRESSES: u64 = 64 << 30;

/// How long memory is borrowed first, in microseconds, after others were faster to take what was freed for this process.
const WARY: i64 = 60_000_000;

/// Whether there is a balloon to borrow from.
pub fn is_possible() -> bool {
    holder::lends() != LENDS_NEVER
}

/// Whether to borrow before the driver is asked.
pub fn comes_first() -> bool {
    match holder::lends() {
        LENDS_NEVER => false,
        LENDS_FIRST => true,
        _ => match state().map_or(0, |state| state.wary_until.load(Relaxed)) {
            0 => false,
            until => until > system::now(),
        },
    }
}

/// Others were faster.
pub fn lost_a_race() {
    if let Some(state) = state() {
        state.wary_until.store(system::now() + WARY, Relaxed);
    }
}

/// Memory of `asked` bytes, for which `size` are taken, as from `cuMemAlloc`. `None`: it cannot be borrowed.
pub fn allocate(asked: u64, size: u64) -> Option<u64> {
    let state = state().filter(|_| is_possible())?;
    let current = state.current.get(state, true)?;
    let gpu = state.uuid(current.gpu)?;
    let mut heaps = state.heaps.lock();
    let heap = heaps.get_mut(usize::from(current.gpu))?;
    let of = Use { context: current.context, asked };
    let address = heap.allocate(size, of).or_else(|| {
        driver::beside_recordings(|| grow(state, heap, gpu, size))?;
        heap.allocate(size, of)
    });
    give_back_idle(heap, gpu);
    if address.is_some() {
        state.has_borrowed.store(true, Release);
    }
    address
}

/// A handle of one piece of exactly `size` bytes on a GPU, and the number of its loan. Whoever lets go of the memory gives the
/// loan back.
pub fn piece(gpu: Uuid, size: u64) -> Option<(u64, u64)> {
    let state = state().filter(|_| is_possible())?;
    let number = state.table.lock().next_number();
    let loan = Loan::ask_for_one(gpu, number, size)?;
    let imported = || {
        loan.ask_for_pieces(0)?;
        driver::import(loan.pieces()?.1.first()?)
    };
    match imported() {
        Some(handle) => Some((handle, number)),
        None => {
            loan.give_back_from(0);
            None
        }
    }
}

/// Whether memory from there was borrowed.
pub fn is_borrowed(address: u64) -> bool {
    around(address).is_some_and(|(first, _)| first == address)
}

/// Frees what was borrowed, as `cuMemFree` does: when the GPU is done with it. `None`: it is not borrowed.
pub fn free(address: u64) -> Option<Status> {
    free_after(address, driver::synchronize)
}

/// Frees what was borrowed, as `cuMemFreeAsync` does: when the stream is done with what was asked of it, whatever others do.
pub fn free_in_order(address: u64, stream: Stream) -> Option<Status> {
    free_after(address, |_| driver::beside_recordings(|| stream.synchronize()))
}

/// `wait` waits for the GPU, given the context of the allocation.
fn free_after(address: u64, wait: impl FnOnce(u64) -> Status) -> Option<Status> {
    let state = state().filter(|state| state.has_borrowed.load(Acquire))?;
    let context = with_heap_of(state, |heap, _| match heap.used(address)?.content {
        Content::Used(of) => Some(of.context),
        Content::Hole | Content::Spare => None,
    })?;
    let status = wait(context);
    if status != SUCCESS {
        return Some(status);
    }
    with_heap_of(state, |heap, gpu| {
        heap.used(address)?;
        heap.free(address);
        give_back_idle(heap, gpu);
        Some(SUCCESS)
    })
}

/// What was borrowed in a context that is gone goes with it.
pub fn context_gone(state: &State, context: u64) {
    if !state.has_borrowed.load(Acquire) {
        return;
    }
    let mut end = |heap: &mut Heap, gpu| {
        let is_free = heap.free(heap.used_in(context)?.address);
        give_back_idle(heap, gpu);
        is_free.then_some(())
    };
    while with_heap_of(state, &mut end).is_some() {}
}

/// The allocation around an address: where it begins, and what it is.
pub fn around(address: u64) -> Option<(u64, Use)> {
    let state = state().filter(|state| state.has_borrowed.load(Acquire))?;
    with_heap_of(state, |heap, _| {
        let range = heap.around(address)?;
        match range.content {
            Content::Used(of) => Some((range.address, of)),
            Content::Hole | Content::Spare => None,
        }
    })
}

/// Kernels on `accessor` may from now on touch what `owner` has: unlike memory from the driver, this must be told of it.
pub fn peer_enabled(owner: i32, accessor: i32) {
    let enabled = || {
        let state = state().filter(|_| is_possible())?;
        let peers = state.peers.get(usize::try_from(owner).ok()?)?;
        peers.fetch_or(1_u64.checked_shl(accessor.cast_unsigned())?, AcqRel);
        let gpu = state.gpu(owner)?;
        for piece in state.heaps.lock().get(usize::from(gpu))?.pieces() {
            driver::allow_access(piece.address, piece.size, accessor);
        }
        Some(())
    };
    enabled();
}

/// What `find` finds in one of the heaps.
fn with_heap_of<T>(state: &State, mut find: impl FnMut(&mut Heap, Uuid) -> Option<T>) -> Option<T> {
    let uuids = state.membership()?.uuids();
    let mut heaps = state.heaps.lock();
    heaps.iter_mut().zip(uuids).find_map(|(heap, gpu)| find(heap, *gpu))
}

/// Borrows as much as is missing for an allocation of `size` bytes, and maps it. All of it, or nothing.
fn grow(state: &State, heap: &mut Heap, gpu: Uuid, size: u64) -> Option<()> {
    let device = driver::current_device()?;
    if !heap.is_open() {
        let (address, size) = addresses()?;
        heap.open(address, size);
    }
    let (address, missing) = heap.place_for(size)?;
    let number = state.table.lock().next_number();
    let loan = Loan::ask(gpu, number, missing)?;
    let is_complete = loan.size <= heap.hole_at(address) && map_pieces(&loan, heap, address, number).is_some();
    if !is_complete || !allow_access(state, address, loan.size, device) {
        let mapped = heap.pieces().iter().filter(|piece| piece.loan == number).count();
        loan.give_back_from(mapped as u32);
        return None;
    }
    Some(())
}

/// Maps one piece behind the other as far as it goes. The mapping keeps the memory, so the handle is not needed for long.
fn map_pieces(loan: &Loan, heap: &mut Heap, address: u64, number: u64) -> Option<()> {
    let (mut mapped, mut place) = (0, 0);
    let mut asked = 0;
    loan.ask_for_pieces(0)?;
    while mapped < loan.size {
        let (size, descriptors) = loan.pieces()?;
        asked += descriptors.count() as u32;
        if mapped + size * (descriptors.count() as u64) < loan.size {
            // The holder gets these ready while the others are mapped.
            loan.ask_for_pieces(asked)?;
        }
        if !heap.reserve(descriptors.count()) {
            return None;
        }
        for descriptor in descriptors.numbers() {
            let handle = driver::import(*descriptor)?;
            let piece = Piece { address: address + mapped, size, loan: number, place };
            let is_mapped = driver::map(piece.address, size, handle);
            driver::release(handle);
            if !is_mapped {
                return None;
            }
            heap.add(piece);
            mapped += size;
            place += 1;
        }
    }
    Some(())
}

/// For the device itself, and for those that were allowed to access its memory.
fn allow_access(state: &State, address: u64, size: u64, device: i32) -> bool {
    let peers = usize::try_from(device).ok().and_then(|device| state.peers.get(device));
    let peers = peers.map_or(0, |peers| peers.load(Acquire));
    let is_allowed = driver::allow_access(address, size, device);
    for peer in (0..DEVICES as i32).filter(|peer| is_allowed && peers >> peer & 1 == 1) {
        driver::allow_access(address, size, peer);
    }
    is_allowed
}

/// Pieces that nothing is allocated of are the balloon's again.
fn give_back_idle(heap: &mut Heap, gpu: Uuid) {
    while let Some(piece) = heap.take_idle() {
        driver::beside_recordings(|| driver::unmap(piece.address, piece.size));
        holder::give_back(gpu, piece.loan, piece.place, 1);
    }
}

fn addresses() -> Option<(u64, u64)> {
    let mut size = MOST_ADDRESSES;
    while size >= LEAST_ADDRESSES {
        if let Some(address) = driver::reserve_addresses(size) {
            return Some((address, size));
        }
        size /= 2;
    }
    None
}
