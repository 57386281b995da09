//! The two libraries, as cargo built them, put where a sandbox's processes find them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What kind of driver is installed.
#[derive(Debug, Clone, Default)]
pub struct Variant {
    /// There is no `libnvidia-ml.so.1`.
    pub without_nvml: bool,
    /// There is no `libcuda.so.1`.
    pub without_cuda: bool,
    /// Symbols that an older driver does not have.
    pub without_symbols: Vec<String>,
}

/// The symbols that came with newer versions of CUDA than this one.
pub(crate) fn newer_than(cuda_version: u32) -> Vec<String> {
    let mut since = 0;
    let mut newer = Vec::new();
    for word in include_str!("../cuda/src/versions.txt").split_whitespace() {
        match word.strip_suffix(':').map(str::parse) {
            Some(version) => since = version.unwrap_or(0),
            None if since > cuda_version => newer.push(word.to_owned()),
            None => {}
        }
    }
    newer
}

/// Puts the libraries into `directory`, under the names that programs ask for.
pub(crate) fn install(directory: &Path, variant: &Variant) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if !variant.without_cuda {
        place("libgpu_sim_cuda.so", &directory.join("libcuda.so.1"), &variant.without_symbols)?;
    }
    if !variant.without_nvml {
        place("libgpu_sim_nvml.so", &directory.join("libnvidia-ml.so.1"), &variant.without_symbols)?;
    }
    Ok(())
}

/// Whether the libraries in `directory` are those that cargo built last.
pub(crate) fn are_current(directory: &Path) -> io::Result<bool> {
    let pairs = [("libgpu_sim_cuda.so", "libcuda.so.1"), ("libgpu_sim_nvml.so", "libnvidia-ml.so.1")];
    for (built, installed) in pairs {
        if fs::read(find(built)?)? != fs::read(directory.join(installed))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn place(built: &str, target: &Path, without: &[String]) -> io::Result<()> {
    let built = find(built)?;
    if without.is_empty() {
        // No symbolic link: `/proc/PID/maps` shall show the name under which it was loaded.
        return fs::hard_link(&built, target).or_else(|_| fs::copy(&built, target).map(|_| ()));
    }
    let mut library = fs::read(built)?;
    rename(&mut library, without);
    fs::write(target, library)
}

/// Gives symbols other names, so that nobody finds them: in the table of the dynamic linker and in the library's own.
fn rename(library: &mut [u8], symbols: &[String]) {
    let symbols: HashSet<&[u8]> = symbols.iter().map(String::as_bytes).collect();
    for text in library.split_mut(|byte| *byte == 0) {
        if symbols.contains(&*text) {
            text[0] = b'X';
        }
    }
}

/// Cargo puts the libraries of a dependency into `deps`, where the tests are and beside which the programs are.
fn find(name: &str) -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let beside = program.parent().unwrap_or(Path::new("."));
    let candidates = [beside.join("deps").join(name), beside.join(name)];
    let not_built = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not beside {}", program.display()));
    candidates.into_iter().find(|path| path.exists()).ok_or_else(not_built)
}
