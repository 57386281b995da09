//! Chunks that are lent: the job's process maps them, and the balloon keeps them, too. So their memory is never free, not
//! when it changes hands and not when its borrower dies.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Balloon, Chunk, Parts, Space};
use crate::gpu::{CallError, GRANULARITY};
use crate::units::ByteSize;

/// Who borrowed, and under which number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loan {
    pub pid: u32,
    pub number: u64,
}

/// What is to be lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whole chunks that come to as much together.
    AtLeast(ByteSize),
    /// One chunk of exactly this size.
    One(ByteSize),
}

/// What is lent.
pub(super) struct Loans<C> {
    /// By loan and the chunk's place in it.
    chunks: BTreeMap<(Loan, usize), C>,
    most: ByteSize,
    /// By borrower, none of whom has nothing.
    borrowers: BTreeMap<u32, ByteSize>,
}

impl<C> Default for Loans<C> {
    fn default() -> Self {
        Self { chunks: BTreeMap::new(), most: ByteSize::ZERO, borrowers: BTreeMap::new() }
    }
}

impl<S: Space> Balloon<S> {
    /// What is lent now. Not part of [`Self::allocated`].
    pub fn lent(&self) -> ByteSize {
        self.loans.borrowers.values().copied().sum()
    }

    /// The most that was lent at one time.
    pub fn most_lent(&self) -> ByteSize {
        self.loans.most
    }

    /// What each process has borrowed.
    pub fn borrowers(&self) -> impl Iterator<Item = (u32, ByteSize)> {
        self.loans.borrowers.iter().map(|(pid, bytes)| (*pid, *bytes))
    }

    /// Lends what is wanted, or nothing where there is no such memory or the loan is known. Returns how much that is.
    pub fn lend(&mut self, loan: Loan, wanted: Wanted) -> ByteSize {
        if self.borrowed(loan, 0).next().is_some() {
            return ByteSize::ZERO;
        }
        let chosen = match wanted {
            Wanted::AtLeast(size) => self.covering(size),
            Wanted::One(size) => self.has_chunk(size).then(|| vec![size]),
        };
        let Some(chosen) = chosen else { return ByteSize::ZERO };
        let mut lent = ByteSize::ZERO;
        for (place, size) in chosen.into_iter().enumerate() {
            if let Some(chunk) = self.take_out(size) {
                self.loans.chunks.insert((loan, place), chunk);
                lent = lent.saturating_add(size);
            }
        }
        if !lent.is_zero() {
            let borrowed = self.loans.borrowers.entry(loan.pid).or_default();
            *borrowed = borrowed.saturating_add(lent);
        }
        self.loans.most = self.loans.most.max(self.lent());
        lent
    }

    /// The chunks of a loan from this place on.
    pub fn borrowed(&self, loan: Loan, from: usize) -> impl Iterator<Item = &S::Chunk> {
        self.loans.chunks.range((loan, from)..=(loan, usize::MAX)).map(|(_, chunk)| chunk)
    }

    /// These chunks of a loan are given back, as far as they are lent.
    pub fn take_home(&mut self, loan: Loan, places: Range<usize>) {
        if !places.is_empty() {
            self.take_home_all((loan, places.start)..(loan, places.end));
        }
    }

    /// A process has ended, and so have its loans.
    pub fn take_home_all_of(&mut self, pid: u32) {
        self.take_home_all((Loan { pid, number: 0 }, 0)..(Loan { pid, number: u64::MAX }, usize::MAX));
    }

    fn take_home_all(&mut self, keys: Range<(Loan, usize)>) {
        let keys: Vec<(Loan, usize)> = self.loans.chunks.range(keys).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(chunk) = self.loans.chunks.remove(&key) else { continue };
            let (pid, size) = (key.0.pid, chunk.size());
            let borrowed = self.loans.borrowers.remove(&pid).unwrap_or_default().saturating_sub(size);
            if !borrowed.is_zero() {
                self.loans.borrowers.insert(pid, borrowed);
            }
            self.keep(chunk);
        }
    }

    /// Whether there is a chunk of exactly `size`, which is made of others if there is not. While these are free, others may be
    /// faster; but nobody is as near as this process, and once lent it comes home as it is.
    fn has_chunk(&mut self, size: ByteSize) -> bool {
        if self.chunks.contains_key(&size) {
            return true;
        }
        let Some(others) = self.covering(size) else { return false };
        let made = self.recut(&others, size).unwrap_or_else(|error| {
            tracing::warn!(%error, "no chunk of another size");
            false
        });
        tracing::debug!(%size, made, "a chunk made of others");
        made
    }

    fn recut(&mut self, others: &[ByteSize], size: ByteSize) -> Result<bool, CallError> {
        // Where there is room, nothing is free for a moment.
        let mut made = self.take_back(size)?;
        self.free_all(others)?;
        if !made {
            made = self.take_back(size)?;
        }
        let freed: ByteSize = others.iter().copied().sum();
        let rest = if made { freed.saturating_sub(size) } else { freed };
        self.take_back_in_pieces(rest, GRANULARITY)?;
        Ok(made)
    }

    /// The sizes of chunks that come to at least `size`: as many as fit into it, largest first, and for the rest the smallest
    /// that stays.
    fn covering(&self, size: ByteSize) -> Option<Vec<ByteSize>> {
        let Parts { mut chunks, rest } = self.parts_of(size);
        if !rest.is_zero() {
            chunks.push(self.smallest_without(&chunks)?);
        }
        Some(chunks)
    }
}
