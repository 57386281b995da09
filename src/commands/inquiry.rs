//! The balloons as their holders describe them: all are asked at once, and share one deadline.

use std::time::{Duration, Instant};

use crate::control::client::{ClientError, Pending, ask};
use crate::control::registry::Entry;
use crate::control::wire::{Answer, Balloon, Request};

/// A holder that lives answers within a few milliseconds, however busy it is. Those that are stopped cost this much, all
/// of them together.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long one holder whose queue is full may keep the others from being asked.
const CONNECTING: Duration = Duration::from_millis(20);

/// The questions on their way.
pub struct Asked {
    holders: Vec<(Entry, Result<Pending, ClientError>)>,
    deadline: Instant,
}

/// What came back from one holder.
pub struct Heard {
    pub entry: Entry,
    pub answer: Result<Balloon, ClientError>,
}

/// Asks the holders of `entries` to describe themselves. The answers can be awaited while other work is done.
pub fn ask_all(entries: &[Entry]) -> Asked {
    let deadline = Instant::now() + PATIENCE;
    let ask_one = |entry: &Entry| {
        let until = deadline.min(Instant::now() + CONNECTING);
        (entry.clone(), ask(&entry.directory, &entry.name, &Request::Status, until))
    };
    Asked { holders: entries.iter().map(ask_one).collect(), deadline }
}

impl Asked {
    /// Waits for the answers. A holder that ended meanwhile has no balloon left to show.
    pub fn answers(self) -> Vec<Heard> {
        let deadline = self.deadline;
        let hear = |(entry, pending): (Entry, Result<Pending, ClientError>)| {
            let answer = match pending.and_then(|pending| pending.answer(deadline)) {
                Ok(Answer::Status { balloon }) => Ok(*balloon),
                Ok(_) | Err(ClientError::Ended) => return None,
                Err(why) => Err(why),
            };
            Some(Heard { entry, answer })
        };
        self.holders.into_iter().filter_map(hear).collect()
    }
}

impl Heard {
    /// What a person should know of a holder that tells nothing.
    pub fn note(&self) -> Option<String> {
        let Err(why) = &self.answer else { return None };
        let pid = self.entry.registration.as_ref().map(|registration| registration.pid);
        let hint = match (why, pid) {
            (ClientError::Silent, Some(pid)) => format!("; if it is stopped, `kill -CONT {pid}` lets it go on"),
            _ => String::new(),
        };
        let who = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        Some(format!("balloon `{}`{who}: {why}{hint}", self.entry.name))
    }
}
