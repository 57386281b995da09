//! The balloon as its holder describes it to others.

use std::sync::atomic::Ordering;

use crate::control::wire::{Balloon, BalloonGpu, rfc3339};
use crate::holder::Holder;
use crate::holder::in_line::fixed;
use crate::holder::seat::Seat;
use crate::units::ByteSize;

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
        let gauge = seat.worker.as_ref().map(|worker| &worker.gauge);
        let read = |value: fn(&crate::holder::worker::Gauge) -> &std::sync::atomic::AtomicU64| {
            gauge.map_or(0, |gauge| value(gauge).load(Ordering::Relaxed))
        };
        let (target, allocated, job) =
            (read(|gauge| &gauge.target), read(|gauge| &gauge.allocated), read(|gauge| &gauge.job));
        let planned = || if seat.worker.is_none() { fixed(&seat.wanted) } else { None };
        let target = seat.goal.or_else(planned).map_or(target, ByteSize::bytes);
        BalloonGpu {
            uuid: seat.uuid(),
            is_inflated: target > 0 && allocated + job >= target,
            target_bytes: (target > 0).then_some(target),
            allocated_bytes: allocated,
            num_chunks: read(|gauge| &gauge.chunks),
            chunk_bytes: match read(|gauge| &gauge.chunk_size) {
                0 => self.plan.chunk_size.bytes(),
                size => ByteSize::new(size).bytes(),
            },
            overhead_bytes: None,
            handed_over_bytes: job.min(target),
        }
    }
}
