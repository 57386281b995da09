//! What running jobs have freed and their balloons are about to take back: no waiting holder of this user takes it before.
//!
//! Their holders are asked only when one that waits is about to go, so that nobody does anything for it at other times; and
//! after the memory was looked at, so that they know of what a job had freed by then. A job without the library is followed
//! too late for that.

use std::time::{Duration, Instant};

use crate::control::directory::RuntimeDirectory;
use crate::control::registry;
use crate::gpu::GpuUuid;
use crate::handover;
use crate::line::policy::{Grant, Request, Stage, Ticket};
use crate::units::ByteSize;

/// Many times what a holder takes to answer. A stopped one does not, and its balloon takes nothing back either.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the reservations of running jobs lack on these GPUs, as the ticket of somebody who was granted it.
pub fn ticket(directory: &RuntimeDirectory, gpus: &[GpuUuid]) -> Ticket {
    let deadline = Instant::now() + PATIENCE;
    let mut claims = Grant::new();
    for socket in registry::job_sockets(directory).unwrap_or_default() {
        match handover::lacking(&socket, gpus, deadline) {
            Ok(lacking) => claims.extend(lacking),
            Err(error) => {
                tracing::debug!(socket = %socket.display(), %error, "not told what a job's reservation lacks")
            }
        }
    }
    // Behind everyone, where it is in nobody's way but by its claims.
    Ticket {
        number: u64::MAX,
        stage: Stage::Admitted,
        request: Request::These(Vec::new()),
        margin: ByteSize::ZERO,
        claims,
    }
}
