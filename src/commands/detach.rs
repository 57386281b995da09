//! `hold --detach`: the holder goes on in a session of its own once the caller knows how the inflation went.
//!
//! The holder is a fresh process from the start, never a fork of one that has called CUDA. Until everything is held it
//! keeps the caller's streams, so that errors and the ready line are the foreground's; then it lets go of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal, setsid};

use crate::commands::failure::Failure;
use crate::control::directory::RuntimeDirectory;
use crate::exit::Exit;
use crate::job::Inherited;

/// Tells the child that it is the one to hold.
const VARIABLE: &str = "GPU_BALLOON_DETACHED";

/// Whether this process is the detached holder.
pub fn is_child() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Starts the holder and waits until it holds or has failed.
///
/// # Errors
/// The program cannot start itself again.
pub fn start() -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, error).context("cannot start the detached holder");
    let mut words = std::env::args_os();
    let mut child = Command::new("/proc/self/exe")
        // What `status` and `ps` show is what was typed.
        .arg0(words.next().unwrap_or_else(|| "gpu-balloon".into()))
        .args(words)
        .env(VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut ready = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut ready).map_err(failed)?;
    }
    if ready.is_empty() {
        let status = child.wait().map_err(failed)?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(Exit::Failed.into(), ExitCode::from));
    }
    let _ = io::stdout().write_all(ready.as_bytes());
    Ok(Exit::Done.into())
}

/// The detached holder's own side.
pub struct Child {
    pub log: PathBuf,
    file: File,
}

/// Makes this process a session of its own that holds nothing of the caller's but standard output and standard error, and
/// that gives everything back if the caller dies before it knows the outcome.
///
/// # Errors
/// There is no place for the log.
pub fn child(inherited: &mut Inherited, ready_fd: Option<i32>) -> Result<Child, Failure> {
    inherited.close_all_but(ready_fd);
    // A child just started leads no group, so this cannot fail.
    let _ = setsid();
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let directory = RuntimeDirectory::open().map_err(|error| Failure::new(Exit::Failed, error))?;
    let log = directory.join(&format!("{}.log", std::process::id()));
    let file = open_log(&log).map_err(|error| {
        Failure::new(Exit::Failed, error).context(format!("cannot write the log {}", log.display()))
    })?;
    Ok(Child { log, file })
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Child {
    /// Everything is held: from here on the caller's end, and its terminal, are no concern of the holder's.
    pub fn let_go(&self) {
        let _ = set_parent_process_death_signal(None);
        let _ = std::env::set_current_dir("/");
        let _ = rustix::stdio::dup2_stderr(&self.file);
        let _ = rustix::stdio::dup2_stdout(&self.file);
    }
}

impl Drop for Child {
    /// A log that says nothing is not kept.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(&self.log);
        }
    }
}
