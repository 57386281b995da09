//! What a holder that does not hold yet sees of the memory: NVML's figures, asked for as seldom as possible.
//!
//! A look is one query of the memory per GPU. Looks are at least [`SHORTEST`] apart, and further apart while nothing
//! changes. How far depends on who holds the memory: balloons of this user announce what they free (see `wakes.rs`), so
//! [`LONGEST`] will do; any other process may free memory without a word and without ending, so that only looking every
//! [`WATCHFUL`] keeps the time from freed to held below half a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::gpu::{GRANULARITY, GpuProcess, GpuUuid, Nvml, NvmlError};
use crate::line::policy::Free;
use crate::units::ByteSize;

const SHORTEST: Duration = Duration::from_millis(200);
const WATCHFUL: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(1);

/// The processes on each GPU.
pub type Crowd = BTreeMap<GpuUuid, Vec<GpuProcess>>;

/// A view of some GPUs.
pub struct Sight {
    nvml: Nvml,
    gpus: Vec<GpuUuid>,
    free: Free,
    crowd: Crowd,
    pace: Pace,
}

/// When the next look is due.
#[derive(Debug)]
struct Pace {
    last: Option<Instant>,
    interval: Duration,
    longest: Duration,
}

impl Sight {
    /// A view of `gpus` that has not looked yet.
    ///
    /// # Errors
    /// There is no NVML.
    pub fn open(gpus: Vec<GpuUuid>) -> Result<Self, NvmlError> {
        let pace = Pace { last: None, interval: SHORTEST, longest: WATCHFUL };
        Ok(Self { nvml: Nvml::open()?, gpus, free: Free::new(), crowd: Crowd::new(), pace })
    }

    /// Looks at no more than these from here on.
    pub fn narrow(&mut self, gpus: Vec<GpuUuid>) {
        self.free.retain(|gpu, _| gpus.contains(gpu));
        self.crowd.retain(|gpu, _| gpus.contains(gpu));
        self.gpus = gpus;
    }

    /// When the next look is due; `None` for at once.
    pub fn due(&self) -> Option<Instant> {
        self.pace.due()
    }

    /// Something has happened: the next look is due as soon as it may be.
    pub fn hurry(&mut self) {
        self.pace.interval = SHORTEST;
    }

    /// Looks at the memory. Says whether it has changed.
    pub fn look(&mut self, now: Instant) -> bool {
        let free = |gpu: &GpuUuid| match self.nvml.memory(*gpu) {
            Ok(memory) => Some((*gpu, memory.free.round_down(GRANULARITY))),
            Err(error) => {
                tracing::debug!(%gpu, %error, "memory not told");
                None
            }
        };
        let free: Free = self.gpus.iter().filter_map(free).collect();
        let has_changed = free != self.free;
        self.free = free;
        self.pace.looked(now, has_changed);
        has_changed
    }

    /// Asks who is on the GPUs, and looks less often where they all are of `own`, the pids of balloons.
    pub fn look_around(&mut self, own: &BTreeSet<u32>) {
        let crowd = |gpu: &GpuUuid| Some((*gpu, self.nvml.processes(*gpu).ok()?));
        self.crowd = self.gpus.iter().filter_map(crowd).collect();
        let all_own =
            |crowd: &Vec<GpuProcess>| !crowd.is_empty() && crowd.iter().all(|holder| own.contains(&holder.pid));
        let is_quiet = self.gpus.iter().all(|gpu| self.crowd.get(gpu).is_some_and(all_own));
        self.pace.longest = if is_quiet { LONGEST } else { WATCHFUL };
    }

    /// What was free at the last look, in whole pages of device memory. A GPU that does not tell is missing.
    pub fn free(&self) -> &Free {
        &self.free
    }

    pub fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// What this process has on a GPU, where NVML tells.
    pub fn own_use(&self, gpu: GpuUuid) -> Option<ByteSize> {
        let processes = self.nvml.processes(gpu).ok()?;
        let own = processes.iter().find(|process| process.pid == std::process::id())?;
        own.used_bytes.map(ByteSize::new)
    }

    /// How busy a GPU is, in percent.
    pub fn utilization(&self, gpu: GpuUuid) -> Option<u32> {
        self.nvml.utilization(gpu).ok()
    }
}

impl Pace {
    fn due(&self) -> Option<Instant> {
        self.last.map(|last| last + self.interval.min(self.longest))
    }

    fn looked(&mut self, now: Instant, has_changed: bool) {
        self.last = Some(now);
        self.interval = if has_changed { SHORTEST } else { (self.interval + self.interval / 4).min(LONGEST) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks of a minute in which nothing happens.
    fn looks(longest: Duration) -> Vec<Instant> {
        let begin = Instant::now();
        let mut pace = Pace { last: None, interval: SHORTEST, longest };
        let mut looks = vec![begin];
        pace.looked(begin, true);
        while let Some(next) = pace.due().filter(|next| *next - begin < Duration::from_secs(60)) {
            pace.looked(next, false);
            looks.push(next);
        }
        looks
    }

    #[test]
    fn looks_become_rare_while_nothing_changes() {
        for (longest, at_most) in [(LONGEST, 66), (WATCHFUL, 202)] {
            let looks = looks(longest);
            assert!(looks.len() <= at_most, "{} in a minute", looks.len());
            for pair in looks.windows(2) {
                assert!((SHORTEST..=longest).contains(&(pair[1] - pair[0])));
            }
        }
    }

    #[test]
    fn a_change_or_an_event_brings_the_next_look_forward() {
        let now = Instant::now();
        let mut pace = Pace { last: Some(now), interval: LONGEST, longest: LONGEST };
        pace.looked(now, true);
        assert_eq!(pace.due(), Some(now + SHORTEST));
    }
}
