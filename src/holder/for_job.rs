//! What a holder does for a job that it runs: its balloons follow the job, and may end before the job does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use crate::control::wire::{Answer, Request};
use crate::gpu::GpuUuid;
use crate::handover::{JobUse, Lane, Reply, View, Yielded};
use crate::holder::worker::{Gauge, Order};
use crate::holder::{Event, Holder, HolderError};
use crate::signals::{Received, Signals};
use crate::units::ByteSize;

/// A worker, for the handover.
struct WorkerLane {
    gpu: GpuUuid,
    orders: Sender<Order>,
    gauge: Arc<Gauge>,
}

impl WorkerLane {
    /// A worker that has ended takes no order.
    fn tell(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    fn read(&self, value: fn(&Gauge) -> &AtomicU64) -> ByteSize {
        ByteSize::new(value(&self.gauge).load(Ordering::Relaxed))
    }
}

impl Lane for WorkerLane {
    fn gpu(&self) -> GpuUuid {
        self.gpu
    }

    fn held(&self) -> ByteSize {
        self.read(|gauge| &gauge.allocated)
    }

    fn reservation(&self) -> ByteSize {
        self.read(|gauge| &gauge.target)
    }

    fn chunk_size(&self) -> ByteSize {
        self.read(|gauge| &gauge.chunk_size)
    }

    fn follow(&self, job: JobUse) {
        self.tell(Order::JobHolds(job));
    }

    fn give_way(&self, size: ByteSize, reply: Reply<Yielded>) {
        self.tell(Order::GiveWay { size, reply });
    }

    fn settle(&self, job: JobUse) {
        self.tell(Order::Settled(job));
    }

    fn view(&self, reply: Reply<View>) {
        self.tell(Order::View { reply });
    }
}

impl Holder {
    /// Its balloons, for a handover.
    pub fn lanes(&self) -> Vec<Box<dyn Lane>> {
        let lane = |seat: &super::seat::Seat| {
            let worker = seat.worker.as_ref()?;
            let lane = WorkerLane { gpu: seat.uuid(), orders: worker.orders.clone(), gauge: Arc::clone(&worker.gauge) };
            Some(Box::new(lane) as Box<dyn Lane>)
        };
        self.seats.iter().filter_map(lane).collect()
    }

    /// Where to listen to the job's processes: the path for this process, and the one for them. `None` for a holder that is
    /// not registered.
    pub fn job_socket(&self) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
        self.registered.as_ref().map(crate::control::registry::Registered::job_socket)
    }

    /// Waits for the job's end without a balloon. Every signal goes to `keep`, as in [`Self::hold`].
    ///
    /// # Errors
    /// The system denies the holder its loop.
    pub fn outlive_balloon(&mut self, keep: &mut dyn FnMut(&Received) -> bool) -> Result<(), HolderError> {
        self.events.close_server();
        loop {
            match self.next(None)? {
                Event::Exited => return Ok(()),
                Event::Signal(received) => _ = keep(&received),
                Event::Request(asker, Request::Release { .. }) => {
                    self.events.answer(asker, Answer::Released { bytes: 0 });
                }
                Event::Request(asker, _) => {
                    self.events.answer(asker, Answer::Refused { error: "the balloon is released".to_owned() });
                }
                Event::Report(..) | Event::Woken(_) | Event::Deadline => {}
            }
        }
    }

    /// Ends the holder, which holds nothing any more, and hands its signals back.
    pub fn into_signals(self) -> Signals {
        self.events.into_signals()
    }
}
