//! A GPU of the reservation as the handover sees it: somebody who has a balloon there and follows the job.

use std::ops::Range;
use std::os::fd::OwnedFd;

use crate::balloon::Loan;
use crate::gpu::{GpuUuid, Memory};
use crate::units::ByteSize;

/// Takes an answer, on a thread that must not be blocked. `None`: the driver does not tell. Dropped unanswered when whoever
/// was asked has ended.
pub type Reply<T> = Box<dyn FnOnce(Option<T>) + Send>;

/// The balloon on one GPU. What is asked is done in order; none of the calls waits.
pub trait Lane: Send {
    fn gpu(&self) -> GpuUuid;

    /// What the balloon holds.
    fn held(&self) -> ByteSize;

    /// What balloon and job are to have together.
    fn reservation(&self) -> ByteSize;

    fn chunk_size(&self) -> ByteSize;

    /// Whether next to nothing is free on the GPU.
    fn is_full(&self) -> bool;

    /// The balloon follows the job's use, whether or not that has changed: others on the GPU may have.
    fn follow(&self, job: JobUse);

    /// Frees as little as makes room for what is needed. What is freed is the job's until [`Self::settle`].
    fn give_way(&self, need: Need, reply: Reply<Yielded>);

    /// The job has allocated what way was given to, or has given up.
    fn settle(&self, job: JobUse);

    /// Lends at least `size` of the balloon, in whole chunks. Tells how much that is; zero: nothing.
    fn lend(&self, loan: Loan, size: ByteSize, reply: Reply<ByteSize>);

    /// Tells how to come to some of the pieces of a loan, from number `from` on.
    fn reach(&self, loan: Loan, from: usize, reply: Reply<Pieces>);

    /// The process has let go of these pieces of a loan.
    fn take_home(&self, loan: Loan, places: Range<usize>);

    /// The process has ended, or replaced its program: all that it borrowed is the balloon's.
    fn take_home_all_of(&self, pid: u32);

    /// The most that was lent at one time.
    fn most_lent(&self) -> ByteSize;

    /// Tells memory and balloon as they are at one instant.
    fn view(&self, reply: Reply<View>);
}

/// What the job has of its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobUse {
    pub holds: ByteSize,
    /// What it may take without being able to wait for the balloon to give way. Kept free for it on a full GPU.
    pub headroom: ByteSize,
}

/// What the driver refused the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Bytes(ByteSize),
    /// Nobody knows how many; zero is a chunk.
    About(ByteSize),
}

/// What giving way brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yielded {
    /// There is more room than before: worth another try.
    Room,
    /// The balloon cannot help.
    Nothing,
}

/// Pieces of a loan, all of one size; each can be mapped by way of its descriptor.
#[derive(Debug)]
pub struct Pieces {
    pub size: ByteSize,
    pub descriptors: Vec<OwnedFd>,
}

/// A GPU's memory, the balloon on it and its reservation at one instant.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub memory: Memory,
    pub balloon: ByteSize,
    pub job: ByteSize,
    pub reservation: ByteSize,
}
