//! Who holds a balloon: one locked file a holder in the runtime directory.
//!
//! The lock is `flock(2)` on the holder's own open file: the kernel gives it up when the holder ends, however it ends.
//! So a file that can be locked belongs to nobody, whatever pids were reused since and whichever container looks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::control::directory::{DirectoryError, RuntimeDirectory, is_at};
use crate::control::name::Name;
use crate::control::wire::MAX_MESSAGE;
use crate::gpu::GpuUuid;

/// How the name of a live balloon's file ends.
pub const REGISTRATION: &str = ".balloon";
const SOCKET: &str = ".sock";
/// Where a holder listens to the processes of the job that it runs.
const JOB_SOCKET: &str = ".job";

/// How often, and how far apart, a lock is tried that a passing reader may hold for an instant.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// What a holder says of itself once, for when it does not answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    pub pid: u32,
    pub command: Option<String>,
    pub reason: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    pub gpus: Vec<GpuUuid>,
    pub log: Option<String>,
}

/// Why a name could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("a balloon named `{0}` exists already")]
    Taken(Name),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("cannot register the balloon in {directory}")]
    Io { directory: String, source: io::Error },
}

/// A live holder found in the registry.
#[derive(Debug, Clone)]
pub struct Entry {
    pub directory: RuntimeDirectory,
    pub name: String,
    /// `None` where the holder could not write it, on a full disk say.
    pub registration: Option<Registration>,
}

/// A holder's own entry; dropping it removes the files.
#[derive(Debug)]
pub struct Registered {
    directory: RuntimeDirectory,
    name: Name,
    file: File,
}

impl Registered {
    /// Registers `name`, or finds that another holder has it: of two at the same instant exactly one succeeds.
    ///
    /// # Errors
    /// The name is taken, or the directory takes no file.
    pub fn claim(directory: &RuntimeDirectory, name: &Name) -> Result<Self, RegistryError> {
        let path = directory.short_path(&format!("{name}{REGISTRATION}"));
        let failed = |source| RegistryError::Io { directory: directory.path().display().to_string(), source };
        for _ in 0..TRIES {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                std::thread::sleep(BETWEEN_TRIES);
                continue;
            }
            // Whoever clears a dead holder's file does so under its lock: a file that is gone by now is not the name.
            if is_at(&file, &path) {
                remove(directory, name.as_str(), &[SOCKET, JOB_SOCKET]);
                return Ok(Self { directory: directory.clone(), name: name.clone(), file });
            }
        }
        Err(RegistryError::Taken(name.clone()))
    }

    /// Writes down what others should know. A full disk costs the description, not the balloon.
    pub fn describe(&mut self, registration: &Registration) -> io::Result<()> {
        let text = serde_json::to_vec(registration)?;
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&text)
    }

    pub fn socket_name(&self) -> String {
        format!("{}{SOCKET}", self.name)
    }

    pub fn directory(&self) -> &RuntimeDirectory {
        &self.directory
    }

    /// Where to listen to the job's processes: the path for this process, and the one by which they reach it.
    pub fn job_socket(&self) -> (PathBuf, PathBuf) {
        let name = format!("{}{JOB_SOCKET}", self.name);
        (self.directory.short_path(&name), self.directory.short_path_for_others(&name))
    }
}

fn remove(directory: &RuntimeDirectory, name: &str, suffixes: &[&str]) {
    for suffix in suffixes {
        let _ = fs::remove_file(directory.short_path(&format!("{name}{suffix}")));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        remove(&self.directory, self.name.as_str(), &[SOCKET, JOB_SOCKET, REGISTRATION]);
    }
}

/// Where the holder of `name` listens.
pub fn socket_name(name: &str) -> String {
    format!("{name}{SOCKET}")
}

/// The live holders that this user may manage: the user's own, and for root everybody's.
///
/// # Errors
/// The user's own directory cannot be read.
pub fn manageable() -> Result<Vec<Entry>, DirectoryError> {
    let mut entries = live(&RuntimeDirectory::open()?)?;
    for directory in RuntimeDirectory::of_others() {
        entries.extend(live(&directory).unwrap_or_default());
    }
    Ok(entries)
}

/// The live holders, by name. What killed holders left is cleared away.
///
/// # Errors
/// The directory cannot be read.
pub fn live(directory: &RuntimeDirectory) -> Result<Vec<Entry>, DirectoryError> {
    let names = directory.names_with(REGISTRATION)?;
    Ok(names.into_iter().filter_map(|name| look_up(directory, name)).collect())
}

/// Where live holders listen to the jobs that they run.
///
/// # Errors
/// The directory cannot be read.
pub fn job_sockets(directory: &RuntimeDirectory) -> Result<Vec<PathBuf>, DirectoryError> {
    let names = directory.names_with(JOB_SOCKET)?;
    let live = names.into_iter().filter_map(|name| look_up(directory, name));
    Ok(live.map(|entry| directory.short_path(&format!("{}{JOB_SOCKET}", entry.name))).collect())
}

/// Whether the holder of `entry` still lives; another one may have taken its name since.
pub fn lives(entry: &Entry) -> bool {
    look_up(&entry.directory, entry.name.clone()).is_some_and(|now| now.registration == entry.registration)
}

/// The entry of `name` when its holder lives.
fn look_up(directory: &RuntimeDirectory, name: String) -> Option<Entry> {
    let path = directory.short_path(&format!("{name}{REGISTRATION}"));
    let file = open(&path).ok()?;
    let is_dead = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    let registration = read(&file).ok();
    if !is_dead {
        return Some(Entry { directory: directory.clone(), name, registration });
    }
    // Still under the lock, so that a holder that claims the name now keeps what it makes.
    if is_at(&file, &path) {
        if let Some(registration) = registration {
            clear_empty(&directory.short_path(&log_name(registration.pid)));
        }
        remove(directory, &name, &[SOCKET, JOB_SOCKET, REGISTRATION]);
    }
    None
}

/// Root reads the directories of others, who could have laid a pipe without end there, or a link to another file.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn read(file: &File) -> io::Result<Registration> {
    let mut text = String::new();
    file.take(MAX_MESSAGE as u64).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn clear_empty(log: &Path) {
    if fs::symlink_metadata(log).is_ok_and(|log| log.is_file() && log.len() == 0) {
        let _ = fs::remove_file(log);
    }
}

/// Where the detached holder with this pid writes what it has to say.
pub fn log_name(pid: u32) -> String {
    format!("{pid}.log")
}

/// Why a text names no balloon.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error("no balloon is named `{}`", .0.escape_debug())]
    Unknown(String),
    #[error("`{text}` fits several balloons: {fitting}; name one of them")]
    Ambiguous { text: String, fitting: String },
}

/// The holder that `text` names: by the balloon's name, the holder's pid, or the beginning of one name alone.
///
/// A pid is written whole: when 42 has ended, `42` must not become 4242.
///
/// # Errors
/// No name begins so, or several do.
pub fn find<'a>(entries: &'a [Entry], text: &str) -> Result<&'a Entry, FindError> {
    let pid = |entry: &Entry| entry.registration.as_ref().map(|registration| registration.pid);
    let by_name: Vec<&Entry> = entries.iter().filter(|entry| entry.name == text).collect();
    let by_pid = || text.parse().ok().and_then(|text| entries.iter().find(|entry| pid(entry) == Some(text)));
    match by_name[..] {
        [] => {}
        [entry] => return Ok(entry),
        // Only root sees the balloons of several users.
        _ => {
            return Err(ambiguous(text, by_name.iter().filter_map(|entry| pid(entry)).map(|pid| format!("pid {pid}"))));
        }
    }
    if let Some(entry) = by_pid() {
        return Ok(entry);
    }
    let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let begins = |entry: &&Entry| !text.is_empty() && entry.name.starts_with(text) && !is_pid(&entry.name);
    let fitting: Vec<&Entry> = entries.iter().filter(begins).collect();
    match fitting[..] {
        [entry] => Ok(entry),
        [] => Err(FindError::Unknown(text.to_owned())),
        _ => Err(ambiguous(text, fitting.iter().map(|entry| entry.name.clone()))),
    }
}

fn ambiguous(text: &str, fitting: impl Iterator<Item = String>) -> FindError {
    FindError::Ambiguous { text: text.to_owned(), fitting: fitting.collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, pid: u32) -> Entry {
        let started_at = "2026-01-01T00:00:00Z".to_owned();
        let registration = Registration { pid, command: None, reason: None, started_at, gpus: Vec::new(), log: None };
        let place = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let directory = RuntimeDirectory::open_at(place.path().join("gpu-balloon"), user).unwrap();
        Entry { directory, name: name.to_owned(), registration: Some(registration) }
    }

    #[test]
    fn a_balloon_is_found_by_name_pid_or_unique_beginning() {
        let entries = [entry("train", 10), entry("train-2", 11), entry("eval", 12), entry("4242", 4242)];
        let found = |text| find(&entries, text).map(|entry| entry.name.as_str());
        assert_eq!(found("train"), Ok("train"), "a whole name wins over a beginning");
        assert_eq!(found("e"), Ok("eval"));
        assert_eq!(found("11"), Ok("train-2"));
        assert_eq!(found("4242"), Ok("4242"));
        let of_two_users = [entry("train", 10), entry("train", 20)];
        assert!(matches!(find(&of_two_users, "train"), Err(FindError::Ambiguous { .. })));
        assert_eq!(find(&of_two_users, "20").unwrap().registration.as_ref().map(|found| found.pid), Some(20));
        let fitting = "train, train-2".to_owned();
        assert_eq!(found("tr"), Err(FindError::Ambiguous { text: "tr".to_owned(), fitting }));
        for text in ["", "x", "42", "train-3", "TRAIN"] {
            assert_eq!(found(text), Err(FindError::Unknown(text.to_owned())));
        }
    }
}
