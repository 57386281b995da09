//! The memory that the holder and the job's processes share, from the holder's side.
#![expect(unsafe_code, reason = "shared memory")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::protocol::Page;

/// The page, mapped as long as the value lives.
pub struct Shared {
    page: NonNull<Page>,
    file: OwnedFd,
}

// SAFETY: the page consists of atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// A page of zeros, as large as it will ever be.
    ///
    /// # Errors
    /// There is no memory or no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create("gpu-balloon page", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file = File::from(file);
        file.set_len(size_of::<Page>() as u64)?;
        // A process of the job that truncated it would kill every other one with SIGBUS.
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: a new mapping of the whole file, anywhere.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), size_of::<Page>(), protection, libc::MAP_SHARED, descriptor, 0) };
        match NonNull::new(page) {
            Some(page) if page.as_ptr() != libc::MAP_FAILED => Ok(Self { page: page.cast(), file: file.into() }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn page(&self) -> &Page {
        // SAFETY: mapped with this size, of atomics for which zero is a value, until the value is dropped.
        unsafe { self.page.as_ref() }
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody can reach any more.
        unsafe { libc::munmap(self.page.as_ptr().cast(), size_of::<Page>()) };
    }
}
