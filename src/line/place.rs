//! A holder's own place in the line: its ticket's file, which is gone with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use rustix::fs::{FlockOperation, flock};

use crate::line::policy::{Request, Stage, Ticket};
use crate::line::turnstile::Turnstile;
use crate::line::{DRAFT, Line, Standing, TICKET, TURNSTILE};

/// How often a file is made anew that someone took for a dead holder's before it was locked.
const TRIES: u32 = 10;

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
    pub fn last(line: &Line, name: &str, stage: Stage, request: Request) -> io::Result<Self> {
        let (_turnstile, number) = loop {
            let mut turnstile = Turnstile::enter(line.path(TURNSTILE))?;
            let taken = line.standings()?.last().map_or(0, |last| last.ticket.number);
            let number = turnstile.next_number(taken)?;
            // Whoever replaces it from here on goes on from this number.
            if turnstile.is_current() {
                break (turnstile, number);
            }
        };
        let ticket = Ticket { number, stage, request, claims: Vec::new() };
        let standing = Standing { name: name.to_owned(), revision: 0, ticket };
        let file = write(line, &standing)?;
        Ok(Self { line: line.clone(), standing, file })
    }

    pub fn ticket(&self) -> &Ticket {
        &self.standing.ticket
    }

    /// The others in the line, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn others(&self) -> io::Result<Vec<Standing>> {
        let mut standings = self.line.standings()?;
        standings.retain(|standing| standing.ticket.number != self.ticket().number);
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
            self.file = write(&self.line, &standing)?;
            self.standing = standing;
        }
        Ok(())
    }

    /// Changes the ticket as `decide` says in view of the line, while nobody else decides. Returns what it said along with
    /// the change, or `None` if there was none.
    ///
    /// # Errors
    /// The line cannot be read or written.
    pub fn amend_alone<T, C: FnOnce(&mut Ticket)>(
        &mut self,
        decide: impl FnOnce(&[Standing]) -> Option<(T, C)>,
    ) -> io::Result<Option<T>> {
        let turnstile = Turnstile::enter(self.line.path(TURNSTILE))?;
        let Some((said, change)) = decide(&self.line.standings()?) else { return Ok(None) };
        let before = self.ticket().clone();
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
fn write(line: &Line, standing: &Standing) -> io::Result<File> {
    let number = standing.ticket.number;
    let (draft, path) = (line.path(&name(number, DRAFT)), line.path(&name(number, TICKET)));
    let text = serde_json::to_vec(standing)?;
    for _ in 0..TRIES {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
        // A reader that met it unlocked may be about to remove it.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        file.write_all(&text)?;
        match fs::rename(&draft, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => return renamed.map(|()| file),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}
