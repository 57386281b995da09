//! What a holder is asked to do, and how it can fail.

use std::fmt;
use std::time::Duration;

use crate::control::name::Name;
use crate::control::registry::RegistryError;
use crate::gpu::{CallError, Device, GpuUuid};
use crate::holder::worker::{Backing, OnShort};
use crate::signals::Received;
use crate::units::{Amount, ByteSize, SpecError};

/// A balloon to be.
pub struct Plan {
    /// `None`: the pid.
    pub name: Option<Name>,
    pub reason: Option<String>,
    /// What the memory is held for: the wrapped command, or the holder's own command line.
    pub command: String,
    pub gpus: Vec<Wanted>,
    pub backing: Backing,
    pub chunk_size: ByteSize,
    pub on_short: OnShort,
    /// Counts from the moment everything is held.
    pub timeout: Option<Duration>,
    /// Where the holder's own messages go, when that is not the terminal.
    pub log: Option<String>,
}

/// A GPU and what is wanted of it.
#[derive(Clone)]
pub struct Wanted {
    pub device: Device,
    pub amount: Amount,
    /// The GPU's load in percent, for `auto`.
    pub utilization: Option<u32>,
}

/// What one GPU lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    pub ordinal: u32,
    pub uuid: GpuUuid,
    pub wanted: ByteSize,
    pub free: ByteSize,
    pub missing: ByteSize,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ordinal, wanted, free, missing, .. } = self;
        write!(f, "GPU {ordinal}: {wanted} wanted, {free} free, {missing} missing")
    }
}

/// Why a holder does not hold.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    #[error("{0}")]
    Size(SpecError),
    #[error("the memory is not available: {}", list(.0))]
    NotAvailable(Vec<Shortfall>),
    #[error("GPU {ordinal}")]
    Gpu { ordinal: u32, uuid: GpuUuid, source: CallError },
    #[error("ended by a signal before everything was held")]
    Signal(Received),
    #[error("released before everything was held")]
    Released,
    #[error("the process to outlive ended before everything was held")]
    Exited,
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the holder cannot go on")]
    System(#[from] std::io::Error),
}

fn list(shortfalls: &[Shortfall]) -> String {
    shortfalls.iter().map(Shortfall::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a balloon that was held is let go.
#[derive(Debug)]
pub enum Cause {
    Signal(Received),
    Timeout,
    /// The process of `--until-exit`, or the wrapped job, has ended.
    Exited,
    /// `gpu-balloon release`.
    Released,
    /// The driver lost a GPU.
    Lost,
}

/// What letting go of a balloon came to.
#[derive(Debug)]
pub struct Released {
    pub freed: ByteSize,
    /// The GPUs whose memory the driver did not free in order, with its errors.
    pub failures: Vec<(u32, CallError)>,
    /// A second signal that cut it short.
    pub cut_short: Option<Received>,
}
