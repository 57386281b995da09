//! The way from the workers to the holder's loop: a queue, and a file descriptor that wakes the loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use rustix::event::{EventfdFlags, eventfd};

use crate::holder::orders::Report;

/// A worker's end: sends a report and wakes the holder.
#[derive(Clone)]
pub struct Reports {
    queue: Sender<(usize, Report)>,
    wake: Arc<OwnedFd>,
}

impl Reports {
    pub fn send(&self, index: usize, report: Report) {
        // A holder that is gone reads no more; its process is ending.
        let _ = self.queue.send((index, report));
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

/// The holder's end.
pub struct Inbox {
    queue: Receiver<(usize, Report)>,
    wake: Arc<OwnedFd>,
}

impl Inbox {
    /// The next report, without waiting.
    pub fn next(&self) -> Option<(usize, Report)> {
        self.queue.try_recv().ok()
    }

    /// Forgets the wake-ups so far. Call before reading the queue empty.
    pub fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
    }
}

impl AsFd for Inbox {
    /// Readable when there may be a report.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// A queue of reports that can be polled.
///
/// # Errors
/// The process has no file descriptor left.
pub fn channel() -> std::io::Result<(Reports, Inbox)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (queue, received) = std::sync::mpsc::channel();
    Ok((Reports { queue, wake: Arc::clone(&wake) }, Inbox { queue: received, wake }))
}
