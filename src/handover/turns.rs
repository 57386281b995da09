//! Whose turn it is on a GPU: one process is served at a time, first come, first served.
//!
//! Knows who by the number of the connection alone, and nothing of what is needed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A connection's number, never given twice.
pub type Id = u64;

/// How long a turn lasts after the last word of its owner, who may have been stopped.
const TURN: Duration = Duration::from_secs(5);

/// The turns on one GPU.
#[derive(Default)]
pub struct Turns {
    /// Whose turn it is, and until when.
    current: Option<(Id, Instant)>,
    /// Who comes after.
    queue: VecDeque<Id>,
}

impl Turns {
    /// Whose turn it is.
    pub fn current(&self) -> Option<Id> {
        self.current.map(|(id, _)| id)
    }

    /// Everybody who waits, and whose turn it is.
    pub fn everybody(&self) -> impl Iterator<Item = Id> {
        self.current().into_iter().chain(self.queue.iter().copied())
    }

    /// Asks for a turn. Says whether it is this one's already, which then lasts longer.
    pub fn ask(&mut self, id: Id) -> bool {
        let is_current = self.current() == Some(id);
        if is_current {
            self.current = Some((id, Instant::now() + TURN));
        } else if !self.queue.contains(&id) {
            self.queue.push_back(id);
        }
        is_current
    }

    /// Begins the next turn if it is nobody's, and tells whose that is.
    pub fn begin(&mut self) -> Option<Id> {
        let next = if self.current.is_none() { self.queue.pop_front() } else { None }?;
        self.current = Some((next, Instant::now() + TURN));
        Some(next)
    }

    /// Gives up a turn or a place in the queue. Says whether a turn ended.
    pub fn leave(&mut self, id: Id) -> bool {
        self.queue.retain(|queued| *queued != id);
        self.current.take_if(|(current, _)| *current == id).is_some()
    }

    /// Ends a turn that has lasted too long. Says whether it did.
    pub fn end_overdue(&mut self, now: Instant) -> bool {
        self.current.take_if(|(_, until)| *until <= now).is_some()
    }
}
