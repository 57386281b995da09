//! The balloon as its holder describes it to others.

use crate::control::wire::{Balloon, BalloonGpu, Borrower, rfc3339};
use crate::holder::Holder;
use crate::holder::in_line::fixed;
use crate::holder::seat::Seat;

impl Holder {
    /// The balloon as it stands. Asks nobody: the workers may be busy.
    pub fn describe(&self) -> Balloon {
        Balloon {
            name: self.name.to_string(),
            pid: std::process::id(),
            user: None,
            command: Some(self.plan.command.clone()),
            reason: self.plan.reason.clone(),
            state: self.state,
            started_at: rfc3339(self.started_at),
            ends_at: self.ends.and_then(|(_, at)| rfc3339(at)),
            gpus: self.seats.iter().filter(|seat| !seat.is_released).map(|seat| self.describe_seat(seat)).collect(),
            place_in_line: self.place_in_line(),
            log: self.plan.log.clone(),
        }
    }

    fn describe_seat(&self, seat: &Seat) -> BalloonGpu {
        let figures = seat.figures();
        let planned = || if seat.worker.is_none() { fixed(&seat.wanted) } else { None };
        let target = seat.goal.or_else(planned).unwrap_or(figures.target);
        let chunk_size = if figures.chunk_size.is_zero() { self.plan.chunk_size } else { figures.chunk_size };
        BalloonGpu {
            uuid: seat.uuid(),
            is_inflated: !target.is_zero() && figures.allocated.saturating_add(figures.job) >= target,
            target_bytes: (!target.is_zero()).then_some(target.bytes()),
            allocated_bytes: figures.allocated.bytes(),
            num_chunks: figures.num_chunks,
            chunk_bytes: chunk_size.bytes(),
            overhead_bytes: None,
            handed_over_bytes: figures.job.min(target).bytes(),
            borrowers: seat.borrowers().into_iter().map(|(pid, size)| Borrower { pid, bytes: size.bytes() }).collect(),
        }
    }
}
