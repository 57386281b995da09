//! Stream-ordered allocations. They come out of pools; what a pool holds of the GPU is what the driver says it has
//! reserved, whatever of it is in use. It grows when an allocation finds no room and shrinks when the device synchronizes.

use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

use crate::driver;
use crate::lock::Locked;
use crate::state::State;

/// Pools of one process. Memory out of further ones is counted by allocation.
const MOST: usize = 64;

#[repr(C)]
pub struct Pools {
    known: Locked<[Pool; MOST]>,
    /// Not 0: something was freed, so a pool may shrink.
    may_shrink: AtomicU8,
}

/// Handle 0 is no pool.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pool {
    handle: u64,
    /// The part of what it holds that is in the process's count.
    counted: u64,
    gpu: u8,
}

impl Pools {
    /// Counts what the pool holds now. Says whether the driver tells.
    pub fn refresh(&self, state: &State, handle: u64, gpu: u8) -> bool {
        let mut pools = self.known.lock();
        let Some(pool) = pools.iter_mut().find(|pool| pool.handle == handle || pool.handle == 0) else { return false };
        let fresh = Pool { handle, counted: 0, gpu };
        let known = if pool.handle == 0 { fresh } else { *pool };
        // Asked under the lock, so that an older answer never replaces a newer one.
        let Some(reserved) = driver::reserved_by(handle) else { return false };
        *pool = Pool { counted: reserved, ..known };
        state.count(known.gpu, reserved.wrapping_sub(known.counted).cast_signed());
        true
    }

    /// Counts all known pools anew.
    pub fn refresh_all(&self, state: &State) {
        let known = *self.known.lock();
        for pool in known.iter().take_while(|pool| pool.handle != 0) {
            self.refresh(state, pool.handle, pool.gpu);
        }
    }

    /// Notes on which GPU a pool is, before anything comes out of it.
    pub fn created(&self, handle: u64, gpu: u8) {
        let mut pools = self.known.lock();
        if let Some(pool) = pools.iter_mut().find(|pool| pool.handle == handle || pool.handle == 0) {
            *pool = Pool { handle, counted: 0, gpu };
        }
    }

    /// The GPU of a known pool.
    pub fn gpu(&self, handle: u64) -> Option<u8> {
        self.known.lock().iter().find(|pool| pool.handle == handle).map(|pool| pool.gpu)
    }

    /// The pool is gone, and what it held.
    pub fn destroyed(&self, state: &State, handle: u64) {
        let mut pools = self.known.lock();
        if let Some(pool) = pools.iter_mut().find(|pool| pool.handle == handle) {
            state.count(pool.gpu, -pool.counted.cast_signed());
            pool.counted = 0;
        }
    }

    /// Something was freed that may have come out of a pool.
    pub fn freed(&self) {
        self.may_shrink.store(1, Relaxed);
    }

    /// The device has synchronized: pools may have shrunk.
    pub fn synchronized(&self, state: &State) {
        if self.may_shrink.load(Relaxed) == 0 {
            return;
        }
        self.refresh_all(state);
        if self.known.lock().iter().all(|pool| pool.counted == 0) {
            self.may_shrink.store(0, Relaxed);
        }
    }
}
