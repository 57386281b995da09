//! Resizing a held balloon: on all the GPUs asked for or on none.
//!
//! A resize first grows where it grows; only when every growth has succeeded does it shrink where it shrinks. So a growth
//! that does not fit leaves the balloon as it was.

use crate::control::server::Asker;
use crate::control::wire::{Answer, Resized};
use crate::gpu::{GRANULARITY, GpuUuid};
use crate::holder::requests::Current;
use crate::holder::worker::{OnShort, Order, Report};
use crate::holder::{Holder, Shortfall};
use crate::units::{self, ByteSize, Change, SpecError};

/// A resize as asked: each change is spelled as for the command.
pub struct Resize {
    pub changes: Vec<(GpuUuid, String)>,
    pub chunk_size: Option<ByteSize>,
}

/// A resize under way.
pub struct Resizing {
    pub(super) asker: Asker,
    parts: Vec<Part>,
    stage: Stage,
    /// How many workers have yet to report.
    left: usize,
    failure: Option<Answer>,
}

struct Part {
    seat: usize,
    before: ByteSize,
    after: ByteSize,
    chunk_size: ByteSize,
    has_grown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Grow,
    Shrink,
    Undo,
}

impl Holder {
    /// Starts a resize, or answers at once why it cannot be.
    pub(super) fn start_resize(&mut self, asker: Asker, resize: &Resize) {
        match self.plan_resize(resize) {
            Ok(parts) => {
                let resizing = Resizing { asker, parts, stage: Stage::Grow, left: 0, failure: None };
                self.requests.current = Some(Current::Resizing(resizing));
                self.order(Stage::Grow);
            }
            Err(answer) => self.events.answer(asker, answer),
        }
    }

    pub(super) fn follow_resize(&mut self, index: usize, report: Report) {
        let (ordinal, uuid) = (self.seats[index].ordinal(), self.seats[index].uuid());
        let Some(resizing) = self.resizing() else { return };
        resizing.left -= 1;
        let part = resizing.parts.iter_mut().find(|part| part.seat == index);
        match (report, part) {
            (Report::Short { missing, free }, Some(part)) => {
                let shortfall = Shortfall { ordinal, uuid, wanted: part.after, free, missing };
                resizing.failure = Some(Answer::NotAvailable { error: shortfall.to_string() });
            }
            (Report::Failed(error), _) => {
                resizing.failure = Some(Answer::Refused { error: format!("GPU {ordinal}: {error}") });
            }
            (_, Some(part)) => part.has_grown = resizing.stage == Stage::Grow,
            (_, None) => {}
        }
        if resizing.left == 0 {
            self.next_stage();
        }
    }

    /// Resolves a resize against the memory of its GPUs as it is now.
    fn plan_resize(&self, resize: &Resize) -> Result<Vec<Part>, Answer> {
        resize.changes.iter().map(|(gpu, change)| self.plan_part(*gpu, change, resize.chunk_size)).collect()
    }

    fn plan_part(&self, gpu: GpuUuid, change: &str, chunk_size: Option<ByteSize>) -> Result<Part, Answer> {
        let misfit = |error: SpecError| Answer::Misfit { error: error.to_string() };
        let index = self.seats.iter().position(|seat| seat.has_part_on(gpu));
        let index = index.ok_or_else(|| Answer::Misfit { error: format!("the balloon has no part on {gpu}") })?;
        let change: Change = change.parse().map_err(misfit)?;
        let seat = &self.seats[index];
        let view = seat.worker.as_ref().and_then(|worker| worker.view());
        let view =
            view.ok_or_else(|| Answer::Refused { error: format!("the driver does not tell the memory of {gpu}") })?;
        let held = view.balloon.saturating_add(view.job);
        let memory = units::Memory { free: view.memory.free, total: view.memory.total, held };
        let not_available = |error: String| Answer::NotAvailable { error };
        let after = change
            .resolve(&memory, seat.wanted.utilization, GRANULARITY)
            .map_err(|error| if error.is_shortage() { not_available(error.to_string()) } else { misfit(error) })?;
        let missing = after.saturating_sub(held).saturating_sub(memory.free);
        if !missing.is_zero() {
            let shortfall = Shortfall { ordinal: seat.ordinal(), uuid: gpu, wanted: after, free: memory.free, missing };
            return Err(not_available(shortfall.to_string()));
        }
        let chunk_size = chunk_size.unwrap_or_else(|| seat.chunk_size());
        Ok(Part { seat: index, before: held, after, chunk_size, has_grown: false })
    }

    /// Sends the orders of a stage and goes on to the next one when there are none.
    fn order(&mut self, stage: Stage) {
        let Some(resizing) = self.resizing() else { return };
        resizing.stage = stage;
        let reserve = |part: &Part| Order::Reserve {
            target: part.after,
            chunk_size: part.chunk_size,
            on_short: OnShort::GiveBack,
        };
        let orders = resizing.parts.iter().filter_map(|part| match stage {
            Stage::Grow => (part.after > part.before).then(|| (part.seat, reserve(part))),
            Stage::Shrink => (part.after <= part.before).then(|| (part.seat, reserve(part))),
            Stage::Undo => part.has_grown.then_some((part.seat, Order::Undo)),
        });
        let orders: Vec<_> = orders.collect();
        resizing.left = orders.len();
        let is_empty = orders.is_empty();
        for (seat, order) in orders {
            self.seats[seat].tell(order);
        }
        if is_empty {
            self.next_stage();
        }
    }

    fn next_stage(&mut self) {
        let Some(resizing) = self.resizing() else { return };
        match resizing.stage {
            Stage::Grow if resizing.failure.is_some() => self.order(Stage::Undo),
            Stage::Grow => self.order(Stage::Shrink),
            Stage::Shrink | Stage::Undo => self.finish_resize(),
        }
    }

    fn finish_resize(&mut self) {
        let Some(Current::Resizing(resizing)) = self.requests.current.take() else { return };
        let gpus = resizing.parts.iter().map(|part| {
            let seat = &self.seats[part.seat];
            let after = seat.held().saturating_add(seat.handed_over());
            Resized { uuid: seat.uuid(), before_bytes: part.before.bytes(), after_bytes: after.bytes() }
        });
        if resizing.parts.iter().any(|part| part.after < part.before) {
            self.announce_freed();
        }
        let answer = resizing.failure.unwrap_or_else(|| Answer::Resized { gpus: gpus.collect() });
        self.events.answer(resizing.asker, answer);
    }

    fn resizing(&mut self) -> Option<&mut Resizing> {
        match &mut self.requests.current {
            Some(Current::Resizing(resizing)) => Some(resizing),
            _ => None,
        }
    }
}
