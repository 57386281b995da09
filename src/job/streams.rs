//! The standard streams, which CMD and this process share once CMD runs.

use rustix::fs::{Mode, OFlags};

/// Leaves standard input and output to CMD: when CMD closes them, whoever is at the other end of a pipe must notice. Standard
/// error stays, for what must be said.
pub fn let_go() {
    // Without `/dev/null` they stay as they are: a number that is free would be given to the next file that is opened.
    let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else { return };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
}
