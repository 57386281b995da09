//! What a worker is told by its holder, and what it reports.

use std::ops::Range;

use crate::balloon::Loan;
use crate::gpu::{CallError, Memory};
use crate::handover::{JobUse, Need, Pieces, Reply, View, Yielded};
use crate::holder::plan::OnShort;
use crate::units::ByteSize;

/// What a worker is told.
pub enum Order {
    /// Bring the reservation to `target`; answered with [`Report::Held`] or [`Report::Short`].
    Reserve { target: ByteSize, chunk_size: ByteSize, on_short: OnShort },
    /// Take the last growth back, chunk by chunk; answered with [`Report::Held`].
    Undo,
    /// What the job's processes hold; the balloon follows.
    JobHolds(JobUse),
    /// The driver refused the job this: free as little as makes room for it. What is freed is the job's until
    /// [`Order::Settled`].
    GiveWay { need: Need, reply: Reply<Yielded> },
    /// The job has allocated what way was given to, or has given up.
    Settled(JobUse),
    /// Lend at least `size`; answered with how much that is, zero for nothing.
    Lend { loan: Loan, size: ByteSize, reply: Reply<ByteSize> },
    /// Tell how to come to the pieces of a loan, from number `from` on.
    Reach { loan: Loan, from: usize, reply: Reply<Pieces> },
    /// These pieces of a loan have been given back.
    TakeHome { loan: Loan, places: Range<usize> },
    /// A process has ended, and its loans with it.
    TakeHomeAllOf { pid: u32 },
    /// Tell the memory and the balloon in one transaction.
    View { reply: Reply<View> },
    /// Free everything and end; answered with [`Report::Deflated`].
    Deflate,
}

/// What a worker tells the holder.
#[derive(Debug)]
pub enum Report {
    /// The context is open; the memory with it in place.
    Opened(Memory),
    /// The reservation stands at its target.
    Held,
    /// `missing` did not fit; `free` is what the driver reported last.
    Short { missing: ByteSize, free: ByteSize },
    /// A call of the driver failed for another reason than memory.
    Failed(CallError),
    /// Everything is freed, the context too, and the worker has ended.
    Deflated { freed: ByteSize, outcome: Result<(), CallError> },
}
