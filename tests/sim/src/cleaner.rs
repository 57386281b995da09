//! Removes a machine when nobody is on it any more.
#![expect(unsafe_code, reason = "fork")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use gpu_sim::{Builder, Sandbox};

/// A machine that goes when this process and all other users of it are gone. Call before any thread: it forks.
pub fn temporary(builder: Builder) -> io::Result<Sandbox> {
    let directory = tempfile::Builder::new().prefix("gpu-sim-").tempdir()?.keep();
    let sandbox = builder.build_in(&directory)?;
    let user = pidfd(std::process::id())?;
    // The cleaner must not be a child that the command does not expect: its parent, which is one, ends at once.
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: as above; setsid has no argument, and the child leaves without running what is its parent's.
            unsafe {
                libc::setsid();
                if libc::fork() == 0 {
                    clean(&sandbox, &user);
                }
                libc::_exit(0)
            }
        }
        // SAFETY: the child is this process's own; nothing is asked about its end.
        child => unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) },
    };
    Ok(sandbox)
}

fn clean(sandbox: &Sandbox, user: &OwnedFd) {
    let_go_of_streams();
    let mut poll = libc::pollfd { fd: user.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live structure.
    while unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {}
    // The command may have left holders behind.
    while !sandbox.live_pids().is_empty() {
        std::thread::sleep(Duration::from_millis(200));
    }
    let _ = std::fs::remove_dir_all(sandbox.directory());
}

/// A reader of the command's output must not wait for the cleaner.
fn let_go_of_streams() {
    let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for stream in 0..=2 {
        // SAFETY: both descriptors are plain numbers of this process.
        unsafe { libc::dup2(null.as_raw_fd(), stream) };
    }
    let _ = std::env::set_current_dir("/");
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
