//! A holder's own place in the line: its ticket's file, which is gone with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use crate::line::policy::{Ticket, Wish};
use crate::line::turnstile::Turnstile;
use crate::line::{DRAFT, Line, Standing, TICKET, TURNSTILE};

/// How often a file is made anew that someone took for a dead holder's before it was locked.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
pub struct Place {
    line: Line,
    standing: Standing,
    /// Locked as long as the holder lives.
    file: File,
}

impl Place {
    /// Takes the last place in the line.
    ///
    /// # Errors
    /// The line takes no file.
    pub fn last(line: &Line, name: &str, wish: Wish) -> io::Result<Self> {
        let mut turnstile = Turnstile::enter(line.path(TURNSTILE))?;
        let mut taken = line.standings()?.last().map_or(0, |last| last.ticket.number);
        loop {
            taken = turnstile.next_number(taken)?;
            let ticket = wish.clone().numbered(taken);
            let standing = Standing { name: name.to_owned(), revision: 0, ticket };
            // Whoever stood still in a turnstile that was replaced may come with a number that was given again.
            match write(line, &standing, RenameFlags::NOREPLACE) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                written => return Ok(Self { line: line.clone(), standing, file: written? }),
            }
        }
    }

    pub fn line(&self) -> &Line {
        &self.line
    }

    pub fn ticket(&self) -> &Ticket {
        &self.standing.ticket
    }

    /// The others in the line, in order. An own ticket that someone has removed is put back.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn others(&mut self) -> io::Result<Vec<Standing>> {
        let mut standings = self.line.standings()?;
        let all = standings.len();
        standings.retain(|standing| standing.ticket.number != self.ticket().number);
        if standings.len() == all {
            self.file = write(&self.line, &self.standing, RenameFlags::NOREPLACE)?;
        }
        Ok(standings)
    }

    /// Changes the ticket for all to see.
    ///
    /// # Errors
    /// The line takes no file; the ticket is as it was.
    pub fn amend(&mut self, change: impl FnOnce(&mut Ticket)) -> io::Result<()> {
        let mut standing = self.standing.clone();
        change(&mut standing.ticket);
        if standing.ticket != self.standing.ticket {
            standing.revision += 1;
            self.file = write(&self.line, &standing, RenameFlags::empty())?;
            self.standing = standing;
        }
        Ok(())
    }

    /// How often anything was granted in the line so far.
    ///
    /// # Errors
    /// The turnstile cannot be read.
    pub fn granted(&self) -> io::Result<u64> {
        Turnstile::granted_at(&self.line.path(TURNSTILE))
    }

    /// Changes the ticket as `decide` says in view of the others and of how often something was granted, while nobody else
    /// decides. The change is counted as a grant. Returns what it said along with it, or `None` if there was none.
    ///
    /// # Errors
    /// The line cannot be read or written.
    pub fn amend_alone<T, C: FnOnce(&mut Ticket)>(
        &mut self,
        decide: impl FnOnce(&Ticket, &[Standing], u64) -> Option<(T, C)>,
    ) -> io::Result<Option<T>> {
        let mut turnstile = Turnstile::enter(self.line.path(TURNSTILE))?;
        let others = self.others()?;
        let Some((said, change)) = decide(self.ticket(), &others, turnstile.granted()) else { return Ok(None) };
        let before = self.ticket().clone();
        turnstile.grant()?;
        self.amend(change)?;
        if turnstile.is_current() {
            return Ok(Some(said));
        }
        // Whoever replaced the turnstile decided without knowing of this.
        self.amend(|ticket| *ticket = before)?;
        Ok(None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.line.path(&name(self.ticket().number, TICKET)));
    }
}

fn name(number: u64, suffix: &str) -> String {
    format!("{number}{suffix}")
}

/// Writes a ticket under its number, locked, in one step for whoever reads.
fn write(line: &Line, standing: &Standing, flags: RenameFlags) -> io::Result<File> {
    let number = standing.ticket.number;
    let draft = line.path(&format!("{number}-{}{DRAFT}", std::process::id()));
    let path = line.path(&name(number, TICKET));
    let text = serde_json::to_vec(standing)?;
    for _ in 0..TRIES {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
        // A reader that met it unlocked is about to remove it.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            std::thread::sleep(BETWEEN_TRIES);
            continue;
        }
        file.write_all(&text)?;
        match renameat_with(CWD, &draft, CWD, &path, flags) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::NOENT) => {}
            // A file system that only knows the plain way.
            Err(rustix::io::Errno::INVAL) if !flags.is_empty() => return write(line, standing, RenameFlags::empty()),
            Err(error) => {
                let _ = fs::remove_file(&draft);
                return Err(error.into());
            }
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}
