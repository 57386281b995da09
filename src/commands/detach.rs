//! `--detach`: the holder goes on in a session of its own once the caller knows how the inflation went.
//!
//! The holder is a fresh process from the start, never a fork of one that has called CUDA. Until everything is held, and a
//! command has started, it keeps the caller's streams, so that errors and the ready line are the foreground's; then it lets
//! go of them.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal, setsid};

use crate::commands::failure::Failure;
use crate::control::directory::RuntimeDirectory;
use crate::control::registry::log_name;
use crate::exit::Exit;
use crate::job::Inherited;
use crate::signals::{Purpose, Signals};

/// Tells the holder the process that started it and, after a colon, the descriptor for the output of its command, where that
/// is not the log.
pub const CALLER: &str = "GPU_BALLOON_DETACHED_FROM";

/// Whose the standard output is that the caller was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Holders,
    /// Where somebody may read it later.
    Commands,
}

/// Whether this process is the detached holder.
///
/// # Errors
/// Its caller is gone already, or the variable came from somewhere else.
pub fn is_child() -> Result<bool, Failure> {
    let Some(caller) = std::env::var_os(CALLER) else { return Ok(false) };
    let parent = getppid().map(|parent| parent.as_raw_pid().to_string());
    if parent.as_deref() == caller.to_string_lossy().split(':').next() {
        return Ok(true);
    }
    let error = anyhow::anyhow!("{CALLER} is set, but `--detach` did not start this process");
    Err(Failure::usage(error).hint(format!("unset {CALLER}: gpu-balloon sets it for itself")))
}

/// Starts the holder and waits until it holds or has failed.
///
/// # Errors
/// The program cannot start itself again.
pub fn start(output: Output) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, error).context("cannot start the detached holder");
    let kept = (output == Output::Commands && is_lasting(io::stdout()))
        .then(|| rustix::io::dup(io::stdout()))
        .transpose()
        .map_err(|error| failed(error.into()))?;
    let mut caller = std::process::id().to_string();
    if let Some(kept) = &kept {
        let _ = write!(caller, ":{}", kept.as_raw_fd());
    }
    let mut words = std::env::args_os();
    let mut holder = Command::new("/proc/self/exe")
        // What `status` and `ps` show is what was typed.
        .arg0(words.next().unwrap_or_else(|| "gpu-balloon".into()))
        .args(words)
        .env(CALLER, caller)
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
    if kept.is_none() {
        let _ = io::stdout().write_all(&ready);
    }
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

/// Whether a stream leads to something that stays when the caller, its terminal and its pipes are gone.
fn is_lasting(stream: impl AsFd + IsTerminal) -> bool {
    let Ok(status) = rustix::fs::fstat(&stream) else { return false };
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => true,
        FileType::CharacterDevice => !stream.is_terminal(),
        _ => false,
    }
}

/// The detached holder's own side.
pub struct Detached {
    pub log: PathBuf,
    file: Arc<File>,
    /// For what its command prints: standard output and standard error.
    pub output: [Arc<File>; 2],
    /// Where the caller waits for the ready line.
    caller: Option<OwnedFd>,
}

/// Makes this process a session of its own that holds nothing of the caller's but standard output and standard error, and
/// that gives everything back if the caller dies before it knows the outcome.
///
/// # Errors
/// There is no place for the log, or the caller is gone already.
pub fn child(inherited: &mut Inherited, ready_fd: Option<i32>) -> Result<Detached, Failure> {
    let kept = std::env::var(CALLER).ok().and_then(|caller| caller.split_once(':')?.1.parse().ok());
    let kept = kept.and_then(|number| inherited.take(number)).map(File::from);
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
    let failed = |error: rustix::io::Errno| Failure::new(Exit::Failed, io::Error::from(error));
    let caller = Some(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3).map_err(failed)?);
    let errors = is_lasting(io::stderr())
        .then(|| rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3).map(File::from))
        .transpose()
        .map_err(failed)?;
    let file = Arc::new(file);
    let output = [kept, errors].map(|kept| kept.map_or(Arc::clone(&file), Arc::new));
    Ok(Detached { log, file, output, caller })
}

fn open_log(path: &Path) -> io::Result<File> {
    // An earlier process with this pid may have left one.
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)
}

impl Detached {
    /// Everything is held, of which `ready` tells the caller: from here on its end, and its terminal, are no concern of the
    /// holder's.
    pub fn let_go(&mut self, ready: &str) {
        let mut caller = self.caller.take().map(File::from);
        if let Some(caller) = &mut caller {
            let _ = caller.write_all(ready.as_bytes());
        }
        let _ = set_parent_process_death_signal(None);
        let _ = std::env::set_current_dir("/");
        let _ = rustix::stdio::dup2_stderr(&*self.file);
        let _ = rustix::stdio::dup2_stdout(&*self.file);
        // Last of all: the caller goes when nobody holds its pipe any more, and must not take the holder along.
        drop(caller);
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
