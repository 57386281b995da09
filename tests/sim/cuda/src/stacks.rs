//! The stacks of a context's threads: memory for as many of them as the GPU can run, of which the context's cost includes the
//! usual 1 KB each. A function that needs more enlarges them when it is launched, and they stay so.

use crate::abi::Result;
use crate::arena::Kind;
use crate::context::Context;
use crate::device::THREADS;
use crate::driver::lock;
use crate::limits::STACK;
use crate::memory;

/// What is there beyond the context's cost.
#[derive(Default)]
pub(crate) struct Stacks(Option<u64>);

/// Makes room for as much local memory of each thread. As on an H100, what was there goes first: if there is no room for the
/// new stacks, the old ones are gone as well.
pub(crate) fn enlarge(context: &Context, each: usize) -> Result {
    let mut limits = lock(&context.limits);
    if each <= limits.stack() {
        return Ok(());
    }
    limits.set_stack(STACK);
    if let Some(before) = limits.stacks.0.take() {
        memory::free(context.driver(), before)?;
    }
    if each > STACK {
        limits.stacks.0 = Some(memory::allocate(context, (each - STACK) as u64 * THREADS, Kind::Linear)?);
    }
    limits.set_stack(each);
    Ok(())
}
