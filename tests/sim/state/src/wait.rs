//! Waiting for a change of the machine, and for time to pass.

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::time::{Duration, Instant};

use crate::map::State;

/// A process's death changes no byte of the file: this often somebody who waits looks by himself.
const GLANCE: Duration = Duration::from_millis(20);

impl State {
    /// Waits until `condition` holds, looking at every change of the machine. False: the deadline passed first.
    pub fn wait_until(&self, deadline: Instant, mut condition: impl FnMut(&Self) -> bool) -> bool {
        self.waiters.fetch_add(1, SeqCst);
        let met = loop {
            let seen = self.changes.load(Acquire);
            if condition(self) {
                break true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break false;
            }
            self.sleep_while(seen, left.min(GLANCE));
        };
        self.waiters.fetch_sub(1, SeqCst);
        met
    }

    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, SeqCst);
        if self.waiters.load(SeqCst) > 0 {
            // SAFETY: FUTEX_WAKE reads nothing through the pointer.
            unsafe { libc::syscall(libc::SYS_futex, self.changes.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
        }
    }

    fn sleep_while(&self, seen: u32, at_most: Duration) {
        let time = timespec(at_most);
        // SAFETY: both pointers are live during the call.
        unsafe {
            libc::syscall(libc::SYS_futex, self.changes.as_ptr(), libc::FUTEX_WAIT, seen, &raw const time);
        }
    }

    /// Takes as long as a call of this family shall cost.
    pub(crate) fn spend(&self, family: usize) {
        let cost = self.delays_ns[family].load(Relaxed);
        if cost > 0 {
            sleep_exactly(Duration::from_nanos(cost));
        }
    }
}

/// Sleeps without the 50 us by which the kernel else may be late.
fn sleep_exactly(duration: Duration) {
    let time = timespec(duration);
    // SAFETY: the calls change only this thread's timer slack, and it is put back.
    unsafe {
        let slack = libc::prctl(libc::PR_GET_TIMERSLACK);
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64);
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const time, ptr::null_mut());
        libc::prctl(libc::PR_SET_TIMERSLACK, slack as libc::c_ulong);
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec { tv_sec: duration.as_secs() as libc::time_t, tv_nsec: duration.subsec_nanos().into() }
}
