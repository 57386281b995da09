//! What a holder that does not hold yet sees of the memory: NVML's figures, asked for as seldom as possible.
//!
//! A look is one query of the memory per GPU, at most five times a second. Looks are [`SHORTEST`] apart, and further apart
//! while nothing changes. How far depends on who holds the memory: balloons of this user announce what they free (see
//! `wakes.rs`), so [`LONGEST`] will do; any other process may free memory without a word and without ending, so that only
//! looking every [`WATCHFUL`] keeps the time from freed to held below half a second. What is announced is looked at in an
//! instant, once a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::gpu::{ComputeMode, GRANULARITY, GpuProcess, GpuUuid, Nvml, NvmlError};
use crate::line::policy::Free;
use crate::units::ByteSize;

const SHORTEST: Duration = Duration::from_millis(200);
const WATCHFUL: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(1);

const MOST_PER_SECOND: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

/// A killed process lets go of its files before the driver has freed its memory.
const SETTLE: Duration = Duration::from_millis(10);

/// The processes on each GPU.
pub type Crowd = BTreeMap<GpuUuid, Vec<GpuProcess>>;

/// A view of some GPUs.
pub struct Sight {
    nvml: Nvml,
    gpus: Vec<GpuUuid>,
    /// Those of them that one process at a time may use.
    exclusive: Vec<GpuUuid>,
    free: Free,
    /// What there would be if nobody else used the GPU.
    most: Free,
    crowd: Crowd,
    pace: Pace,
}

/// When the next look is due.
#[derive(Debug)]
struct Pace {
    /// The last looks, at most as many as are allowed in a second.
    looks: VecDeque<Instant>,
    interval: Duration,
    longest: Duration,
    /// What was announced is there to be seen from then on.
    announced: Option<Instant>,
    /// When that was last looked at out of turn.
    out_of_turn: Option<Instant>,
}

impl Sight {
    /// A view of `gpus` that has not looked yet.
    ///
    /// # Errors
    /// There is no NVML, or it shows none of them.
    pub fn open(gpus: Vec<GpuUuid>) -> Result<Self, NvmlError> {
        let pace = Pace::new(WATCHFUL);
        let nvml = Nvml::open()?;
        let shows_one = gpus.iter().any(|gpu| nvml.index(*gpu).is_some());
        if let Some(gpu) = gpus.first().filter(|_| !shows_one) {
            return Err(NvmlError::NoSuchGpu(*gpu));
        }
        let is_exclusive =
            |gpu: &GpuUuid| nvml.compute_mode(*gpu).is_ok_and(|mode| mode == ComputeMode::ExclusiveProcess);
        let exclusive = gpus.iter().copied().filter(is_exclusive).collect();
        Ok(Self { nvml, gpus, exclusive, free: Free::new(), most: Free::new(), crowd: Crowd::new(), pace })
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
    pub fn hurry(&mut self, now: Instant) {
        self.pace.hurry(now);
    }

    /// Looks at the memory. Says whether it has changed.
    pub fn look(&mut self, now: Instant) -> bool {
        let mut free = Free::new();
        for &gpu in &self.gpus {
            match self.nvml.memory(gpu) {
                Ok(memory) => {
                    let there = if self.is_closed(gpu) { ByteSize::ZERO } else { memory.free };
                    free.insert(gpu, there.round_down(GRANULARITY));
                    self.most.insert(gpu, memory.total.saturating_sub(memory.reserved));
                }
                Err(error) => tracing::debug!(%gpu, %error, "memory not told"),
            }
        }
        let has_changed = free != self.free;
        self.free = free;
        self.pace.looked(now, has_changed);
        has_changed
    }

    /// Whether another process has the GPU for itself.
    fn is_closed(&self, gpu: GpuUuid) -> bool {
        let is_other = |process: &GpuProcess| process.pid != std::process::id();
        self.exclusive.contains(&gpu) && self.nvml.processes(gpu).is_ok_and(|processes| processes.iter().any(is_other))
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

    /// What would be free on a GPU if nobody used it.
    pub fn most(&self, gpu: GpuUuid) -> Option<ByteSize> {
        self.most.get(&gpu).copied()
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
    fn new(longest: Duration) -> Self {
        Self { looks: VecDeque::new(), interval: SHORTEST, longest, announced: None, out_of_turn: None }
    }

    fn due(&self) -> Option<Instant> {
        let last = *self.looks.back()?;
        let regular = last + self.interval.min(self.longest);
        let due = match self.announced {
            Some(announced) if self.may_be_out_of_turn(announced) => regular.min(announced),
            _ => regular,
        };
        let oldest = self.looks.front().filter(|_| self.looks.len() == MOST_PER_SECOND);
        Some(oldest.map_or(due, |oldest| due.max(*oldest + SECOND)))
    }

    /// Once a second, so that the regular looks stay close.
    fn may_be_out_of_turn(&self, at: Instant) -> bool {
        self.out_of_turn.is_none_or(|last| at.saturating_duration_since(last) >= SECOND)
    }

    fn hurry(&mut self, now: Instant) {
        self.interval = SHORTEST;
        self.announced.get_or_insert(now + SETTLE);
    }

    fn looked(&mut self, now: Instant, has_changed: bool) {
        let regular = self.looks.back().map(|last| *last + self.interval.min(self.longest));
        if regular.is_some_and(|regular| now < regular) {
            self.out_of_turn = Some(now);
        }
        self.announced = self.announced.filter(|announced| *announced > now);
        if self.looks.len() == MOST_PER_SECOND {
            self.looks.pop_front();
        }
        self.looks.push_back(now);
        self.interval = if has_changed { SHORTEST } else { (self.interval + self.interval / 4).min(LONGEST) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// The looks of a minute in which nothing changes; something is announced at these times.
    fn looks(longest: Duration, announced: impl Iterator<Item = Duration>) -> Vec<Duration> {
        let begin = Instant::now();
        let mut announced = announced.peekable();
        let mut pace = Pace::new(longest);
        let mut looks = Vec::new();
        for time in (0..60_000).map(|time| time * MILLISECOND) {
            if announced.next_if(|at| *at <= time).is_some() {
                pace.hurry(begin + time);
            }
            if pace.due().is_none_or(|due| due <= begin + time) {
                pace.looked(begin + time, false);
                looks.push(time);
            }
        }
        looks
    }

    #[test]
    fn looks_become_rare_while_nothing_changes() {
        for (longest, at_most) in [(LONGEST, 66), (WATCHFUL, 202)] {
            let looks = looks(longest, std::iter::empty());
            assert!(looks.len() <= at_most, "{} in a minute", looks.len());
            assert!(looks.windows(2).all(|pair| (SHORTEST..=longest).contains(&(pair[1] - pair[0]))));
        }
    }

    #[test]
    fn what_is_announced_is_looked_at_at_once() {
        let at = Duration::from_millis(30_123);
        let looks = looks(LONGEST, std::iter::once(at));
        assert!(looks.contains(&(at + SETTLE)), "{looks:?}");
    }

    #[test]
    fn announcements_without_end_do_not_make_it_look_more_often_than_promised() {
        for every in [1, 37, 150, 240] {
            let looks = looks(WATCHFUL, (0..).map(|number| number * every * MILLISECOND));
            let longest = looks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(longest <= 400 * MILLISECOND, "{longest:?}");
            assert!(looks.windows(6).all(|six| six[5] - six[0] >= SECOND), "{looks:?}");
        }
    }

    #[test]
    fn a_change_brings_the_next_look_forward() {
        let now = Instant::now();
        let mut pace = Pace { interval: LONGEST, ..Pace::new(LONGEST) };
        pace.looked(now, true);
        assert_eq!(pace.due(), Some(now + SHORTEST));
    }
}
