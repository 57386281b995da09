//! A worker, as its holder sees it: the thread that owns one GPU's context and chunks. Nobody else touches them; others
//! send it [`Order`]s, and it reports. What it does with them is the [`bench`](crate::holder::bench)'s.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use crate::gpu::Device;
use crate::handover::View;
use crate::holder::bench::work;
use crate::holder::gauge::Gauge;
use crate::holder::orders::Order;
use crate::holder::plan::Backing;
use crate::holder::reports::Reports;

/// The holder's end of a worker.
pub struct Worker {
    pub orders: Sender<Order>,
    pub gauge: Arc<Gauge>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a worker that opens a context on `device` and reports as `index`.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start(index: usize, device: Device, backing: Backing, reports: Reports) -> std::io::Result<Self> {
        let (orders, received) = std::sync::mpsc::channel();
        let gauge = Arc::new(Gauge::default());
        let shown = Arc::clone(&gauge);
        let thread = std::thread::Builder::new()
            .name(format!("gpu-{}", device.ordinal))
            .spawn(move || work(index, &device, backing, &received, &reports, &shown))?;
        Ok(Self { orders, gauge, thread })
    }

    /// Sends an order; a worker that has ended takes none.
    pub fn tell(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// The GPU's memory and the balloon on it; `None` when the driver or the worker does not tell.
    pub fn view(&self) -> Option<View> {
        let (reply, view) = std::sync::mpsc::sync_channel(1);
        self.tell(Order::View { reply: Box::new(move |view| _ = reply.send(view)) });
        view.recv().ok().flatten()
    }

    /// Waits for the thread of a worker that was told to deflate.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}
