//! What the group was told just before the child was forked that becomes CMD: it was meant for CMD, too, and only the witness
//! still has it. In the child, between fork and exec: no allocation, no lock.

use std::mem::MaybeUninit;
use std::ptr;

use super::{SignalSet, group, proc};

/// Sends this process what `witness` has pending and this process has not.
///
/// Stop signals are left out, and taken back where they are pending: a stop before exec would keep our parent waiting for exec,
/// while a shell waits for our parent to stop. The parent tells CMD.
pub fn make_up_for(witness: u32) {
    let told = pending(witness);
    // What the witness has been sent by now is on its way to us too, unless it was sent before we were there.
    group::await_senders();
    let own = pending(std::process::id());
    let stops = SignalSet::stops();
    for signal in told.without(own).without(stops).iter() {
        // SAFETY: `kill` on ourselves; the signal waits, since all of them are blocked.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let stops = stops.to_libc();
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: all three point to their types; the set is blocked.
    while unsafe { libc::sigtimedwait(&raw const stops, info.as_mut_ptr(), ptr::from_ref(&at_once)) } > 0 {}
}

/// The signals that wait for the whole process.
fn pending(pid: u32) -> SignalSet {
    let mut status = [0; 4096];
    let length = proc::read(pid, b"status", &mut status);
    parse(&status[..length])
}

/// The line `ShdPnd:` of `/proc/PID/status` (proc(5)).
fn parse(status: &[u8]) -> SignalSet {
    const FIELD: &[u8] = b"\nShdPnd:\t";
    let at = status.windows(FIELD.len()).position(|bytes| bytes == FIELD);
    let digits = at.map_or(&[][..], |at| &status[at + FIELD.len()..]);
    let digits = digits.iter().map_while(|digit| char::from(*digit).to_digit(16));
    SignalSet::of_kernel(digits.fold(0, |set, digit| set << 4 | u64::from(digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_signals_are_read() {
        let status = b"Name:\tcat\nSigPnd:\t0000000000000001\nShdPnd:\t8000000000004002\nSigBlk:\t0000000000000000\n";
        assert_eq!(parse(status).iter().collect::<Vec<_>>(), [libc::SIGINT, libc::SIGTERM, 64]);
        assert_eq!(parse(b"Name:\tcat\n"), SignalSet::default());
    }
}
