//! What stands before the driver's functions, by subject.

mod addresses;
mod contexts;
mod launches;
mod memory;
mod modest;
mod physical;
mod pooled;
mod views;

use core::ffi::CStr;

use crate::driver::{OUT_OF_MEMORY, SUCCESS, Status};
use crate::holder::{Need, Turn};
use crate::hook::Hook;
use crate::lending;
use crate::protocol::{LITTLE, Uuid};
use crate::resolve;
use crate::state::{State, state};
use crate::system;

/// What streams, tables of pages and the like take.
const A_LITTLE: Need = Need::About(LITTLE);
/// Code, which may be of any size; and graphs, with the stacks that their kernels need.
const CODE: Need = Need::AtLeast(128 << 20);

/// The pages in which the GPU maps memory, and in which large allocations are made.
const PAGE: u64 = 2 << 20;

/// All hooks.
pub fn all() -> impl Iterator<Item = &'static Hook> {
    let groups: [&[&Hook]; 9] = [
        resolve::HOOKS,
        memory::HOOKS,
        addresses::HOOKS,
        physical::HOOKS,
        pooled::HOOKS,
        contexts::HOOKS,
        modest::HOOKS,
        launches::HOOKS,
        views::HOOKS,
    ];
    groups.into_iter().flatten().copied()
}

/// The hook for a symbol.
pub fn for_symbol(symbol: &CStr) -> Option<&'static Hook> {
    all().find(|hook| hook.symbol == symbol)
}

/// Calls the driver, and again for as long as it is out of memory and the holder gives way.
fn insist(turn: &mut Turn, gpu: impl FnOnce() -> Option<Uuid>, need: Need, mut call: impl FnMut() -> Status) -> Status {
    let is_hopeless = matches!((need.bytes(), state()), (Some(size), Some(state)) if state.would_refuse(size));
    if !is_hopeless {
        let status = call();
        if status != OUT_OF_MEMORY {
            return status;
        }
    }
    let status = persist(turn, gpu, need, &mut call);
    // The last word is the driver's, unless there is another way.
    if is_hopeless && status == OUT_OF_MEMORY && !matches!(need, Need::BytesOrLoan(_)) { call() } else { status }
}

/// Calls the driver again after it was out of memory, for as long as it still is and the holder gives way.
fn persist(turn: &mut Turn, gpu: impl FnOnce() -> Option<Uuid>, need: Need, mut call: impl FnMut() -> Status) -> Status {
    gpu().map_or(OUT_OF_MEMORY, |gpu| insist_on(turn, gpu, need, &mut call))
}

/// Has the holder give way.
#[cold]
#[inline(never)]
fn insist_on(turn: &mut Turn, gpu: Uuid, need: Need, call: &mut dyn FnMut() -> Status) -> Status {
    let state = state();
    // Only refusals are timed: an allocation that succeeds costs no system call.
    let timed = || {
        let begun = system::now();
        let status = call();
        if let (OUT_OF_MEMORY, Some(_), Some(state)) = (status, need.bytes(), state) {
            state.refused(system::now() - begun);
        }
        status
    };
    let eager = || need.bytes().is_some() && !state.is_some_and(State::refusals_are_slow);
    turn.insist(gpu, need, eager, timed)
}

/// Has `own` ask the driver, or borrows where others are faster to take what is freed for it.
fn own_or_borrowed(size: u64, borrow: impl FnOnce() -> bool, mut own: impl FnMut(Need) -> Status) -> Status {
    if !lending::is_possible() {
        return own(Need::Bytes(size));
    }
    let status = own(Need::BytesOrLoan(size));
    if status != OUT_OF_MEMORY {
        return status;
    }
    if borrow() {
        lending::lost_a_race();
        return SUCCESS;
    }
    own(Need::Bytes(size))
}

/// The GPU of the current context.
fn current_gpu() -> Option<Uuid> {
    crate::driver::uuid(crate::driver::current_device()?)
}
