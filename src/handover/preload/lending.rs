//! Memory of the balloon that the job maps instead of taking its own from the driver. Holder and job then have it both, so it
//! is never free: nobody can take it while it changes hands, and when the job lets go of it the balloon still has it.
//!
//! It comes in whole pieces, which lie side by side in addresses of this process. To the job it is memory of `cuMemAlloc`.

use core::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::driver::{self, SUCCESS, Status};
use crate::holder::{self, Loan};
use crate::protocol::Uuid;
use crate::state::{DEVICES, State, state};
use crate::table::{Entry, Kind};

/// Memory from `cuMemAlloc` of `size` bytes, for which pieces may be `extra` bytes too large. `None`: it cannot be borrowed.
pub fn allocate(size: u64, extra: u64) -> Option<u64> {
    let state = state().filter(|_| holder::lends())?;
    let current = state.current.get(state, true)?;
    let gpu = *state.membership()?.uuids().get(usize::from(current.gpu))?;
    let device = driver::current_device()?;
    let number = state.table.lock().next_number();
    let loan = Loan::ask(gpu, number, size, extra)?;
    let memory = map(&loan, state, device).filter(|memory| {
        let Mapped { address, size } = *memory;
        let borrowed = Entry { key: address, size, owner: current.context, ..entry(Kind::Borrowed, current.gpu) };
        let loan = Entry { key: address, size, owner: number, ..entry(Kind::Loan, current.gpu) };
        let mut table = state.table.lock();
        let is_noted = table.insert(borrowed) && table.insert(loan);
        if !is_noted {
            table.remove(Kind::Borrowed, address);
            memory.undo();
        }
        is_noted
    });
    if memory.is_none() {
        holder::give_back(gpu, number);
    }
    memory.map(|memory| memory.address)
}

fn entry(kind: Kind, gpu: u8) -> Entry {
    Entry { key: 0, size: 0, owner: 0, kind, gpu, handles: 0, mappings: 0 }
}

/// Frees what was borrowed, as `cuMemFree` does: when the GPU is done with it. `None`: it is not borrowed.
pub fn free(address: u64) -> Option<Status> {
    let state = state().filter(|_| holder::lends())?;
    let borrowed = *state.table.lock().get(Kind::Borrowed, address)?;
    let status = driver::synchronize(borrowed.owner);
    if status == SUCCESS {
        give_back(state, address);
    }
    Some(status)
}

/// What was borrowed in a context that is gone goes with it.
pub fn context_gone(state: &State, context: u64) {
    loop {
        let borrowed = state.table.lock().find_owned(Kind::Borrowed, context);
        let Some(borrowed) = borrowed else { return };
        give_back(state, borrowed.key);
    }
}

/// The allocation around an address: where it begins, and its size.
pub fn around(address: u64) -> Option<(u64, u64)> {
    let state = state().filter(|_| holder::lends())?;
    let borrowed = state.table.lock().around(Kind::Borrowed, address)?;
    Some((borrowed.key, borrowed.size))
}

/// Kernels on `accessor` may from now on touch what `owner` has: unlike memory from the driver, this must be told of it.
pub fn peer_enabled(owner: i32, accessor: i32) {
    let enabled = || {
        let state = state().filter(|_| holder::lends())?;
        let owner_at = usize::try_from(owner).ok()?;
        state.peers.get(owner_at)?.fetch_or(1_u64.checked_shl(accessor.cast_unsigned())?, AcqRel);
        let gpu = state.gpu(owner)?;
        state.table.lock().each(Kind::Borrowed, |borrowed| {
            if borrowed.gpu == gpu {
                driver::allow_access(borrowed.key, borrowed.size, accessor);
            }
        });
        Some(())
    };
    enabled();
}

fn give_back(state: &State, address: u64) {
    let mut table = state.table.lock();
    let (Some(borrowed), Some(loan)) = (table.remove(Kind::Borrowed, address), table.remove(Kind::Loan, address)) else {
        return;
    };
    drop(table);
    Mapped { address, size: borrowed.size }.undo();
    if let Some(gpu) = uuid(state, borrowed.gpu) {
        holder::give_back(gpu, loan.owner);
    }
}

fn uuid(state: &State, gpu: u8) -> Option<Uuid> {
    state.membership()?.uuids().get(usize::from(gpu)).copied()
}

/// Addresses with memory behind each.
struct Mapped {
    address: u64,
    size: u64,
}

impl Mapped {
    fn undo(&self) {
        driver::unmap(self.address, self.size);
        driver::free_addresses(self.address, self.size);
    }
}

/// Maps the pieces of a loan one behind the other, for `device` and those that were allowed to access it.
fn map(loan: &Loan, state: &State, device: i32) -> Option<Mapped> {
    let address = driver::reserve_addresses(loan.size)?;
    let mut memory = Mapped { address, size: 0 };
    let is_complete = map_pieces(loan, &mut memory).is_some()
        && memory.size == loan.size
        && driver::allow_access(address, loan.size, device);
    if !is_complete {
        if memory.size > 0 {
            driver::unmap(address, memory.size);
        }
        driver::free_addresses(address, loan.size);
        return None;
    }
    let peers = usize::try_from(device).ok().and_then(|device| state.peers.get(device));
    let peers = peers.map_or(0, |peers| peers.load(Acquire));
    for peer in (0..DEVICES as i32).filter(|peer| peers >> peer & 1 == 1) {
        driver::allow_access(address, loan.size, peer);
    }
    Some(memory)
}

/// Maps one piece after the other as far as it goes. The mapping keeps the memory, so the handle is not needed for long.
fn map_pieces(loan: &Loan, memory: &mut Mapped) -> Option<()> {
    let mut count = 0;
    loan.ask_for_pieces(count)?;
    while memory.size < loan.size {
        let (size, descriptors) = loan.pieces()?;
        count += descriptors.count();
        if memory.size + size * (descriptors.count() as u64) < loan.size {
            // The holder gets these ready while the others are mapped.
            loan.ask_for_pieces(count)?;
        }
        for descriptor in descriptors.numbers() {
            let handle = driver::import(*descriptor)?;
            let is_mapped = driver::map(memory.address + memory.size, size, handle);
            driver::release(handle);
            if !is_mapped {
                return None;
            }
            memory.size += size;
        }
    }
    Some(())
}
