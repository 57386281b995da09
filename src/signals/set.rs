//! A set of signals by number, and the two sets that gpu-balloon acts on.

use std::mem::MaybeUninit;
use std::ops::RangeInclusive;

/// Highest signal number of Linux (signal(7)).
const LAST: i32 = 64;
/// glibc keeps 32 and 33 for its threads and refuses them in every call. A caller may have set them all the same.
const FIRST_OF_GLIBC: i32 = 32;
const LAST_OF_GLIBC: i32 = 33;

/// A set of signals; number n is bit n - 1, as in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u64);

impl SignalSet {
    /// Every number, those that glibc keeps for itself too.
    pub const NUMBERS: RangeInclusive<i32> = 1..=LAST;

    /// Every signal that a program may name.
    pub fn all() -> Self {
        let mut all = Self::default();
        for signal in Self::NUMBERS.filter(|s| !(FIRST_OF_GLIBC..=LAST_OF_GLIBC).contains(s)) {
            all.add(signal);
        }
        all
    }

    /// What ends a `hold`.
    pub fn ends_a_hold() -> Self {
        let mut set = Self::default();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            set.add(signal);
        }
        set
    }

    /// What `run` takes for CMD: everything that can be caught.
    ///
    /// `SEGV` and its like are in: sent by a process, they are for CMD. A fault of our own still ends us, since the kernel
    /// never lets a blocked fault wait (it restores the default action and delivers: signal(7), `force_sig`).
    pub fn meant_for_a_job() -> Self {
        let mut set = Self::all();
        set.remove(libc::SIGKILL);
        set.remove(libc::SIGSTOP);
        set
    }

    /// The terminal's signals that stop a program.
    pub fn stops() -> Self {
        let mut set = Self::default();
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            set.add(signal);
        }
        set
    }

    /// As the kernel writes it.
    pub fn of_kernel(bits: u64) -> Self {
        Self(bits)
    }

    pub fn add(&mut self, signal: i32) {
        self.0 |= 1 << (signal - 1);
    }

    pub fn remove(&mut self, signal: i32) {
        self.0 &= !(1 << (signal - 1));
    }

    pub fn contains(self, signal: i32) -> bool {
        Self::NUMBERS.contains(&signal) && self.0 & (1 << (signal - 1)) != 0
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The numbers in it, lowest first.
    pub fn iter(self) -> impl Iterator<Item = i32> {
        Self::NUMBERS.filter(move |signal| self.contains(*signal))
    }

    /// The same set as the C library writes it. Allocates nothing: safe between fork and exec.
    pub fn to_libc(self) -> libc::sigset_t {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` is a place for one `sigset_t`, which the call fills.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: `sigemptyset` just filled it; it fails for no valid pointer.
        let mut set = unsafe { set.assume_init() };
        for signal in self.iter() {
            // SAFETY: `set` is a valid set; a number that glibc refuses leaves it as it was.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        set
    }
}
