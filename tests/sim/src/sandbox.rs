//! A machine with GPUs, and the way to run commands on it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gpu_sim_state::{DIRECTORY, State};
use tempfile::TempDir;

use crate::{Builder, libraries};

pub(crate) const LIBRARIES: &str = "lib";

/// Long enough on a busy machine; what waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Sandbox {
    state: State,
    /// Removed at the end, if it is this value's own.
    _directory: Option<TempDir>,
}

impl Sandbox {
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(state: State, directory: Option<TempDir>) -> Self {
        Self { state, _directory: directory }
    }

    /// The sandbox that is there in `directory`.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self::new(State::open(directory)?, None))
    }

    pub fn directory(&self) -> &Path {
        self.state.directory()
    }

    /// Where `libcuda.so.1` and `libnvidia-ml.so.1` lie.
    pub fn libraries(&self) -> PathBuf {
        self.directory().join(LIBRARIES)
    }

    /// Whether nobody is on it, and its libraries are of another build than this program.
    pub fn is_outdated(&self) -> bool {
        self.live_pids().is_empty() && !libraries::are_current(&self.libraries()).unwrap_or(false)
    }

    /// A command that will run on this machine. The caller's own choice of GPUs does not reach it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        for variable in ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"] {
            command.env_remove(variable);
        }
        command
    }

    /// What a process must have in its environment to be on this machine.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        let before = env::var_os("LD_LIBRARY_PATH").filter(|path| !path.is_empty());
        let mut path = self.libraries().into_os_string();
        if let Some(before) = before {
            path.push(":");
            path.push(before);
        }
        [(DIRECTORY, self.directory().into()), ("LD_LIBRARY_PATH", path)]
    }

    /// Waits until the condition holds; looks at every change of the machine.
    ///
    /// # Panics
    /// With `what`, if it does not come true for a long while.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl FnMut(&State) -> bool) {
        let met = self.state.wait_until(Instant::now() + PATIENCE, condition);
        assert!(met, "waited in vain: {what}");
    }
}

impl Deref for Sandbox {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// The program `gpu-sim`, for those parts of a test that are processes.
///
/// Cargo builds it along with the tests of the whole workspace; where it did not, this does.
///
/// # Panics
/// If it is not there and cannot be built.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| find_program().unwrap_or_else(|error| panic!("no program gpu-sim: {error}"))).clone()
}

fn find_program() -> io::Result<PathBuf> {
    let test = env::current_exe()?;
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, format!("nothing beside {}", test.display()));
    let folders: Vec<&Path> = test.ancestors().skip(1).take(2).collect();
    let is_there = || folders.iter().map(|folder| folder.join("gpu-sim")).find(|path| path.is_file());
    if let Some(program) = is_there() {
        return Ok(program);
    }
    let [_, profile] = folders[..] else { return Err(nowhere()) };
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--bin", "gpu-sim", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    build.arg("--target-dir").arg(profile.parent().ok_or_else(nowhere)?);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    build.status()?;
    is_there().ok_or_else(nowhere)
}
