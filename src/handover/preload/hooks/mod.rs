//! What stands before the driver's functions, by subject.

mod contexts;
mod memory;
mod modest;
mod physical;
mod pooled;
mod views;

use core::ffi::CStr;

use crate::driver::{OUT_OF_MEMORY, Status};
use crate::holder::{Need, Turn};
use crate::hook::Hook;
use crate::protocol::Uuid;
use crate::resolve;
use crate::state::{State, state};
use crate::system;

/// All hooks.
pub fn all() -> impl Iterator<Item = &'static Hook> {
    let groups: [&[&Hook]; 7] =
        [resolve::HOOKS, memory::HOOKS, physical::HOOKS, pooled::HOOKS, contexts::HOOKS, modest::HOOKS, views::HOOKS];
    groups.into_iter().flatten().copied()
}

/// The hook for a symbol.
pub fn for_symbol(symbol: &CStr) -> Option<&'static Hook> {
    all().find(|hook| hook.symbol == symbol)
}

/// Calls the driver, and again for as long as it is out of memory and the holder gives way.
fn insist(turn: &mut Turn, gpu: impl FnOnce() -> Option<Uuid>, need: Need, mut call: impl FnMut() -> Status) -> Status {
    let is_hopeless = matches!((need, state()), (Need::Bytes(size), Some(state)) if state.would_refuse(size));
    if !is_hopeless {
        let status = call();
        if status != OUT_OF_MEMORY {
            return status;
        }
    }
    let status = gpu().map_or(OUT_OF_MEMORY, |gpu| insist_on(turn, gpu, need, &mut call));
    // The last word is the driver's.
    if is_hopeless && status == OUT_OF_MEMORY { call() } else { status }
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
        if let (OUT_OF_MEMORY, Need::Bytes(_), Some(state)) = (status, need, state) {
            state.refused(system::now() - begun);
        }
        status
    };
    let eager = || matches!(need, Need::Bytes(_)) && !state.is_some_and(State::refusals_are_slow);
    turn.insist(gpu, need, eager, timed)
}

/// The GPU of the current context.
fn current_gpu() -> Option<Uuid> {
    crate::driver::uuid(crate::driver::current_device()?)
}
