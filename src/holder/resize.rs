//! Resizing a held balloon, and releasing a part of it: one request after the other, each on all its GPUs or on none.
//!
//! A resize first grows where it grows; only when every growth has succeeded does it shrink where it shrinks. So a growth
//! that does not fit leaves the balloon as it was.

use std::collections::VecDeque;

use crate::control::server::Asker;
use crate::control::wire::{Answer, Resized};
use crate::gpu::{GRANULARITY, GpuUuid};
use crate::holder::worker::{OnShort, Order, Report};
use crate::holder::{Holder, Shortfall};
use crate::line::Line;
use crate::units::{self, ByteSize, Change};

/// The requests that change the balloon: the one under way, and those behind it.
#[derive(Default)]
pub struct Queue {
    current: Option<Resize>,
    waiting: VecDeque<Wish>,
    /// Parts being released: the seat and who waits for it.
    releasing: Vec<(usize, Option<Asker>)>,
}

/// A resize as asked.
struct Wish {
    asker: Asker,
    changes: Vec<(GpuUuid, String)>,
    chunk_size: Option<ByteSize>,
}

/// A resize under way.
struct Resize {
    asker: Asker,
    parts: Vec<Part>,
    chunk_size: ByteSize,
    stage: Stage,
    /// How many workers have yet to report.
    left: usize,
    failure: Option<Answer>,
}

struct Part {
    seat: usize,
    before: ByteSize,
    after: ByteSize,
    grown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Grow,
    Shrink,
    Revert,
}

impl Holder {
    /// Takes a resize on; it is answered when it is done.
    pub(super) fn request_resize(&mut self, asker: Asker, changes: Vec<(GpuUuid, String)>, chunk_bytes: Option<u64>) {
        self.resizes.waiting.push_back(Wish { asker, changes, chunk_size: chunk_bytes.map(ByteSize::new) });
        self.start_next();
    }

    /// Releases the part on `gpus`. Says whether nothing else is left, so that the whole balloon is to be let go.
    pub(super) fn release_part(&mut self, asker: Asker, gpus: &[GpuUuid]) -> bool {
        if let Some(foreign) = gpus.iter().find(|gpu| !self.seats.iter().any(|seat| seat.has_part_on(**gpu))) {
            self.events.answer(asker, Answer::Refused { error: format!("the balloon has no part on {foreign}") });
            return false;
        }
        if self.resizes.current.is_some() {
            let error = "the balloon is being resized; try again".to_owned();
            self.events.answer(asker, Answer::Refused { error });
            return false;
        }
        if self.seats.iter().all(|seat| seat.is_released || gpus.contains(&seat.uuid())) {
            self.released_by.push(asker);
            return true;
        }
        let mut last = None;
        for (index, seat) in self.seats.iter().enumerate().filter(|(_, seat)| gpus.contains(&seat.uuid())) {
            seat.tell(Order::Deflate);
            self.resizes.releasing.push((index, None));
            last = Some(index);
        }
        match self.resizes.releasing.iter_mut().find(|(index, _)| Some(*index) == last) {
            Some((_, waits)) => *waits = Some(asker),
            None => self.events.answer(asker, Answer::Released { bytes: 0 }),
        }
        false
    }

    /// Deals with what a worker reports while the balloon is held. Says whether its GPU is lost.
    pub(super) fn follow(&mut self, index: usize, report: Report) -> bool {
        if let Report::Deflated { freed, .. } = report {
            self.part_released(index, freed);
            return false;
        }
        let Some(resize) = &mut self.resizes.current else {
            if let Report::Failed(error) = report {
                tracing::error!(gpu = self.seats[index].ordinal(), %error, "GPU lost");
                return true;
            }
            return false;
        };
        resize.left -= 1;
        match report {
            Report::Short { missing, free } => {
                let wanted = resize.parts.iter().find(|part| part.seat == index).map_or(missing, |part| part.after);
                let seat = &self.seats[index];
                let shortfall = Shortfall { ordinal: seat.ordinal(), uuid: seat.uuid(), wanted, free, missing };
                resize.failure = Some(Answer::NotAvailable { error: shortfall.to_string() });
            }
            Report::Failed(error) => resize.failure = Some(Answer::Refused { error: error.to_string() }),
            _ => {
                for part in resize.parts.iter_mut().filter(|part| part.seat == index) {
                    part.grown = true;
                }
            }
        }
        if resize.left == 0 {
            self.next_stage();
        }
        false
    }

    fn part_released(&mut self, index: usize, freed: ByteSize) {
        self.seats[index].give_up();
        self.announce_freed();
        if let Some(at) = self.resizes.releasing.iter().position(|(released, _)| *released == index)
            && let (_, Some(asker)) = self.resizes.releasing.remove(at)
        {
            self.events.answer(asker, Answer::Released { bytes: freed.bytes() });
        }
    }

    /// Tells those who wait for memory.
    fn announce_freed(&self) {
        if let Some(registered) = &self.registered {
            Line::announce(registered.directory());
        }
    }

    fn start_next(&mut self) {
        while self.resizes.current.is_none() {
            let Some(wish) = self.resizes.waiting.pop_front() else { return };
            match self.plan_resize(&wish) {
                Ok(parts) => {
                    let chunk_size = wish.chunk_size.unwrap_or(self.plan.chunk_size);
                    self.plan.chunk_size = chunk_size;
                    let resize =
                        Resize { asker: wish.asker, parts, chunk_size, stage: Stage::Grow, left: 0, failure: None };
                    self.resizes.current = Some(resize);
                    self.order(Stage::Grow);
                }
                Err(answer) => self.events.answer(wish.asker, answer),
            }
        }
    }

    /// Resolves a wish against the memory of its GPUs as it is now.
    fn plan_resize(&self, wish: &Wish) -> Result<Vec<Part>, Answer> {
        let mut parts = Vec::new();
        for (uuid, text) in &wish.changes {
            let refused = |error: String| Answer::Refused { error };
            let seat = self.seats.iter().position(|seat| seat.has_part_on(*uuid));
            let seat = seat.ok_or_else(|| refused(format!("the balloon has no part on {uuid}")))?;
            let change: Change = text.parse().map_err(|error: units::SpecError| refused(error.to_string()))?;
            let view = self.seats[seat].worker.as_ref().and_then(|worker| worker.view());
            let view = view.ok_or_else(|| refused(format!("the driver does not tell the memory of {uuid}")))?;
            let held = view.balloon.saturating_add(view.job);
            let memory = units::Memory { free: view.memory.free, total: view.memory.total, held };
            let after = match change.resolve(&memory, self.seats[seat].wanted.utilization, GRANULARITY) {
                Ok(after) => after,
                Err(error) if error.is_shortage() => return Err(Answer::NotAvailable { error: error.to_string() }),
                Err(error) => return Err(refused(error.to_string())),
            };
            let growth = after.saturating_sub(held);
            if growth > memory.free {
                let shortfall = Shortfall {
                    ordinal: self.seats[seat].ordinal(),
                    uuid: *uuid,
                    wanted: after,
                    free: memory.free,
                    missing: growth.saturating_sub(memory.free),
                };
                return Err(Answer::NotAvailable { error: shortfall.to_string() });
            }
            parts.push(Part { seat, before: held, after, grown: false });
        }
        Ok(parts)
    }

    /// Sends the orders of a stage and goes on to the next one when there are none.
    fn order(&mut self, stage: Stage) {
        let Some(resize) = &mut self.resizes.current else { return };
        resize.stage = stage;
        let orders = resize.parts.iter().filter_map(|part| match stage {
            Stage::Grow => (part.after > part.before).then_some((part.seat, part.after)),
            Stage::Shrink => (part.after < part.before).then_some((part.seat, part.after)),
            Stage::Revert => part.grown.then_some((part.seat, part.before)),
        });
        let orders: Vec<_> = orders.collect();
        resize.left = orders.len();
        for &(seat, target) in &orders {
            self.seats[seat].tell(Order::Reserve {
                target,
                chunk_size: resize.chunk_size,
                on_short: OnShort::GiveBack,
            });
        }
        if orders.is_empty() {
            self.next_stage();
        }
    }

    fn next_stage(&mut self) {
        let Some(resize) = &mut self.resizes.current else { return };
        match resize.stage {
            Stage::Grow if resize.failure.is_some() => self.order(Stage::Revert),
            Stage::Grow => self.order(Stage::Shrink),
            Stage::Shrink | Stage::Revert => self.finish_resize(),
        }
    }

    fn finish_resize(&mut self) {
        let Some(resize) = self.resizes.current.take() else { return };
        let gpus = resize.parts.iter().map(|part| Resized {
            uuid: self.seats[part.seat].uuid(),
            before_bytes: part.before.bytes(),
            after_bytes: self.seats[part.seat].held().saturating_add(self.seats[part.seat].handed_over()).bytes(),
        });
        if resize.parts.iter().any(|part| part.after < part.before) {
            self.announce_freed();
        }
        let answer = resize.failure.unwrap_or(Answer::Resized { gpus: gpus.collect() });
        self.events.answer(resize.asker, answer);
        self.start_next();
    }
}
