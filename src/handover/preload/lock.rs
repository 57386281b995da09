//! A lock on a futex. It lives in memory that a forked child finds zeroed, so a child never inherits it locked.

use core::ops::Deref;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::system::{self, Futex};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody waits.
const WANTED: u32 = 2;

/// Free when zero.
#[repr(transparent)]
pub struct Lock(AtomicU32);

impl Lock {
    pub fn take(&self) -> Taken<'_> {
        if self.0.compare_exchange(FREE, TAKEN, Acquire, Relaxed).is_err() {
            while self.0.swap(WANTED, Acquire) != FREE {
                system::futex_wait(&self.0, WANTED, Futex::OfProcess);
            }
        }
        Taken(self)
    }
}

/// Gives the lock back when dropped.
pub struct Taken<'a>(&'a Lock);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.0.0.swap(FREE, Release) == WANTED {
            system::futex_wake(&self.0.0, 1, Futex::OfProcess);
        }
    }
}

/// A value that only the holder of its lock may touch. All zero must be a value.
#[repr(C)]
pub struct Locked<T> {
    lock: Lock,
    value: core::cell::UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time reach the value.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub fn lock(&self) -> Guard<'_, T> {
        Guard { _taken: self.lock.take(), value: self.value.get() }
    }
}

/// The locked value.
pub struct Guard<'a, T> {
    _taken: Taken<'a>,
    value: *mut T,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.value }
    }
}

impl<T> core::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and is borrowed alone.
        unsafe { &mut *self.value }
    }
}
