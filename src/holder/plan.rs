//! What a holder is asked to do, and how it can fail.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::control::name::Name;
use crate::control::registry::RegistryError;
use crate::gpu::{CallError, Device, GpuUuid, NvmlError};
use crate::signals::Received;
use crate::units::{Amount, ByteSize, SpecError};

/// A balloon to be.
pub struct Plan {
    /// `None`: the pid.
    pub name: Option<Name>,
    pub reason: Option<String>,
    /// What the memory is held for: the wrapped command, or the holder's own command line.
    pub command: String,
    pub gpus: Gpus,
    pub backing: Backing,
    pub chunk_size: ByteSize,
    pub on_short: OnShort,
    /// `None`: take what is free now, or fail.
    pub waiting: Option<Waiting>,
    /// Counts from the moment everything is held.
    pub timeout: Option<Duration>,
    /// Whose end ends the balloon: a pidfd.
    pub outlived: Option<OwnedFd>,
    /// Where the holder's own messages go, when that is not the terminal.
    pub log: Option<String>,
}

/// What a balloon's memory stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backing {
    /// A CUDA context: nvidia-smi names the holder. Without one there is nothing but the memory itself.
    pub has_context: bool,
    /// Whether a job can borrow the memory, where the driver can share it.
    pub is_lendable: bool,
}

/// What becomes of the pieces of a growth that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShort {
    /// Freed: the balloon is as it was before, chunk by chunk.
    GiveBack,
    /// Kept, and reported as short.
    Keep,
    /// All that could be had is what was wanted, as long as no more is missing than a driver may call free
    /// and give to nobody: the target follows.
    Settle,
}

/// On which GPUs.
pub enum Gpus {
    These(Vec<Wanted>),
    /// On as many as each of these has wishes: the first wish for the first GPU that is chosen, and so on.
    Any(Vec<Vec<Wanted>>),
}

impl Gpus {
    /// The GPUs that are chosen already.
    pub fn chosen(&self) -> &[Wanted] {
        match self {
            Self::These(wanted) => wanted,
            Self::Any(_) => &[],
        }
    }

    /// All GPUs that may be used, each with a wish.
    pub fn all(&self) -> impl Iterator<Item = &Wanted> {
        let (these, among) = match self {
            Self::These(wanted) => (wanted.as_slice(), [].as_slice()),
            Self::Any(among) => ([].as_slice(), among.as_slice()),
        };
        these.iter().chain(among.iter().filter_map(|wishes| wishes.first()))
    }
}

/// How to wait for memory that is not free.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub manner: Manner,
    /// `None`: for ever.
    pub until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Until everything fits.
    AllAtOnce,
    /// Taking what comes free.
    PieceByPiece,
}

/// A GPU and what is wanted of it.
#[derive(Clone)]
pub struct Wanted {
    pub device: Device,
    pub total: ByteSize,
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
    #[error("the memory was not available in time: {}", missed(.shortfalls, *.ahead))]
    NotInTime { shortfalls: Vec<Shortfall>, ahead: u32 },
    #[error("GPU {ordinal} has {most} at most beside the CUDA context, and {wanted} is wanted")]
    NeverFits { ordinal: u32, wanted: ByteSize, most: ByteSize },
    #[error("cannot tell which GPU has the most free memory")]
    CannotChoose(#[source] NvmlError),
    #[error("GPU {}", .gpu.ordinal)]
    Gpu { gpu: Device, source: CallError },
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
    if shortfalls.is_empty() {
        return "nobody tells how much is free".to_owned();
    }
    shortfalls.iter().map(Shortfall::to_string).collect::<Vec<_>>().join("; ")
}

fn missed(shortfalls: &[Shortfall], ahead: u32) -> String {
    match (shortfalls, ahead) {
        ([], _) => format!("{ahead} ahead in line"),
        (_, 0) => list(shortfalls),
        _ => format!("{}; {ahead} ahead in line", list(shortfalls)),
    }
}

/// Why a balloon that was held is let go.
#[derive(Debug)]
pub enum Cause {
    Signal(Received),
    Timeout,
    /// The process of `--until-exit` has ended.
    Exited,
    JobEnded,
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
