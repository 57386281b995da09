//! The requests that change a held balloon: one after the other, in the order in which they came.

use std::collections::VecDeque;

use crate::control::server::Asker;
use crate::control::wire::Answer;
use crate::gpu::GpuUuid;
use crate::holder::orders::{Order, Report};
use crate::holder::resize::{Resize, Resizing};
use crate::holder::{Cause, Holder};
use crate::line::Line;
use crate::units::ByteSize;

/// The request under way, and those behind it.
#[derive(Default)]
pub struct Requests {
    pub(super) current: Option<Current>,
    waiting: VecDeque<(Asker, Wish)>,
}

/// A request as asked.
pub enum Wish {
    Resize(Resize),
    ReleasePart(Vec<GpuUuid>),
}

/// A request under way.
pub enum Current {
    Resizing(Resizing),
    Releasing(Releasing),
}

/// The release of some of the balloon's parts.
pub struct Releasing {
    asker: Asker,
    /// How many workers have yet to report.
    left: usize,
    freed: ByteSize,
    failure: Option<Answer>,
}

impl Holder {
    /// Takes a request on; it is answered when it is done. Says why the balloon ends, where nothing of it would be left.
    pub(super) fn take_on(&mut self, asker: Asker, wish: Wish) -> Option<Cause> {
        self.requests.waiting.push_back((asker, wish));
        self.start_next()
    }

    /// Deals with what a worker reports while the balloon is held. Says why the balloon ends, where it does.
    pub(super) fn follow(&mut self, index: usize, report: Report) -> Option<Cause> {
        match (&mut self.requests.current, report) {
            (Some(Current::Resizing(_)), report) => self.follow_resize(index, report),
            (Some(Current::Releasing(_)), Report::Deflated { freed, outcome }) => {
                self.part_released(
                    index,
                    freed,
                    outcome.err().map(|error| Answer::Refused { error: error.to_string() }),
                );
            }
            (_, Report::Failed(error)) => {
                tracing::error!(gpu = self.seats[index].ordinal(), %error, "GPU lost");
                return Some(Cause::Lost);
            }
            _ => {}
        }
        self.start_next()
    }

    /// The balloon is being let go of: what was asked of its parts is settled by that.
    pub(super) fn settle_requests(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        let current = requests.current.map(|current| match current {
            Current::Resizing(resizing) => (resizing.asker, false),
            Current::Releasing(releasing) => (releasing.asker, true),
        });
        let waiting = requests.waiting.into_iter().map(|(asker, wish)| (asker, matches!(wish, Wish::ReleasePart(_))));
        for (asker, is_release) in current.into_iter().chain(waiting) {
            if is_release {
                self.released_by.push(asker);
            } else {
                self.events.answer(asker, Answer::Refused { error: "the balloon is being released".to_owned() });
            }
        }
    }

    fn start_next(&mut self) -> Option<Cause> {
        while self.requests.current.is_none() {
            match self.requests.waiting.pop_front()? {
                (asker, Wish::Resize(resize)) => self.start_resize(asker, &resize),
                (asker, Wish::ReleasePart(gpus)) => {
                    if self.start_release(asker, &gpus) {
                        return Some(Cause::Released);
                    }
                }
            }
        }
        None
    }

    /// Releases the parts on `gpus`. Says whether nothing else is left, so that the whole balloon is to be let go.
    fn start_release(&mut self, asker: Asker, gpus: &[GpuUuid]) -> bool {
        if let Some(foreign) = gpus.iter().find(|gpu| !self.seats.iter().any(|seat| seat.has_part_on(**gpu))) {
            self.events.answer(asker, Answer::Misfit { error: format!("the balloon has no part on {foreign}") });
            return false;
        }
        if self.seats.iter().all(|seat| seat.is_released || gpus.contains(&seat.uuid())) {
            self.released_by.push(asker);
            return true;
        }
        let parts = self.seats.iter().filter(|seat| !seat.is_released && gpus.contains(&seat.uuid()));
        let left = parts.map(|seat| seat.tell(Order::Deflate)).count();
        self.requests.current =
            Some(Current::Releasing(Releasing { asker, left, freed: ByteSize::ZERO, failure: None }));
        false
    }

    fn part_released(&mut self, index: usize, freed: ByteSize, failure: Option<Answer>) {
        self.seats[index].give_up();
        self.announce_freed();
        let Some(Current::Releasing(releasing)) = &mut self.requests.current else { return };
        releasing.left -= 1;
        releasing.freed = releasing.freed.saturating_add(freed);
        releasing.failure = releasing.failure.take().or(failure);
        if releasing.left == 0
            && let Some(Current::Releasing(done)) = self.requests.current.take()
        {
            let answer = done.failure.unwrap_or(Answer::Released { bytes: done.freed.bytes() });
            self.events.answer(done.asker, answer);
        }
    }

    /// Tells those who wait for memory.
    pub(super) fn announce_freed(&self) {
        if let Some(registered) = &self.registered {
            Line::announce(registered.directory());
        }
    }
}
