//! Launches of kernels. Before it enqueues one, the driver enlarges the stacks of all threads that the GPU can run if the
//! kernel needs more local memory than any before (`CU_LIMIT_STACK_SIZE`), and loads its code if it has yet to. Out of memory
//! there, the launch has not been performed: it is tried again. On an H100 a kernel that counts its threads has counted none
//! after refusals, and each once after the first success.
//!
//! Such stacks may be larger than any headroom, so the holder gives way to what the function says it needs.

use crate::driver::{self, OUT_OF_MEMORY, SUCCESS, Status};
use crate::holder::{Need, Turn};
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::{CODE, current_gpu, persist};
use crate::state::state;

/// What the driver allocates anew beside larger stacks, 150 MiB on an H100.
const BESIDE: u64 = 160 << 20;

/// The bytes of local memory that each thread is to have, looked up only when they are needed: launches are frequent.
fn with_stacks(each: impl FnOnce() -> Option<u64>, mut call: impl FnMut() -> Status) -> Status {
    let first = call();
    if first != OUT_OF_MEMORY {
        return first;
    }
    let stacks = || each()?.checked_mul(driver::most_threads(driver::current_device()?)?);
    let need = stacks().map_or(CODE, |stacks| Need::About(stacks.saturating_add(BESIDE)));
    let status = persist(&mut Turn::default(), current_gpu, need, call);
    if status == SUCCESS
        && let Some(state) = state()
    {
        state.unsized_news();
    }
    status
}

/// Defines hooks of launches and their table. Arguments are integers and pointers, which travel alike.
macro_rules! launches {
    ($($hook:ident = $name:ident, $symbol:literal, $base:literal, $since:literal, $per_thread:literal:
       $function:ident of ($($argument:ident),*);)*) => {
        pub const HOOKS: &[&Hook] = &[$(&$hook,)* &SET_LIMIT];

        $(hook! {
            $hook = $symbol, $base, ($since, NEWEST), $per_thread;
            fn $name($($argument: usize),*) |real| {
                with_stacks(|| driver::local_memory($function), || real($($argument),*))
            }
        })*
    };
}

launches! {
    KERNEL = cuLaunchKernel, c"cuLaunchKernel", c"cuLaunchKernel", 4000, false:
        a of (a, b, c, d, e, f, g, h, i, j, k);
    KERNEL_PER_THREAD = cuLaunchKernel_ptsz, c"cuLaunchKernel_ptsz", c"cuLaunchKernel", 7000, true:
        a of (a, b, c, d, e, f, g, h, i, j, k);
    KERNEL_EX = cuLaunchKernelEx, c"cuLaunchKernelEx", c"cuLaunchKernelEx", 11060, false:
        b of (a, b, c, d);
    KERNEL_EX_PER_THREAD = cuLaunchKernelEx_ptsz, c"cuLaunchKernelEx_ptsz", c"cuLaunchKernelEx", 11060, true:
        b of (a, b, c, d);
    COOPERATIVE = cuLaunchCooperativeKernel, c"cuLaunchCooperativeKernel", c"cuLaunchCooperativeKernel", 9000, false:
        a of (a, b, c, d, e, f, g, h, i, j);
    COOPERATIVE_PER_THREAD = cuLaunchCooperativeKernel_ptsz, c"cuLaunchCooperativeKernel_ptsz", c"cuLaunchCooperativeKernel",
        9000, true: a of (a, b, c, d, e, f, g, h, i, j);
}

hook! {
    SET_LIMIT = c"cuCtxSetLimit", c"cuCtxSetLimit", (3010, NEWEST), false;
    fn cuCtxSetLimit(limit: u32, value: usize) |real| {
        const STACK_SIZE: u32 = 0;
        let each = || (limit == STACK_SIZE).then_some(value as u64);
        with_stacks(each, || real(limit, value))
    }
}
