//! Resizing a held balloon: on all the GPUs asked for or on none.
//!
//! A resize first grows where it grows; only when every growth has succeeded does it shrink where it shrinks. So a growth
//! that does not fit leaves the balloon as it was.

use crate::control::server::Asker;
use crate::control::wire::{Answer, Resized, Shortfall};
use crate::gpu::{GRANULARITY, GpuUuid};
use crate::holder::Holder;
use crate::holder::orders::{Order, Report};
use crate::holder::plan::OnShort;
use crate::holder::requests::Current;
use crate::holder::worker::Worker;
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
    /// What did not fit, and where.
    shortfalls: Vec<Shortfall>,
    /// What else went wrong.
    failure: Option<String>,
}

struct Part {
    seat: usize,
    before: ByteSize,
    after: ByteSize,
    chunk_size: ByteSize,
    on_short: OnShort,
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
                let stage = Stage::Grow;
                let resizing = Resizing { asker, parts, stage, left: 0, shortfalls: Vec::new(), failure: None };
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
                resizing.shortfalls.push(shortfall(uuid, part.after, free, missing));
            }
            (Report::Failed(error), _) => resizing.failure = Some(format!("GPU {ordinal}: {error}")),
            (_, Some(part)) => part.has_grown = resizing.stage == Stage::Grow,
            (_, None) => {}
        }
        if resizing.left == 0 {
            self.next_stage();
        }
    }

    /// Resolves a resize against the memory of its GPUs as it is now.
    fn plan_resize(&self, resize: &Resize) -> Result<Vec<Part>, Answer> {
        let (mut parts, mut shortfalls) = (Vec::new(), Vec::new());
        for (gpu, change) in &resize.changes {
            let (part, free) = self.plan_part(*gpu, change, resize.chunk_size)?;
            let missing = part.after.saturating_sub(part.before).saturating_sub(free);
            if !missing.is_zero() {
                shortfalls.push(shortfall(*gpu, part.after, free, missing));
            }
            parts.push(part);
        }
        if shortfalls.is_empty() { Ok(parts) } else { Err(Answer::NotAvailable { shortfalls }) }
    }

    /// What becomes of the balloon on one GPU, and how much is free there.
    fn plan_part(&self, gpu: GpuUuid, change: &str, chunk_size: Option<ByteSize>) -> Result<(Part, ByteSize), Answer> {
        let misfit = |error: SpecError| Answer::Misfit { error: error.to_string() };
        let index = self.seats.iter().position(|seat| seat.has_part_on(gpu));
        let index = index.ok_or_else(|| Answer::Misfit { error: format!("the balloon has no part on {gpu}") })?;
        let change: Change = change.parse().map_err(misfit)?;
        let seat = &self.seats[index];
        let view = seat.worker.as_ref().and_then(Worker::view);
        let view =
            view.ok_or_else(|| Answer::Refused { error: format!("the driver does not tell the memory of {gpu}") })?;
        let held = view.balloon.saturating_add(view.job);
        let memory = units::Memory { free: view.memory.free, total: view.memory.total, held };
        let after = match change.resolve(&memory, seat.wanted.utilization, GRANULARITY) {
            Ok(after) => after,
            // A share of nothing; the least that could be would have been enough.
            Err(error) if error.is_shortage() => held.saturating_add(GRANULARITY),
            Err(error) => return Err(misfit(error)),
        };
        let chunk_size = chunk_size.unwrap_or_else(|| seat.chunk_size());
        let on_short = if change.is_of_free() { OnShort::Settle } else { OnShort::GiveBack };
        Ok((Part { seat: index, before: held, after, chunk_size, on_short, has_grown: false }, memory.free))
    }

    /// Sends the orders of a stage and goes on to the next one when there are none.
    fn order(&mut self, stage: Stage) {
        let Some(resizing) = self.resizing() else { return };
        resizing.stage = stage;
        let reserve =
            |part: &Part| Order::Reserve { target: part.after, chunk_size: part.chunk_size, on_short: part.on_short };
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
            Stage::Grow if resizing.has_failed() => self.order(Stage::Undo),
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
        let answer = match resizing.failure {
            Some(error) => Answer::Refused { error },
            None if !resizing.shortfalls.is_empty() => Answer::NotAvailable { shortfalls: resizing.shortfalls },
            None => Answer::Resized { gpus: gpus.collect() },
        };
        if resizing.parts.iter().any(|part| part.after < part.before) {
            self.announce_freed();
        }
        self.events.answer(resizing.asker, answer);
    }

    fn resizing(&mut self) -> Option<&mut Resizing> {
        match &mut self.requests.current {
            Some(Current::Resizing(resizing)) => Some(resizing),
            _ => None,
        }
    }
}

impl Resizing {
    fn has_failed(&self) -> bool {
        self.failure.is_some() || !self.shortfalls.is_empty()
    }
}

fn shortfall(uuid: GpuUuid, wanted: ByteSize, free: ByteSize, missing: ByteSize) -> Shortfall {
    Shortfall { uuid, wanted_bytes: wanted.bytes(), free_bytes: free.bytes(), missing_bytes: missing.bytes() }
}
