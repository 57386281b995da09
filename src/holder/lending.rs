//! How a worker lends its balloon's chunks to the job.

use crate::balloon::{Chunk, Loan, Space, Wanted};
use crate::gpu::CallError;
use crate::handover::{MOST_PIECES, Pieces, Reply};
use crate::holder::bench::Bench;
use crate::units::ByteSize;

impl<S: Space> Bench<'_, S> {
    pub(super) fn lend(&mut self, loan: Loan, wanted: Wanted, reply: Reply<ByteSize>) {
        let lent = self.balloon.lend(loan, wanted);
        tracing::debug!(pid = loan.pid, ?wanted, %lent, "lent");
        // The share shrinks with the balloon: nothing is to be done.
        self.balloon.set_target(self.share());
        self.show();
        reply(Some(lent));
    }

    /// Says nothing where the memory is not of a kind that can be lent, or the driver refuses.
    pub(super) fn reach(&mut self, loan: Loan, from: usize, reply: Reply<Pieces>) {
        let pieces = self.pieces(loan, from).transpose().unwrap_or_else(|error| {
            // Once: a job asks again at each allocation.
            if !std::mem::replace(&mut self.has_refused, true) {
                tracing::warn!(gpu = %self.uuid, %error, "the balloon's memory cannot be lent");
            }
            tracing::debug!(pid = loan.pid, %error, "chunk not lent");
            None
        });
        reply(pieces);
    }

    /// As many pieces of one size as go at once, or as this process may open.
    fn pieces(&self, loan: Loan, from: usize) -> Option<Result<Pieces, CallError>> {
        let size = self.balloon.borrowed(loan, from).next()?.size();
        let alike = self.balloon.borrowed(loan, from).take_while(|chunk| chunk.size() == size).take(MOST_PIECES);
        let mut descriptors = Vec::new();
        for exported in alike.map(Chunk::export) {
            match exported? {
                Ok(descriptor) => descriptors.push(descriptor),
                Err(error) if descriptors.is_empty() => return Some(Err(error)),
                Err(_) => break,
            }
        }
        Some(Ok(Pieces { size, descriptors }))
    }

    /// Chunks have come home. What the balloon is then too large by goes.
    pub(super) fn loans_changed(&mut self) {
        self.follow_job(self.following.job);
    }
}
