//! The files of a sandbox, mapped and opened.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::{Gpu, MAX_FUNCTIONS, Shared};
use crate::machine::Machine;

const MAGIC: u64 = u64::from_le_bytes(*b"gpu-sim\x01");
/// Libraries and launcher of different builds must not share a file that they read differently.
const LAYOUT: u64 = (size_of::<Shared>() as u64) << 24 ^ (size_of::<Gpu>() as u64) << 8 ^ MAX_FUNCTIONS as u64;

const STATE: &str = "state";
/// A client holds a record lock on its own byte of this file.
const PLACES: &str = "clients";

/// A sandbox's shared memory, as one process has it.
pub struct State {
    shared: NonNull<Shared>,
    pub(crate) places: File,
    directory: PathBuf,
}

// SAFETY: `Shared` is made of atomics and process-shared locks, and the mapping lives as long as the value.
unsafe impl Send for State {}
// SAFETY: as above.
unsafe impl Sync for State {}

impl State {
    /// Lays out a new machine in `directory`, which must not hold one yet.
    pub fn create(directory: &Path, machine: &Machine) -> io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(false).open(directory.join(PLACES))?;
        // Under another name until it is complete, so that nobody joins half a machine.
        let unfinished = directory.join(format!("{STATE}.{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&unfinished)?;
        file.set_len(size_of::<Shared>() as u64)?;
        let state = Self::map(directory, &file)?;
        state.registry.init()?;
        for gpu in &state.gpus {
            gpu.lock.init()?;
        }
        machine.write(&state);
        state.layout.store(LAYOUT, Relaxed);
        state.magic.store(MAGIC, Release);
        std::fs::hard_link(&unfinished, directory.join(STATE)).and(std::fs::remove_file(&unfinished))?;
        Ok(state)
    }

    /// Joins the machine in `directory`.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(directory.join(STATE))?;
        let other = || io::Error::new(io::ErrorKind::InvalidData, "the sandbox is of another build of gpu-sim");
        if file.metadata()?.len() != size_of::<Shared>() as u64 {
            return Err(other());
        }
        let state = Self::map(directory, &file)?;
        let valid = state.magic.load(Acquire) == MAGIC && state.layout.load(Relaxed) == LAYOUT;
        if valid { Ok(state) } else { Err(other()) }
    }

    /// Joins the machine that the environment names.
    pub fn from_environment() -> io::Result<Self> {
        let directory = std::env::var_os(crate::DIRECTORY);
        let directory = directory.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "GPU_SIM_DIR is not set"))?;
        Self::open(Path::new(&directory))
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn map(directory: &Path, file: &File) -> io::Result<Self> {
        let places = OpenOptions::new().read(true).write(true).open(directory.join(PLACES))?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file that is as long as the type; any bytes are a valid `Shared`.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), size_of::<Shared>(), access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let shared = NonNull::new(address.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { shared, places, directory: directory.to_owned() })
    }
}

impl Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        // SAFETY: mapped in `map`, unmapped in `drop`.
        unsafe { self.shared.as_ref() }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives the value.
        unsafe { libc::munmap(self.shared.as_ptr().cast::<c_void>(), size_of::<Shared>()) };
    }
}
