//! Process groups and sessions as plain numbers: 0 stands for one that leads outside of our pid namespace, which rustix takes
//! for impossible.

use std::ffi::c_int;

/// The group of a process, 0 for our own; negative if there is no such process.
pub fn of(pid: c_int) -> c_int {
    // SAFETY: takes a number.
    unsafe { libc::getpgid(pid) }
}

/// The session of a process, 0 for our own; negative if there is no such process.
pub fn session_of(pid: c_int) -> c_int {
    // SAFETY: takes a number.
    unsafe { libc::getsid(pid) }
}

/// Returns once every signal sent to our group so far has reached all of it: a sender goes from process to process, and may
/// lose its processor in between. It does so under the kernel's read lock on the list of processes, for which setpgid(2)
/// has to wait, since it takes that lock for writing before it finds that there is no group of this number.
pub fn await_senders() {
    // SAFETY: takes two numbers.
    unsafe { libc::setpgid(0, c_int::MAX) };
}
