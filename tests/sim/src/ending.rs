//! When a part on the machine is over: stdin closes, or a signal says so.
#![expect(unsafe_code, reason = "signal handlers")]

use std::io::{self, Read as _};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_signal: libc::c_int) {
    ENDED.store(true, Relaxed);
}

/// True once SIGTERM or SIGINT came or stdin was closed.
pub fn watch() -> io::Result<&'static AtomicBool> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler only stores to an atomic.
        if unsafe { libc::signal(signal, end as *const () as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        ENDED.store(true, Relaxed);
    });
    Ok(&ENDED)
}
