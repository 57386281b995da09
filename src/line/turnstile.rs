//! The turnstile of the line: one holder at a time takes a number or is let go.
//!
//! It is a lock on a file, held around a few reads and writes of small files. The file has the last number that was given,
//! and counts who passes and what is granted. A holder that is stopped (`^Z`) in there must not stop all others: when nobody has passed for
//! [`PATIENCE`], the next one puts a new turnstile in its place, and the stopped one finds that out before it acts
//! ([`Turnstile::is_current`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::control::directory::is_at;
use crate::line::DRAFT;

/// Many times what anyone needs in there, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);

const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// The turnstile, occupied until dropped.
#[derive(Debug)]
pub struct Turnstile {
    path: PathBuf,
    file: File,
    count: Count,
}

/// What stands in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    number: u64,
    passed: u64,
    granted: u64,
}

impl Turnstile {
    /// Waits for the turnstile at `path`, and replaces it when whoever is in there does not move.
    ///
    /// # Errors
    /// The file cannot be made, locked or written.
    pub fn enter(path: PathBuf) -> io::Result<Self> {
        let mut blocked: Option<(Count, Instant)> = None;
        loop {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Someone may have replaced it after it was opened.
                Ok(()) if is_at(&file, &path) => {
                    let count = Count::read(&mut file)?;
                    let mut turnstile = Self { path, file, count };
                    turnstile.write(Count { passed: count.passed + 1, ..count })?;
                    return Ok(turnstile);
                }
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let count = Count::read(&mut file)?;
                    match blocked {
                        Some((before, since)) if before == count => {
                            if since.elapsed() > PATIENCE {
                                tracing::warn!("a holder stands still in the turnstile of the line; it is passed by");
                                replace(&path, &file)?;
                            }
                        }
                        _ => blocked = Some((count, Instant::now())),
                    }
                    std::thread::sleep(BETWEEN_TRIES);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The number after the last one given and after `taken`, which is the highest in the line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn next_number(&mut self, taken: u64) -> io::Result<u64> {
        let number = self.count.number.max(taken) + 1;
        self.write(Count { number, ..self.count })?;
        Ok(number)
    }

    /// How often something was granted so far.
    pub fn granted(&self) -> u64 {
        self.count.granted
    }

    /// Counts a grant.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn grant(&mut self) -> io::Result<()> {
        self.write(Count { granted: self.count.granted + 1, ..self.count })
    }

    /// [`Self::granted`] without entering, as of an instant ago. A number that it never was, if it is being written.
    pub fn granted_at(path: &Path) -> io::Result<u64> {
        let mut file = File::open(path)?;
        Ok(Count::read(&mut file)?.granted)
    }

    /// All of it at once, always of one length: to shorten a file just written can take milliseconds where it is on a disk.
    fn write(&mut self, count: Count) -> io::Result<()> {
        self.count = count;
        self.file.rewind()?;
        self.file.write_all(format!("{:20} {:20} {:20}", count.number, count.passed, count.granted).as_bytes())
    }

    /// Whether nobody has replaced it meanwhile.
    pub fn is_current(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

impl Count {
    /// A file that was cut short, on a full disk say, counts from the beginning; the line itself still has the order.
    fn read(file: &mut File) -> io::Result<Self> {
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Ok(Self { number: next(), passed: next(), granted: next() })
    }
}

/// Puts a new turnstile in place of `old`, with its number.
fn replace(path: &Path, old: &File) -> io::Result<()> {
    let new = path.with_extension(format!("{}{DRAFT}", std::process::id()));
    fs::copy(path, &new)?;
    let outcome = if is_at(old, path) { fs::rename(&new, path) } else { fs::remove_file(&new) };
    match outcome {
        // A reader of the line has cleared the draft away; the next try makes another.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_survive_the_line() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("turnstile");
        let number = |taken| Turnstile::enter(path.clone()).unwrap().next_number(taken).unwrap();
        assert_eq!([number(0), number(0), number(9), number(3)], [1, 2, 10, 11]);
        fs::write(&path, "").unwrap();
        assert_eq!(number(11), 12, "without a last number, the line's own");
    }

    #[test]
    fn one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("turnstile");
        let inside = Turnstile::enter(path.clone()).unwrap();
        let waits = std::thread::spawn(move || Turnstile::enter(path).unwrap().is_current());
        drop(inside);
        assert!(waits.join().unwrap());
    }

    #[test]
    fn one_that_stands_still_is_passed_by_and_knows() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("turnstile");
        let mut stopped = Turnstile::enter(path.clone()).unwrap();
        assert_eq!(stopped.next_number(0).unwrap(), 1);
        let begun = Instant::now();
        let mut next = Turnstile::enter(path.clone()).unwrap();
        assert!(begun.elapsed() >= PATIENCE);
        assert_eq!((stopped.is_current(), next.is_current()), (false, true));
        assert_eq!(next.next_number(0).unwrap(), 2);
        drop(next);
        let begun = Instant::now();
        let _third = Turnstile::enter(path).unwrap();
        assert!(begun.elapsed() < PATIENCE, "nobody else waits for it");
    }
}
