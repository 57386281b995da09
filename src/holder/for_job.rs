//! What a holder has for the handover to its job: the balloons, and a place to listen.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::balloon::Loan;
use crate::control::registry::Registered;
use crate::gpu::GpuUuid;
use crate::handover::{JobUse, Lane, Need, Pieces, Reply, View, Yielded};
use crate::holder::Holder;
use crate::holder::gauge::Gauge;
use crate::holder::orders::Order;
use crate::holder::seat::Seat;
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
}

impl Lane for WorkerLane {
    fn gpu(&self) -> GpuUuid {
        self.gpu
    }

    fn held(&self) -> ByteSize {
        self.gauge.read().allocated
    }

    fn reservation(&self) -> ByteSize {
        self.gauge.read().target
    }

    fn chunk_size(&self) -> ByteSize {
        self.gauge.read().chunk_size
    }

    fn is_full(&self) -> bool {
        self.gauge.is_full()
    }

    fn follow(&self, job: JobUse) {
        self.tell(Order::JobHolds(job));
    }

    fn give_way(&self, need: Need, reply: Reply<Yielded>) {
        self.tell(Order::GiveWay { need, reply });
    }

    fn settle(&self, job: JobUse) {
        self.tell(Order::Settled(job));
    }

    fn lend(&self, loan: Loan, size: ByteSize, reply: Reply<ByteSize>) {
        self.tell(Order::Lend { loan, size, reply });
    }

    fn reach(&self, loan: Loan, from: usize, reply: Reply<Pieces>) {
        self.tell(Order::Reach { loan, from, reply });
    }

    fn take_home(&self, loan: Loan, places: Range<usize>) {
        self.tell(Order::TakeHome { loan, places });
    }

    fn take_home_all_of(&self, pid: u32) {
        self.tell(Order::TakeHomeAllOf { pid });
    }

    fn most_lent(&self) -> ByteSize {
        self.gauge.read().most_lent
    }

    fn view(&self, reply: Reply<View>) {
        self.tell(Order::View { reply });
    }
}

impl Holder {
    /// Its balloons, for a handover.
    pub fn lanes(&self) -> Vec<Box<dyn Lane>> {
        let lane = |seat: &Seat| {
            let worker = seat.worker.as_ref()?;
            let lane = WorkerLane { gpu: seat.uuid(), orders: worker.orders.clone(), gauge: Arc::clone(&worker.gauge) };
            Some(Box::new(lane) as Box<dyn Lane>)
        };
        self.seats.iter().filter_map(lane).collect()
    }

    /// Ordinal and identity of each GPU that has a balloon, in the order of [`Self::lanes`].
    pub fn reserved_gpus(&self) -> impl Iterator<Item = (u32, String)> + '_ {
        self.seats.iter().filter(|seat| seat.worker.is_some()).map(|seat| (seat.ordinal(), seat.uuid().to_string()))
    }

    /// Whether this process has a context on each of its GPUs.
    pub fn has_contexts(&self) -> bool {
        self.plan.backing.has_context
    }

    /// Where to listen to the job's processes: the path for this process, and the one for them. `None` for a holder that is
    /// not registered.
    pub fn job_socket(&self) -> Option<(PathBuf, PathBuf)> {
        self.registered.as_ref().map(Registered::job_socket)
    }
}
