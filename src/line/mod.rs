//! The line of this user's holders that do not have all of their memory yet: who is in it, and who may take now.
//!
//! It is a directory with one locked file per holder, its ticket. As in the registry, the lock dies with the process, so a
//! ticket that can be locked belongs to nobody; and it works between containers that share the directory, where pids do
//! not mean the same. A ticket is replaced as a whole, by renaming, so that nobody reads half of one.

mod jobs;
mod place;
pub mod policy;
pub mod sight;
mod still;
pub mod turn;
mod turnstile;
pub mod verdict;
mod wakes;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::control::directory::{RuntimeDirectory, is_at};
pub use place::Place;
use policy::Ticket;
pub use wakes::{Wakes, Woken};

const DIRECTORY: &str = "line";
const TURNSTILE: &str = "turnstile";
const TICKET: &str = ".ticket";
/// A ticket that is being written, which takes no longer than this.
const DRAFT: &str = ".draft";
const YOUNG: Duration = Duration::from_secs(1);
/// Touched by who frees memory and stays.
const FREED: &str = "freed";

/// A ticket in the line, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The balloon's name.
    pub name: String,
    /// Rises with every change.
    pub revision: u64,
    #[serde(flatten)]
    pub ticket: Ticket,
}

/// The line in a runtime directory.
#[derive(Debug, Clone)]
pub struct Line {
    directory: RuntimeDirectory,
}

impl Line {
    /// Opens the line, which is made when it is missing.
    ///
    /// # Errors
    /// The runtime directory takes no directory.
    pub fn open(directory: &RuntimeDirectory) -> io::Result<Self> {
        let line = Self { directory: directory.clone() };
        match DirBuilder::new().mode(0o700).create(directory.short_path(DIRECTORY)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(line),
        }
    }

    /// Who is in the line, in order. What killed holders left is cleared away.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn standings(&self) -> io::Result<Vec<Standing>> {
        let mut standings = Vec::new();
        for entry in fs::read_dir(self.path(""))? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(TICKET) {
                standings.extend(self.read(name));
            } else if name.ends_with(DRAFT) {
                self.clear(name);
            }
        }
        standings.sort_by_key(|standing: &Standing| standing.ticket.number);
        Ok(standings)
    }

    pub fn directory(&self) -> &RuntimeDirectory {
        &self.directory
    }

    /// Tells those who wait that memory was freed by someone who stays.
    pub fn announce(directory: &RuntimeDirectory) {
        let path = directory.short_path(&format!("{DIRECTORY}/{FREED}"));
        // Without a line nobody waits; closing the file is what they are woken by.
        let _ = File::create(path);
    }

    /// The ticket in a file, unless its holder is gone.
    fn read(&self, name: &str) -> Option<Standing> {
        // Again when the ticket was replaced after it was opened.
        for _ in 0..3 {
            let mut file = File::open(self.path(name)).ok()?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let mut text = String::new();
                file.read_to_string(&mut text).ok()?;
                let standing = serde_json::from_str(&text);
                return standing.inspect_err(|error| tracing::debug!(name, %error, "ticket not understood")).ok();
            }
            if self.remove(name, &file) {
                return None;
            }
        }
        None
    }

    /// Removes the draft of a holder that is gone. A young one is being written, which locking it would disturb.
    fn clear(&self, name: &str) {
        if let Ok(file) = File::open(self.path(name))
            && let Ok(written) = file.metadata().and_then(|metadata| metadata.modified())
            && written.elapsed().is_ok_and(|age| age > YOUNG)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            self.remove(name, &file);
        }
    }

    /// Removes `name` if that still is the locked `file`.
    fn remove(&self, name: &str, file: &File) -> bool {
        let path = self.path(name);
        is_at(file, &path) && fs::remove_file(path).is_ok()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.short_path(&format!("{DIRECTORY}/{name}"))
    }
}

#[cfg(test)]
mod tests;
