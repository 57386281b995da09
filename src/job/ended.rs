//! How CMD ended, and ending the same way.

use std::fmt;

use rustix::process::{DumpableBehavior, getpid, set_dumpable_behavior};

use crate::signals::{self, SignalSet, Signals};

/// How CMD ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl fmt::Display for Ended {
    /// What CMD did.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

impl Ended {
    /// Ends this process as CMD ended, so that a shell sees no difference: exits with its code, or dies by its signal
    /// without a core dump of ours. 128 + n where that is impossible: the first process of a pid namespace cannot kill itself.
    ///
    /// `signals` stay blocked, so that one arriving now cannot change the verdict. Call it last: every owner of memory and
    /// files must be gone.
    #[allow(clippy::exit, reason = "this is the one way out of `run`")]
    pub fn leave(self, signals: Signals) -> ! {
        signals.keep_blocked();
        match self {
            Self::Code(code) => std::process::exit(code),
            Self::Signal(signal) => {
                die_by(signal);
                std::process::exit(128 + signal)
            }
        }
    }
}

/// Returns only if the signal did not end us.
fn die_by(signal: i32) {
    // No core even where core_pattern pipes to a program, which ignores RLIMIT_CORE (core(5)). A refusal is no reason to
    // end differently.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    signals::set_disposition(signal, libc::SIG_DFL);
    let mut only = SignalSet::default();
    only.add(signal);
    // SAFETY: `kill` on ourselves; the signal waits if it is blocked.
    unsafe { libc::kill(getpid().as_raw_nonzero().get(), signal) };
    let _ = signals::set_mask(libc::SIG_UNBLOCK, &only.to_libc());
}
