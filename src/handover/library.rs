//! The library for the job, as a file that exists in memory only: nothing to install, to lose or to replace, and no mount
//! option forbids it. The job's programs load it by way of a descriptor of the [`Keeper`]'s.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use super::keeper::Keeper;
use super::protocol::{Config, MAGIC, PATH};

/// Made by `build.rs` out of `preload/`.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));

/// The variable by which the dynamic linker is told of it (ld.so(8)).
pub const VARIABLE: &str = "LD_PRELOAD";

/// What the library is told.
#[derive(Debug)]
pub struct Instructions {
    /// One of the protocol's `VIEW_` constants.
    pub view: u32,
    /// Whether it can borrow from the balloon.
    pub lends: bool,
    /// Where it asks.
    pub socket: PathBuf,
}

/// The library with its instructions, ready to be loaded.
pub struct Library {
    /// By which the job's processes reach it.
    path: String,
    /// Where no keeper has it.
    _file: OwnedFd,
}

impl Library {
    /// Puts the library into memory with its instructions, and gives it to the keeper.
    ///
    /// # Errors
    /// The system has no memory for it, or forbids to run it.
    pub fn new(instructions: &Instructions, keeper: Option<&Keeper>) -> io::Result<Self> {
        let image = instructed(instructions)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag, and need none.
        let file = match memfd_create("gpu-balloon", flags | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => memfd_create("gpu-balloon", flags),
            made => made,
        }?;
        let mut file = File::from(file);
        file.write_all(&image)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let file = OwnedFd::from(file);
        let path = match keeper.map(|keeper| keeper.keep(file.as_fd())) {
            Some(Ok(path)) => path,
            _ => format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()),
        };
        try_to_load(&path)?;
        Ok(Self { path, _file: file })
    }

    /// The value of [`VARIABLE`] for the job: this library, and behind it what the caller has there.
    pub fn preload(&self, callers: Option<&OsStr>) -> OsString {
        let mut value = OsString::from(&self.path);
        if let Some(callers) = callers.filter(|callers| !callers.is_empty()) {
            value.push(":");
            value.push(callers);
        }
        value
    }
}

/// Maps a piece as the dynamic linker would. What forbids that (a security module, `/proc` not being there) would make it
/// complain on the standard error of each program of the job.
#[expect(unsafe_code, reason = "mmap(2)")]
fn try_to_load(path: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a new mapping anywhere, of a file that cannot change.
    let piece = unsafe { libc::mmap(std::ptr::null_mut(), 1, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if piece == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping just made, which nobody uses.
    unsafe { libc::munmap(piece, 1) };
    Ok(())
}

/// The image with its [`Config`] filled in.
fn instructed(instructions: &Instructions) -> io::Result<Vec<u8>> {
    let socket = instructions.socket.as_os_str().as_encoded_bytes();
    if socket.len() >= PATH {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of the socket is too long"));
    }
    let mut image = IMAGE.to_vec();
    let at =
        place(&image).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no place for the instructions"))?;
    let mut write = |offset: usize, bytes: &[u8]| image[at + offset..][..bytes.len()].copy_from_slice(bytes);
    write(std::mem::offset_of!(Config, view), &instructions.view.to_ne_bytes());
    write(std::mem::offset_of!(Config, lends), &u32::from(instructions.lends).to_ne_bytes());
    write(std::mem::offset_of!(Config, socket), socket);
    Ok(image)
}

/// Where the one [`Config`] is in the image.
fn place(image: &[u8]) -> Option<usize> {
    let mut places = image.windows(size_of::<Config>()).enumerate().filter(|(_, window)| window.starts_with(&MAGIC));
    let (at, _) = places.next()?;
    places.next().is_none().then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks_at(socket: &str) -> Instructions {
        Instructions { view: 2, lends: true, socket: socket.into() }
    }

    #[test]
    fn the_image_has_one_place_for_instructions() {
        assert!(place(IMAGE).is_some());
        let image = instructed(&asks_at("/run/x.job")).unwrap();
        assert_eq!(image.len(), IMAGE.len());
        assert!(image.windows(11).any(|window| window == b"/run/x.job\0"));
    }

    #[test]
    fn the_library_loads() {
        let library = Library::new(&asks_at("/nowhere"), None).unwrap();
        assert_eq!(library.preload(None), OsString::from(&library.path));
        assert_eq!(
            library.preload(Some(OsStr::new("a.so b.so"))),
            OsString::from(format!("{}:a.so b.so", library.path))
        );
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        assert!(Library::new(&asks_at(&"x".repeat(PATH)), None).is_err());
    }
}
