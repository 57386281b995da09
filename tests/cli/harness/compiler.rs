//! Small C programs for tests, compiled once a run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Compiles a file of this repository with `compiler` and returns the program.
///
/// # Panics
/// If it does not compile.
#[track_caller]
pub fn compile(compiler: &str, source: &str, options: &[&str]) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("programs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        directory
    });
    let stem = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let program = directory.join([compiler, &stem, &options.concat()].concat().replace('/', "_"));
    if !program.exists() {
        // Another test may compile it at the same time: the last one to finish wins, whole.
        let fresh = program.with_extension(format!("{:?}", std::thread::current().id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let status = Command::new(compiler).arg(source).arg("-o").arg(&fresh).args(options).status();
        assert!(status.is_ok_and(|status| status.success()), "{compiler} compiles {stem}");
        std::fs::rename(&fresh, &program).expect("it is there");
    }
    program
}
