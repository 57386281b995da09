//! A worker's figures, for whoever describes the balloon while the worker is busy.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::units::ByteSize;

/// How a worker's balloon stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub allocated: ByteSize,
    pub num_chunks: u64,
    /// The reservation, which balloon and job share.
    pub target: ByteSize,
    /// Zero before the first order.
    pub chunk_size: ByteSize,
    /// What the job holds of the reservation.
    pub job: ByteSize,
    /// What of that it has borrowed from the balloon, and the most of it at one time.
    pub lent: ByteSize,
    pub most_lent: ByteSize,
}

/// Where a worker shows its figures. Each is current; two of them may be of different instants.
#[derive(Debug, Default)]
pub struct Gauge {
    allocated: AtomicU64,
    num_chunks: AtomicU64,
    target: AtomicU64,
    chunk_size: AtomicU64,
    job: AtomicU64,
    lent: AtomicU64,
    most_lent: AtomicU64,
    is_full: AtomicBool,
    borrowers: Mutex<Vec<(u32, ByteSize)>>,
}

impl Gauge {
    /// Whether the GPU was found full.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub fn show_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// What each process of the job has borrowed.
    pub fn borrowers(&self) -> Vec<(u32, ByteSize)> {
        self.borrowers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn show_borrowers(&self, borrowers: impl Iterator<Item = (u32, ByteSize)>) {
        *self.borrowers.lock().unwrap_or_else(PoisonError::into_inner) = borrowers.collect();
    }

    pub fn show(&self, figures: Figures) {
        self.allocated.store(figures.allocated.bytes(), Ordering::Relaxed);
        self.num_chunks.store(figures.num_chunks, Ordering::Relaxed);
        self.target.store(figures.target.bytes(), Ordering::Relaxed);
        self.job.store(figures.job.bytes(), Ordering::Relaxed);
        self.lent.store(figures.lent.bytes(), Ordering::Relaxed);
        self.most_lent.store(figures.most_lent.bytes(), Ordering::Relaxed);
        self.chunk_size.store(figures.chunk_size.bytes(), Ordering::Relaxed);
    }

    pub fn read(&self) -> Figures {
        let size = |value: &AtomicU64| ByteSize::new(value.load(Ordering::Relaxed));
        Figures {
            allocated: size(&self.allocated),
            num_chunks: self.num_chunks.load(Ordering::Relaxed),
            target: size(&self.target),
            chunk_size: size(&self.chunk_size),
            job: size(&self.job),
            lent: size(&self.lent),
            most_lent: size(&self.most_lent),
        }
    }
}
