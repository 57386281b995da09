//! A mutex between processes that outlives its owner.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

/// Lies in shared memory. [`RobustLock::init`] runs before anybody else maps it.
#[repr(C)]
pub(crate) struct RobustLock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a process-shared pthread mutex is made to be used from every thread of every process.
unsafe impl Sync for RobustLock {}

pub(crate) struct Guard<'a>(&'a RobustLock);

impl RobustLock {
    pub fn init(&self) -> io::Result<()> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: init comes first and destroy last; the mutex is not in use yet, as this type demands.
        let result = unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            let result = libc::pthread_mutex_init(self.0.get(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
            result
        };
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
    }

    /// Waits for the lock. If its owner died with it, `mend` first makes whole what the lock guards.
    pub fn lock(&self, mend: impl FnOnce()) -> Guard<'_> {
        // SAFETY: the mutex is initialised and stays mapped as long as `self`.
        let result = unsafe { libc::pthread_mutex_lock(self.0.get()) };
        if result == libc::EOWNERDEAD {
            mend();
            // SAFETY: this thread owns the mutex, as EOWNERDEAD says.
            unsafe { libc::pthread_mutex_consistent(self.0.get()) };
        } else {
            assert_eq!(result, 0, "the simulated driver's lock is broken");
        }
        Guard(self)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: a guard exists only while its thread owns the mutex.
        unsafe { libc::pthread_mutex_unlock(self.0.0.get()) };
    }
}
