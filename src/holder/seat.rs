//! One GPU of a holder.

use std::sync::atomic::Ordering;

use crate::gpu::GpuUuid;
use crate::holder::plan::Wanted;
use crate::holder::worker::{Order, Worker};
use crate::units::ByteSize;

/// It keeps its place, by which its worker reports, also when its part is released.
pub(super) struct Seat {
    pub wanted: Wanted,
    pub worker: Option<Worker>,
    pub is_released: bool,
    /// What it grows to in pieces, while it does.
    pub goal: Option<ByteSize>,
}

impl Seat {
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, worker: None, is_released: false, goal: None }
    }

    pub fn ordinal(&self) -> u32 {
        self.wanted.device.ordinal
    }

    pub fn uuid(&self) -> GpuUuid {
        self.wanted.device.uuid
    }

    pub fn held(&self) -> ByteSize {
        self.worker
            .as_ref()
            .map_or(ByteSize::ZERO, |worker| ByteSize::new(worker.gauge.allocated.load(Ordering::Relaxed)))
    }

    pub fn target(&self) -> ByteSize {
        self.worker.as_ref().map_or(ByteSize::ZERO, |worker| ByteSize::new(worker.gauge.target.load(Ordering::Relaxed)))
    }

    pub fn handed_over(&self) -> ByteSize {
        self.worker.as_ref().map_or(ByteSize::ZERO, |worker| ByteSize::new(worker.gauge.job.load(Ordering::Relaxed)))
    }

    pub fn chunk_size(&self) -> ByteSize {
        let size = |worker: &Worker| ByteSize::new(worker.gauge.chunk_size.load(Ordering::Relaxed));
        self.worker.as_ref().map_or(ByteSize::ZERO, size)
    }

    pub fn has_part_on(&self, gpu: GpuUuid) -> bool {
        self.uuid() == gpu && !self.is_released
    }

    pub fn tell(&self, order: Order) {
        if let Some(worker) = &self.worker {
            worker.tell(order);
        }
    }

    /// Ends the worker, which has reported that everything is freed.
    pub fn dismiss(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.join();
        }
    }

    /// The same, for good.
    pub fn give_up(&mut self) {
        self.is_released = true;
        self.dismiss();
    }
}
