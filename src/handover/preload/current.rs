//! Which context is current on the calling thread. Asking the driver each time would cost more than all the rest, so it is
//! remembered until a call that changes it, and large allocations, for which that is nothing, ask again.

use core::arch::asm;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, AtomicUsize, fence};

use crate::driver;
use crate::state::State;

/// Threads that are remembered at the same time, if their places do not collide.
const PLACES: usize = 64;

/// A context, and its GPU's number in the reservation.
#[derive(Clone, Copy)]
pub struct Current {
    pub context: u64,
    pub gpu: u8,
}

/// All zero: nobody is remembered. A thread writes its own place only, but may share that with others.
#[repr(C)]
pub struct Remembered([Place; PLACES]);

#[repr(C)]
struct Place {
    /// The thread, or 0 while the place is being changed.
    thread: AtomicUsize,
    context: AtomicU64,
    gpu: AtomicU64,
}

impl Remembered {
    /// The calling thread's context, if it is on a GPU of the reservation. Trusts memory, unless told to `ask`.
    pub fn get(&self, state: &State, ask: bool) -> Option<Current> {
        let thread = thread();
        let place = self.place(thread);
        if !ask && place.thread.load(Acquire) == thread {
            let current = Current { context: place.context.load(Relaxed), gpu: place.gpu.load(Relaxed) as u8 };
            fence(Acquire);
            if place.thread.load(Relaxed) == thread {
                return Some(current);
            }
        }
        let gpu = state.gpu(driver::current_device()?)?;
        let context = driver::current_context()?;
        place.thread.store(0, Relaxed);
        fence(Release);
        place.context.store(context, Relaxed);
        place.gpu.store(gpu.into(), Relaxed);
        place.thread.store(thread, Release);
        Some(Current { context, gpu })
    }

    /// The calling thread's context has changed.
    pub fn forget(&self) {
        let thread = thread();
        let _ = self.place(thread).thread.compare_exchange(thread, 0, Relaxed, Relaxed);
    }

    /// A context is gone, on whatever threads it was current.
    pub fn forget_all(&self) {
        for place in &self.0 {
            place.thread.store(0, Relaxed);
        }
    }

    fn place(&self, thread: usize) -> &Place {
        // Control blocks of threads lie pages apart.
        &self.0[(thread >> 12 ^ thread >> 20) % PLACES]
    }
}

/// The address of the calling thread's control block: no two threads alive have the same.
fn thread() -> usize {
    let thread: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the ABI has the block's own address in its first word, to which `fs` points.
    unsafe {
        asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads the register that the ABI keeps the block's address in.
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) thread, options(nomem, nostack, preserves_flags));
    }
    thread
}
