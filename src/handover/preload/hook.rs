//! A hook: a function of this library that stands before one of the driver's with the same name.

use core::ffi::CStr;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use crate::{driver, objects};

/// A function stood before.
pub struct Hook {
    /// The driver's symbol.
    pub symbol: &'static CStr,
    /// The name by which `cuGetProcAddress` knows it, or empty.
    pub base: &'static CStr,
    /// The CUDA versions for which `cuGetProcAddress` gives this variant: from, and up to but not including.
    pub versions: (i32, i32),
    /// Whether it is the variant for per-thread default streams.
    pub per_thread: bool,
    pub entry: Entry,
    /// The driver's function, once known.
    real: AtomicUsize,
}

/// The hook's own address.
pub struct Entry(pub *const ());

// SAFETY: the address of code.
unsafe impl Sync for Entry {}

/// For a variant that has no successor yet.
pub const NEWEST: i32 = i32::MAX;

impl Hook {
    pub const fn new(
        symbol: &'static CStr,
        base: &'static CStr,
        versions: (i32, i32),
        per_thread: bool,
        entry: *const (),
    ) -> Self {
        Self { symbol, base, versions, per_thread, entry: Entry(entry), real: AtomicUsize::new(0) }
    }

    /// The driver's function. A client that is linked against the driver has never asked for it; then it is the next
    /// definition behind ours.
    pub fn real(&self) -> Option<usize> {
        match self.real.load(Relaxed) {
            0 => self.find(),
            real => Some(real),
        }
    }

    // Once a hook, and in a hundred hooks: a copy in each would make the library several times as large.
    #[cold]
    #[inline(never)]
    fn find(&self) -> Option<usize> {
        let real = objects::next_definition(self.symbol)?;
        self.real.store(real, Relaxed);
        driver::found(self.symbol, real);
        Some(real)
    }

    /// Takes note that `found` is what the hook stands before. Says whether the hook may stand in for it: not if it stands
    /// before another library's function already, else that library's own look-ups would come back to it.
    pub fn may_replace(&self, found: usize) -> bool {
        match self.real.compare_exchange(0, found, Relaxed, Relaxed) {
            Ok(_) => {
                driver::found(self.symbol, found);
                true
            }
            Err(real) => real == found || !objects::is_known(found) || objects::are_neighbours(real, found),
        }
    }
}

/// Defines a function of the driver's name and its [`Hook`]. In the body, the name between bars calls the driver.
macro_rules! hook {
    ($(#[$doc:meta])* $hook:ident = $symbol:literal, $base:literal, $versions:expr, $per_thread:expr;
     fn $name:ident($($argument:ident: $type:ty),*) |$real:ident| $body:block) => {
        $(#[$doc])*
        pub static $hook: $crate::hook::Hook =
            $crate::hook::Hook::new($symbol, $base, $versions, $per_thread, $name as *const ());

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $crate::driver::Status {
            let Some(address) = $hook.real() else { return $crate::driver::NOT_INITIALIZED };
            // SAFETY: the driver's function of this name has this signature.
            let real = unsafe {
                core::mem::transmute::<usize, unsafe extern "C" fn($($type),*) -> $crate::driver::Status>(address)
            };
            // SAFETY: the caller's own arguments, for which the caller vouches to the driver.
            let $real = |$($argument: $type),*| unsafe { real($($argument),*) };
            $body
        }
    };
}
pub(crate) use hook;
