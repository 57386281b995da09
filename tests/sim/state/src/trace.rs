//! Every change of a GPU's memory, in order: what proves that memory was never let go for an instant.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::{Gpu, TRACED};
use crate::map::State;

/// A process's memory on a GPU changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// On the monotonic clock.
    pub at_ns: u64,
    pub pid: u32,
    /// What the process holds there since.
    pub holds: u64,
    /// What all processes hold there since.
    pub used: u64,
}

/// A moment from which changes are looked at.
#[derive(Debug, Clone)]
pub struct Mark {
    gpu: usize,
    from: u64,
    /// What each process held then.
    holds: BTreeMap<u32, u64>,
}

impl State {
    /// This moment on a GPU.
    pub fn mark(&self, gpu: usize) -> Mark {
        let _locked = self.lock(gpu);
        Mark { gpu, from: self.traced(gpu), holds: self.holdings(gpu) }
    }

    /// The least and the most that these processes together held since the mark, at any instant.
    ///
    /// # Panics
    /// If more has happened since than is remembered.
    pub fn extremes(&self, mark: &Mark, is_theirs: impl Fn(u32) -> bool) -> (u64, u64) {
        let events = self.trace(mark.gpu, mark.from).unwrap_or_else(|| panic!("too much has happened since the mark"));
        let mut holds = mark.holds.clone();
        let sum = |holds: &BTreeMap<u32, u64>| holds.iter().filter(|(pid, _)| is_theirs(**pid)).map(|(_, n)| n).sum();
        let start: u64 = sum(&holds);
        events.into_iter().fold((start, start), |(least, most), event| {
            holds.insert(event.pid, event.holds);
            let now = sum(&holds);
            (least.min(now), most.max(now))
        })
    }

    /// How many changes the GPU has seen: where a later [`State::trace`] begins.
    pub fn traced(&self, gpu: usize) -> u64 {
        self.gpus[gpu].traced.load(Acquire)
    }

    /// The changes since the count `from`; `None` if the oldest of them are already forgotten.
    pub fn trace(&self, gpu: usize, from: u64) -> Option<Vec<Event>> {
        let to = self.traced(gpu);
        let events = (from..to).map(|number| {
            let slot = &self.gpus[gpu].trace[number as usize % TRACED];
            Event {
                at_ns: slot.at_ns.load(Relaxed),
                pid: slot.pid.load(Relaxed) as u32,
                holds: slot.holds.load(Relaxed),
                used: slot.used.load(Relaxed),
            }
        });
        let events = events.collect();
        (self.traced(gpu) - from <= TRACED as u64).then_some(events)
    }

    pub(crate) fn record(&self, gpu: &Gpu, pid: u32, holds: u64, used: u64) {
        let number = gpu.traced.load(Relaxed);
        let slot = &gpu.trace[number as usize % TRACED];
        slot.at_ns.store(now_ns(), Relaxed);
        slot.pid.store(pid.into(), Relaxed);
        slot.holds.store(holds, Relaxed);
        slot.used.store(used, Relaxed);
        gpu.traced.store(number + 1, Release);
    }
}

/// The monotonic clock, which all processes share.
pub(crate) fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is live.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
