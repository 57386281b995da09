//! One GPU of a holder.

use crate::gpu::GpuUuid;
use crate::holder::gauge::Figures;
use crate::holder::orders::Order;
use crate::holder::plan::Wanted;
use crate::holder::worker::Worker;
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

    /// How its balloon stands; all zero while no worker has one.
    pub fn figures(&self) -> Figures {
        self.worker.as_ref().map(|worker| worker.gauge.read()).unwrap_or_default()
    }

    /// What each process of the job has borrowed.
    pub fn borrowers(&self) -> Vec<(u32, ByteSize)> {
        self.worker.as_ref().map(|worker| worker.gauge.borrowers()).unwrap_or_default()
    }

    pub fn held(&self) -> ByteSize {
        self.figures().allocated
    }

    pub fn target(&self) -> ByteSize {
        self.figures().target
    }

    pub fn handed_over(&self) -> ByteSize {
        self.figures().job
    }

    pub fn chunk_size(&self) -> ByteSize {
        self.figures().chunk_size
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
