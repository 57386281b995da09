//! File descriptors that stand for shared memory of a GPU. Unlike a real one it keeps nothing: a process must hold the
//! memory until another has taken it.

use std::fs::File;
use std::io::{self, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;

use gpu_sim_state::Share;

const MAGIC: [u8; 4] = *b"gpu:";

pub(crate) fn of(share: Share) -> io::Result<RawFd> {
    // SAFETY: the name is a C string; a descriptor that is not negative is new and nobody else's.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"gpu-sim-memory".as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(&MAGIC)?;
    file.write_all(&share.0.to_ne_bytes())?;
    Ok(file.into_raw_fd())
}

pub(crate) fn read(descriptor: RawFd) -> Option<Share> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: the caller's descriptor is only lent: `ManuallyDrop` never closes it.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let [m0, m1, m2, m3, share @ ..] = bytes;
    ([m0, m1, m2, m3] == MAGIC).then(|| Share(u32::from_ne_bytes(share)))
}
