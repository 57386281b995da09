//! The library for the job, as a file that exists in memory only: nothing to install, to lose or to replace, and no mount
//! option forbids it. The job's programs load it by way of a descriptor of the [`Keeper`]'s.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use super::keeper::Keeper;
use super::protocol::{Config, MAGIC, PATH, Packet};

/// Made by `build.rs` out of `preload/`.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));

/// How long the instructions are.
pub const INSTRUCTIONS: usize = size_of::<Config>();

/// The variable by which the dynamic linker is told of it (ld.so(8)).
pub const VARIABLE: &str = "LD_PRELOAD";

/// The library with its instructions, ready to be loaded.
pub struct Library {
    /// By which the job's processes reach it.
    path: String,
    /// Where no keeper has it.
    _file: Option<File>,
}

impl Library {
    /// Has the library told these instructions, and to ask at `socket`. Without a keeper this process has it.
    ///
    /// # Errors
    /// The system has no memory for it, or forbids to run it.
    pub fn new(config: Config, socket: &Path, keeper: Option<&Keeper>) -> io::Result<Self> {
        let instructions = instructions(config, socket)?;
        let (path, file) = match keeper.map(|keeper| keeper.instruct(&instructions)) {
            Some(Ok(path)) => (path, None),
            _ => {
                let file = blank()?;
                finish(&file, &instructions)?;
                (format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()), Some(file))
            }
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

/// The library in memory, without instructions yet.
///
/// # Errors
/// The system has no memory for it.
pub fn blank() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and need none.
    let file = match memfd_create("gpu-balloon", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("gpu-balloon", flags),
        made => made,
    }?;
    let mut file = File::from(file);
    file.write_all(IMAGE)?;
    Ok(file)
}

/// Gives it its instructions, after which nobody can change it.
///
/// # Errors
/// The system does not seal it.
pub fn finish(file: &File, instructions: &[u8; INSTRUCTIONS]) -> io::Result<()> {
    let at = place().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no place for the instructions"))?;
    file.write_all_at(instructions, at as u64)?;
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(())
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

/// A [`Config`] as it lies in the image, the socket filled in.
fn instructions(mut config: Config, socket: &Path) -> io::Result<[u8; INSTRUCTIONS]> {
    let socket = socket.as_os_str().as_encoded_bytes();
    if socket.len() >= PATH {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of the socket is too long"));
    }
    config.socket[..socket.len()].copy_from_slice(socket);
    let mut instructions = [0; INSTRUCTIONS];
    instructions.copy_from_slice(config.bytes());
    Ok(instructions)
}

/// Where the one [`Config`] is in the image: with its other data, near the end.
fn place() -> Option<usize> {
    IMAGE.windows(INSTRUCTIONS).rposition(|window| window.starts_with(&MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Config = Config { magic: MAGIC, view: 1, lends: 1, measures: 1, socket: [0; PATH] };

    #[test]
    fn the_image_has_one_place_for_instructions() {
        assert_eq!(IMAGE.windows(MAGIC.len()).filter(|window| *window == MAGIC).count(), 1);
        let config = instructions(CONFIG, Path::new("/run/x.job")).unwrap();
        assert!(config.windows(11).any(|window| window == b"/run/x.job\0"));
        let file = blank().unwrap();
        finish(&file, &config).unwrap();
        let mut image = vec![0; IMAGE.len()];
        file.read_exact_at(&mut image, 0).unwrap();
        assert_eq!(image[place().unwrap()..][..INSTRUCTIONS], config);
        assert!(file.write_all_at(&config, 0).is_err(), "nobody changes it any more");
    }

    #[test]
    fn the_library_loads() {
        let library = Library::new(CONFIG, Path::new("/nowhere"), None).unwrap();
        assert_eq!(library.preload(None), OsString::from(&library.path));
        assert_eq!(
            library.preload(Some(OsStr::new("a.so b.so"))),
            OsString::from(format!("{}:a.so b.so", library.path))
        );
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        assert!(Library::new(CONFIG, Path::new(&"x".repeat(PATH)), None).is_err());
    }
}
