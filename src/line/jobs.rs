//! What running jobs have freed and their balloons are about to take back: no waiting holder of this user takes it before.
//!
//! The holders are asked only when one that waits is about to go, so that nobody does anything for it at other times. A
//! job's free is known to its holder a moment after the driver has done it, and below a chunk only with the next one.

use std::time::{Duration, Instant};

use crate::control::client::{Pending, ask};
use crate::control::directory::RuntimeDirectory;
use crate::control::registry;
use crate::control::wire::{Answer, BalloonGpu, Request};
use crate::line::policy::{Grant, Request as Wanted, Stage, Ticket};
use crate::units::ByteSize;

/// Many times what a holder takes to answer. A stopped one does not, and its balloon takes nothing back either.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the reservations of running jobs lack, as the ticket of somebody who was granted it.
pub fn ticket(directory: &RuntimeDirectory) -> Ticket {
    let deadline = Instant::now() + PATIENCE;
    let entries = registry::handing_over(directory).unwrap_or_default();
    let asked: Vec<Pending> =
        entries.iter().filter_map(|entry| ask(directory, &entry.name, &Request::Status, deadline).ok()).collect();
    let answers = asked.into_iter().filter_map(|pending| pending.answer(deadline).ok());
    let parts = answers.flat_map(|answer| match answer {
        Answer::Status { balloon } => balloon.gpus,
        _ => Vec::new(),
    });
    let claims: Grant = parts.map(|part| (part.uuid, lacking(&part))).filter(|(_, size)| !size.is_zero()).collect();
    // Behind everyone, where it is in nobody's way but by its claims.
    let request = Wanted::These(Vec::new());
    Ticket { number: u64::MAX, stage: Stage::Admitted, request, margin: ByteSize::ZERO, claims }
}

fn lacking(part: &BalloonGpu) -> ByteSize {
    let has = part.allocated_bytes.saturating_add(part.handed_over_bytes);
    ByteSize::new(part.target_bytes.unwrap_or(0).saturating_sub(has))
}
