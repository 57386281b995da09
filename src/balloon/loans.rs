//! Chunks that are lent: the job's process maps them, and the balloon keeps them, too. So their memory is never free, not
//! when it changes hands and not when its borrower dies.

use std::collections::BTreeMap;

use super::{Balloon, Chunk, Space};
use crate::units::ByteSize;

/// Who borrowed, and under which number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loan {
    pub pid: u32,
    pub number: u64,
}

/// What is lent.
pub(super) struct Loans<C> {
    chunks: BTreeMap<Loan, Vec<C>>,
    bytes: ByteSize,
    most: ByteSize,
}

impl<C> Default for Loans<C> {
    fn default() -> Self {
        Self { chunks: BTreeMap::new(), bytes: ByteSize::ZERO, most: ByteSize::ZERO }
    }
}

impl<S: Space> Balloon<S> {
    /// What is lent now. Not part of [`Self::allocated`].
    pub fn lent(&self) -> ByteSize {
        self.loans.bytes
    }

    /// The most that was lent at one time.
    pub fn most_lent(&self) -> ByteSize {
        self.loans.most
    }

    /// Lends whole chunks of at least `size` together, largest first, or nothing where that takes more than `extra` beyond.
    /// Returns how much that is.
    pub fn lend(&mut self, loan: Loan, size: ByteSize, extra: ByteSize) -> ByteSize {
        let Some(chosen) = self.covering(size) else { return ByteSize::ZERO };
        let bytes = chosen.iter().fold(ByteSize::ZERO, |sum, size| sum.saturating_add(*size));
        if bytes.saturating_sub(size) > extra || self.loans.chunks.contains_key(&loan) {
            return ByteSize::ZERO;
        }
        let chunks: Vec<S::Chunk> = chosen.iter().filter_map(|size| self.take_out(*size)).collect();
        self.loans.chunks.insert(loan, chunks);
        self.loans.bytes = self.loans.bytes.saturating_add(bytes);
        self.loans.most = self.loans.most.max(self.loans.bytes);
        bytes
    }

    /// The chunks of a loan in the order of their size, largest first.
    pub fn borrowed(&self, loan: Loan) -> &[S::Chunk] {
        self.loans.chunks.get(&loan).map_or(&[], Vec::as_slice)
    }

    /// A loan is given back.
    pub fn take_home(&mut self, loan: Loan) {
        for chunk in self.loans.chunks.remove(&loan).into_iter().flatten() {
            self.loans.bytes = self.loans.bytes.saturating_sub(chunk.size());
            self.keep(chunk);
        }
    }

    /// A process has ended, and so have its loans.
    pub fn take_all_home(&mut self, pid: u32) {
        let of_process = Loan { pid, number: 0 }..=Loan { pid, number: u64::MAX };
        let loans: Vec<Loan> = self.loans.chunks.range(of_process).map(|(loan, _)| *loan).collect();
        for loan in loans {
            self.take_home(loan);
        }
    }

    /// The sizes of chunks that come to at least `size`: as many as fit into it, largest first, and for the rest the smallest
    /// that is enough.
    fn covering(&self, size: ByteSize) -> Option<Vec<ByteSize>> {
        let mut chosen = Vec::new();
        let mut rest = size;
        let mut left: Vec<(ByteSize, usize)> = self.chunks.iter().map(|(size, chunks)| (*size, chunks.len())).collect();
        for (chunk, count) in left.iter_mut().rev() {
            let fitting = usize::try_from(rest.bytes() / chunk.bytes()).unwrap_or(*count).min(*count);
            chosen.extend(std::iter::repeat_n(*chunk, fitting));
            *count -= fitting;
            rest = ByteSize::new(rest.bytes() - fitting as u64 * chunk.bytes());
        }
        if !rest.is_zero() {
            let (last, _) = left.into_iter().find(|(chunk, count)| *chunk >= rest && *count > 0)?;
            chosen.push(last);
        }
        Some(chosen)
    }
}
