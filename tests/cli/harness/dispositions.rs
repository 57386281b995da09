//! The tests under nohup(1), or behind a shell's `&`, where some signals are ignored.

#![expect(unsafe_code, reason = "signal(2)")]

use std::sync::Once;

static ONCE: Once = Once::new();

/// What is ignored here would be ignored by every program that a test starts. What has a handler is heeded by them again, and
/// goes on to do nothing here.
pub fn heed_signals() {
    ONCE.call_once(|| {
        let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: the handler does nothing, which is safe at any moment.
            let before = unsafe { libc::signal(signal, handler) };
            if before != libc::SIG_IGN {
                // SAFETY: as it was.
                unsafe { libc::signal(signal, before) };
            }
        }
    });
}

extern "C" fn nothing(_signal: libc::c_int) {}
