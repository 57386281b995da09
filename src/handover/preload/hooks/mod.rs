//! What stands before the driver's functions, by subject.

mod contexts;
mod memory;
mod physical;
mod pooled;
mod views;

use core::ffi::CStr;

use crate::driver::{OUT_OF_MEMORY, Status};
use crate::holder::{Need, Turn};
use crate::hook::Hook;
use crate::protocol::Uuid;
use crate::resolve;

/// All hooks.
pub fn all() -> impl Iterator<Item = &'static Hook> {
    let groups: [&[&Hook]; 6] =
        [resolve::HOOKS, memory::HOOKS, physical::HOOKS, pooled::HOOKS, contexts::HOOKS, views::HOOKS];
    groups.into_iter().flatten().copied()
}

/// The hook for a symbol.
pub fn for_symbol(symbol: &CStr) -> Option<&'static Hook> {
    all().find(|hook| hook.symbol == symbol)
}

/// Calls the driver, and again for as long as it is out of memory and the holder gives way.
fn insist(turn: &mut Turn, gpu: impl FnOnce() -> Option<Uuid>, need: Need, mut call: impl FnMut() -> Status) -> Status {
    let status = call();
    match gpu {
        gpu if status == OUT_OF_MEMORY => gpu().map_or(status, |gpu| turn.insist(gpu, need, call)),
        _ => status,
    }
}

/// The GPU of the current context.
fn current_gpu() -> Option<Uuid> {
    crate::driver::uuid(crate::driver::current_device()?)
}
