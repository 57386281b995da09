//! `hold --detach`: the holder goes on in a session of its own once the caller knows how the inflation went.
//!
//! The holder is a fresh process from the start, never a fork of one that has called CUDA. Until everything is held it
//! keeps the caller's streams, so that errors and the ready line are the foreground's; then it lets go of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal, setsid};

use crate::commands::failure::Failure;
use crate::control::directory::RuntimeDirectory;
use crate::control::registry::log_name;
use crate::exit::Exit;
use crate::job::Inherited;
use crate::signals::{Purpose, Signals};

/// Tells the holder the process that started it.
const CALLER: &str = "GPU_BALLOON_DETACHED_FROM";

/// Whether this process is the detached holder.
///
/// # Errors
/// Its caller is gone already, or the variable came from somewhere else.
pub fn is_child() -> Result<bool, Failure> {
    let Some(caller) = std::env::var_os(CALLER) else { return Ok(false) };
    let parent = getppid().map(|parent| parent.as_raw_pid().to_string());
    if parent.is_some_and(|parent| *caller == *parent) {
        return Ok(true);
    }
    let error = anyhow::anyhow!("{CALLER} is set, but `hold --detach` did not start this process");
    Err(Failure::usage(error).hint(format!("unset {CALLER}: gpu-balloon sets it for itself")))
}

/// Starts the holder and waits until it holds or has failed.
///
/// # Errors
/// The program cannot start itself again.
pub fn start() -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, error).context("cannot start the detached holder");
    let mut words = std::env::args_os();
    let mut holder = Command::new("/proc/self/exe")
        // What `status` and `ps` show is what was typed.
        .arg0(words.next().unwrap_or_else(|| "gpu-balloon".into()))
        .args(words)
        .env(CALLER, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Only now, as the holder would inherit what is blocked. A signal before this ends the caller, and the holder with it.
    let mut signals = Signals::block(Purpose::Hold).map_err(|error| Failure::new(Exit::Failed, error))?;
    let ready = ready_line(&mut holder, &mut signals).map_err(failed)?;
    if ready.is_empty() {
        return Ok(exit_like(holder.wait().map_err(failed)?));
    }
    let _ = io::stdout().write_all(&ready);
    Ok(Exit::Done.into())
}

/// What the holder writes to its standard output until it lets go of that; nothing if it has failed. A signal to this
/// process before then is the holder's, which gives everything back.
fn ready_line(holder: &mut Child, signals: &mut Signals) -> io::Result<Vec<u8>> {
    let mut ready = Vec::new();
    let pid = Pid::from_child(holder);
    let Some(stdout) = &mut holder.stdout else { return Ok(ready) };
    loop {
        let mut polled = [PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_news = !polled[1].revents().is_empty();
        for received in signals.read() {
            if let Some(signal) = Signal::from_named_raw(received.signal) {
                // It is this process's child, so that its pid is its own until it is waited for.
                let _ = kill_process(pid, signal);
            }
        }
        let mut part = [0; 1024];
        match if has_news { stdout.read(&mut part) } else { continue } {
            Ok(0) => return Ok(ready),
            Ok(count) => ready.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The exit code of a holder that failed; 128 + n where signal n killed it.
fn exit_like(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(Exit::Failed.into(), ExitCode::from)
}

/// The detached holder's own side.
pub struct Detached {
    pub log: PathBuf,
    file: File,
}

/// Makes this process a session of its own that holds nothing of the caller's but standard output and standard error, and
/// that gives everything back if the caller dies before it knows the outcome.
///
/// # Errors
/// There is no place for the log, or the caller is gone already.
pub fn child(inherited: &mut Inherited, ready_fd: Option<i32>) -> Result<Detached, Failure> {
    inherited.close_all_but(ready_fd);
    // A child just started leads no group, so this cannot fail.
    let _ = setsid();
    // It was started as `exe`.
    let _ = rustix::thread::set_name(c"gpu-balloon");
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    // The caller may have died before that.
    is_child()?;
    let directory = RuntimeDirectory::open().map_err(|error| Failure::new(Exit::Failed, error))?;
    let log = directory.join(&log_name(std::process::id()));
    let file = open_log(&log).map_err(|error| {
        Failure::new(Exit::Failed, error).context(format!("cannot write the log {}", log.display()))
    })?;
    Ok(Detached { log, file })
}

fn open_log(path: &Path) -> io::Result<File> {
    // An earlier process with this pid may have left one.
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)
}

impl Detached {
    /// Everything is held: from here on the caller's end, and its terminal, are no concern of the holder's.
    pub fn let_go(&self) {
        let _ = set_parent_process_death_signal(None);
        let _ = std::env::set_current_dir("/");
        let _ = rustix::stdio::dup2_stderr(&self.file);
        let _ = rustix::stdio::dup2_stdout(&self.file);
    }
}

impl Drop for Detached {
    /// A log that says nothing is not kept.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(&self.log);
        }
    }
}
