//! A balloon on one GPU: its target, the chunks allocated so far, and the policy of inflating and deflating.
//!
//! Pure over a [`Space`], so that the policy is tested without a driver. Knows nothing of threads, jobs or other GPUs.

mod loans;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::gpu::{CallError, GRANULARITY, Memory};
use crate::units::ByteSize;
use loans::Loans;
pub use loans::{Loan, Wanted};

/// Where chunks come from.
pub trait Space {
    type Chunk: Chunk;

    fn allocate(&self, size: ByteSize) -> Result<Self::Chunk, CallError>;
    fn memory(&self) -> Result<Memory, CallError>;
}

/// A piece of memory that is freed when dropped.
pub trait Chunk {
    fn size(&self) -> ByteSize;
    fn release(self) -> Result<(), CallError>;

    /// A descriptor by which another process can map the memory; `None` where memory of this kind has none.
    fn export(&self) -> Option<Result<OwnedFd, CallError>> {
        None
    }
}

/// What one step of an inflation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A chunk was allocated; more is to come.
    Grew,
    /// The target is reached.
    Full,
    /// Not even the smallest chunk fits; this much is missing.
    Short(ByteSize),
}

/// A size as whole chunks, largest first, and a rest smaller than any chunk that is not among them.
struct Parts {
    chunks: Vec<ByteSize>,
    rest: ByteSize,
}

enum Split {
    Done,
    NoRoom,
}

/// `size` as whole units of the driver, at least one.
fn whole(size: ByteSize) -> ByteSize {
    size.round_up(GRANULARITY).unwrap_or(size.round_down(GRANULARITY)).max(GRANULARITY)
}

/// The memory held on one GPU. Dropping it frees every chunk before the space is given up.
pub struct Balloon<S: Space> {
    /// By size, so that the best fit is found at once. No list is empty.
    chunks: BTreeMap<ByteSize, Vec<S::Chunk>>,
    loans: Loans<S::Chunk>,
    /// What is not lent.
    allocated: ByteSize,
    /// What the driver did not free when told to. Only the end of the process gives it back.
    stuck: ByteSize,
    count: usize,
    target: ByteSize,
    chunk_size: ByteSize,
    /// What the next chunk may measure: halved when one did not fit.
    step: ByteSize,
    space: S,
}

impl<S: Space> Balloon<S> {
    /// An empty balloon.
    pub fn new(space: S) -> Self {
        Self {
            chunks: BTreeMap::new(),
            loans: Loans::default(),
            allocated: ByteSize::ZERO,
            stuck: ByteSize::ZERO,
            count: 0,
            target: ByteSize::ZERO,
            chunk_size: GRANULARITY,
            step: GRANULARITY,
            space,
        }
    }

    pub fn allocated(&self) -> ByteSize {
        self.allocated
    }

    pub fn stuck(&self) -> ByteSize {
        self.stuck
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn target(&self) -> ByteSize {
        self.target
    }

    /// What it lacks to its target.
    pub fn missing(&self) -> ByteSize {
        self.target.saturating_sub(self.allocated)
    }

    pub fn chunk_size(&self) -> ByteSize {
        self.chunk_size
    }

    pub fn memory(&self) -> Result<Memory, CallError> {
        self.space.memory()
    }

    /// Chunks allocated from now on measure `size`, rounded up to the driver's granularity.
    pub fn set_chunk_size(&mut self, size: ByteSize) {
        self.chunk_size = whole(size);
        self.step = self.chunk_size;
    }

    /// Sets what [`Self::inflate_step`] and [`Self::deflate`] work towards. Moves no memory.
    pub fn set_target(&mut self, target: ByteSize) {
        self.target = target;
        self.step = self.chunk_size;
    }

    /// Allocates one chunk towards the target. A chunk that does not fit is halved, down to the granularity.
    ///
    /// # Errors
    /// Any failure of the driver but "out of memory".
    pub fn inflate_step(&mut self) -> Result<Step, CallError> {
        loop {
            let missing = self.missing();
            if missing.is_zero() {
                return Ok(Step::Full);
            }
            let size = missing.min(self.step);
            match self.space.allocate(size) {
                Ok(chunk) => {
                    self.keep(chunk);
                    return Ok(Step::Grew);
                }
                Err(error) if !error.error.is_out_of_memory() => return Err(error),
                Err(_) if size <= GRANULARITY => return Ok(Step::Short(missing)),
                Err(_) => {
                    tracing::debug!(%size, "chunk does not fit, trying half");
                    self.step = whole(ByteSize::new(size.bytes() / 2));
                }
            }
        }
    }

    /// Frees down to the target, and nothing below it for an instant.
    ///
    /// Whole chunks go, largest first. The rest is split off a chunk that stays, by allocating what is kept of it before it
    /// is freed; where the GPU has no room for that, the balloon stays larger than its target by less than one chunk.
    ///
    /// # Errors
    /// The first failure of the driver; as much as possible is freed all the same.
    pub fn deflate(&mut self) -> Result<(), CallError> {
        let excess = self.excess();
        let split = self.split_off(&excess);
        self.free_all(&excess.chunks)?;
        match split? {
            Split::Done => Ok(()),
            // What was freed has made room to split in, unless another process was faster.
            Split::NoRoom => self.split_off(&Parts { chunks: Vec::new(), ..excess }).map(drop),
        }
    }

    /// Frees whole chunks, largest first, as long as the balloon stays at or above its target.
    ///
    /// # Errors
    /// The first failure of the driver to free; the other chunks are freed all the same.
    pub fn deflate_whole_chunks(&mut self) -> Result<(), CallError> {
        self.free_all(&self.excess().chunks)
    }

    /// The smallest chunk of at least `size`, else the largest there is; zero if there is none.
    pub fn best_fit(&self, size: ByteSize) -> ByteSize {
        let fit = self.chunks.range(size..).next().or_else(|| self.chunks.iter().next_back());
        fit.map(|(&size, _)| size).unwrap_or_default()
    }

    /// Frees the best fit for `size`. Returns how much that freed.
    pub fn give_way(&mut self, size: ByteSize) -> Result<ByteSize, CallError> {
        let fit = self.best_fit(size);
        self.free_one(fit).map(|()| fit)
    }

    /// Allocates one chunk of exactly `size`, whatever the target is. Says whether there was room.
    ///
    /// # Errors
    /// Any failure of the driver but "out of memory".
    pub fn take_back(&mut self, size: ByteSize) -> Result<bool, CallError> {
        if size.is_zero() {
            return Ok(true);
        }
        match self.space.allocate(size) {
            Ok(chunk) => {
                self.keep(chunk);
                Ok(true)
            }
            Err(error) if error.error.is_out_of_memory() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Allocates `size` in halves of what is left, down to pieces of about `least`, until one does not fit: the most is out of
    /// reach of others at once, and next time there is a small one to free.
    ///
    /// # Errors
    /// Any failure of the driver but "out of memory".
    pub fn take_back_in_pieces(&mut self, size: ByteSize, least: ByteSize) -> Result<(), CallError> {
        let mut rest = size;
        while !rest.is_zero() {
            let piece = whole(ByteSize::new(rest.bytes() / 2)).max(whole(least)).min(rest);
            if !self.take_back(piece)? {
                break;
            }
            rest = rest.saturating_sub(piece);
        }
        Ok(())
    }

    /// What stands above the target.
    fn excess(&self) -> Parts {
        self.parts_of(self.allocated.saturating_sub(self.target))
    }

    fn parts_of(&self, size: ByteSize) -> Parts {
        let mut parts = Parts { chunks: Vec::new(), rest: size };
        for (&size, chunks) in self.chunks.iter().rev() {
            let fitting = (parts.rest.bytes() / size.bytes()).min(chunks.len() as u64);
            parts.chunks.extend(std::iter::repeat_n(size, fitting as usize));
            parts.rest = ByteSize::new(parts.rest.bytes() - fitting * size.bytes());
        }
        parts
    }

    /// The smallest chunk that stays when these have gone.
    fn smallest_without(&self, gone: &[ByteSize]) -> Option<ByteSize> {
        let goes = |size: ByteSize| gone.iter().filter(|&&gone| gone == size).count();
        self.chunks.iter().find(|(size, chunks)| chunks.len() > goes(**size)).map(|(&size, _)| size)
    }

    /// Splits the rest off the smallest chunk that stays when the whole ones have gone.
    fn split_off(&mut self, excess: &Parts) -> Result<Split, CallError> {
        let stays = self.smallest_without(&excess.chunks);
        let Some(size) = stays.filter(|_| !excess.rest.is_zero()) else { return Ok(Split::Done) };
        match self.space.allocate(size.saturating_sub(excess.rest)) {
            Ok(kept) => {
                self.keep(kept);
                self.free_one(size).map(|()| Split::Done)
            }
            Err(error) if error.error.is_out_of_memory() => Ok(Split::NoRoom),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, chunk: S::Chunk) {
        self.allocated = self.allocated.saturating_add(chunk.size());
        self.count += 1;
        self.chunks.entry(chunk.size()).or_default().push(chunk);
    }

    /// Frees one chunk for each of `sizes`, where there still is one of exactly that size.
    ///
    /// # Errors
    /// The first failure of the driver; the other chunks are freed all the same.
    pub fn free_all(&mut self, sizes: &[ByteSize]) -> Result<(), CallError> {
        let mut outcome = Ok(());
        for &size in sizes {
            let freed = self.free_one(size);
            outcome = outcome.and(freed);
        }
        outcome
    }

    /// Frees one chunk of exactly `size`. A chunk that the driver does not free is no longer counted: it is lost either way.
    fn free_one(&mut self, size: ByteSize) -> Result<(), CallError> {
        let Some(chunk) = self.take_out(size) else { return Ok(()) };
        chunk.release().inspect_err(|_| self.stuck = self.stuck.saturating_add(size))
    }

    /// The opposite of [`Self::keep`], for a chunk of exactly `size`.
    fn take_out(&mut self, size: ByteSize) -> Option<S::Chunk> {
        let chunks = self.chunks.get_mut(&size)?;
        let chunk = chunks.pop();
        if chunks.is_empty() {
            self.chunks.remove(&size);
        }
        self.allocated = self.allocated.saturating_sub(size);
        self.count -= 1;
        chunk
    }
}
