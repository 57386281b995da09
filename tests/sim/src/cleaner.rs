//! Removes a machine when nobody is on it any more.
#![expect(unsafe_code, reason = "fork")]

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
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
                    clean(sandbox.directory(), user);
                }
                libc::_exit(0)
            }
        }
        // SAFETY: the child is this process's own; nothing is asked about its end.
        child => unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) },
    };
    Ok(sandbox)
}

fn clean(directory: &Path, user: OwnedFd) {
    let user = keep_only(user);
    let mut poll = libc::pollfd { fd: user, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live structure.
    while unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {}
    // The command may have left holders behind.
    while Sandbox::open(directory).is_ok_and(|sandbox| !sandbox.live_pids().is_empty()) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let _ = std::fs::remove_dir_all(directory);
}

/// Lets go of all descriptors but one: a reader of the command's output must not wait for the cleaner.
fn keep_only(kept: OwnedFd) -> RawFd {
    let _ = std::env::set_current_dir("/");
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_or(-1, IntoRawFd::into_raw_fd);
    let kept = kept.into_raw_fd();
    // SAFETY: plain numbers; whatever owned a descriptor in the launcher is never used again in this process.
    unsafe {
        for stream in 0..=2 {
            libc::dup2(null, stream);
        }
        libc::dup2(kept, 3);
        libc::close_range(4, libc::c_uint::MAX, 0);
    }
    3
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
