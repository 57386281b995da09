//! The messages between a holder and the `gpu-balloon` commands of other shells: one JSON line each way.
//!
//! Owns the shape and the version of the wire, nothing else. Sizes are bytes and times are RFC 3339 text, so that a
//! message reads the same as the output of `status --json`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::gpu::GpuUuid;

/// The version both sides must share. A holder answers another version with [`Answer::OtherVersion`].
pub const VERSION: u32 = 1;

/// The longest message, in bytes. 16 GPUs with the longest names allowed take about 8 KiB.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The time as it travels, by the second; `None` before 1970 and after 9999, of which RFC 3339 knows nothing.
pub fn rfc3339(time: SystemTime) -> Option<String> {
    time.duration_since(UNIX_EPOCH).ok()?;
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_seconds(time)).ok()?;
    Some(text)
}

/// A request as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    pub version: u32,
    #[serde(flatten)]
    pub message: T,
}

impl<T> Envelope<T> {
    pub fn new(message: T) -> Self {
        Self { version: VERSION, message }
    }
}

/// What a command asks of a holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Describe the balloon.
    Status,
    /// Bring the balloon to another size; answered once that is done or has failed.
    /// Each change is spelled as for `resize`.
    Resize { changes: Vec<(GpuUuid, String)>, chunk_bytes: Option<u64> },
    /// Free the balloon, or its part on `gpus`; answered once the memory is free.
    Release { gpus: Option<Vec<GpuUuid>> },
}

/// What the holder answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Status {
        balloon: Box<Balloon>,
    },
    Resized {
        gpus: Vec<Resized>,
    },
    Released {
        bytes: u64,
    },
    /// The memory is not available; the balloon is as it was.
    NotAvailable {
        shortfalls: Vec<Shortfall>,
    },
    /// The request does not fit this balloon: whoever asked made a mistake.
    Misfit {
        error: String,
    },
    /// The request cannot be served now.
    Refused {
        error: String,
    },
    /// The request is of another version than the envelope of this answer.
    OtherVersion,
}

/// A balloon as its holder describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Balloon {
    pub name: String,
    pub pid: u32,
    pub user: Option<String>,
    /// The wrapped job, or the holder's own command line.
    pub command: Option<String>,
    pub reason: Option<String>,
    pub state: State,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339; `None` for a balloon without a timeout.
    pub ends_at: Option<String>,
    pub gpus: Vec<BalloonGpu>,
    /// A waiting holder's place in line, 1 for the first.
    pub place_in_line: Option<u32>,
    /// Where a detached holder writes its log.
    pub log: Option<String>,
}

impl Balloon {
    /// Whether it has a part on this GPU.
    pub fn is_on(&self, gpu: GpuUuid) -> bool {
        self.gpus.iter().any(|part| part.uuid == gpu)
    }
}

/// What a holder is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Inflating,
    Holding,
    Deflating,
    /// The holder does not answer; what is known of it comes from its registration and from NVML.
    Unresponsive,
}

/// A balloon's part on one GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BalloonGpu {
    pub uuid: GpuUuid,
    pub is_inflated: bool,
    pub target_bytes: Option<u64>,
    pub allocated_bytes: u64,
    pub num_chunks: u64,
    pub chunk_bytes: u64,
    /// Device memory of the holder's CUDA context: what it costs beyond the balloon.
    pub overhead_bytes: Option<u64>,
    pub handed_over_bytes: u64,
    /// Who has what of that as the balloon's own memory.
    #[serde(default)]
    pub borrowers: Vec<Borrower>,
}

/// A process of the job that has memory of the balloon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Borrower {
    pub pid: u32,
    pub bytes: u64,
}

/// What `resize` did on one GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resized {
    pub uuid: GpuUuid,
    pub before_bytes: u64,
    pub after_bytes: u64,
}

/// What one GPU lacks for a resize.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shortfall {
    pub uuid: GpuUuid,
    pub wanted_bytes: u64,
    pub free_bytes: u64,
    pub missing_bytes: u64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_that_cannot_be_written_is_not_known() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(at(253_402_300_799).as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(at(253_402_300_800), None);
        assert_eq!(at(1 << 60), None);
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
