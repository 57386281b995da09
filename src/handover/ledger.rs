//! Who of the job holds what. Adds up what its processes count and what NVML adds to that, and tells each GPU's worker when
//! the sum has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use super::TYPICAL_CONTEXT;
use super::lane::{JobUse, Lane};
use super::page::Shared;
use super::protocol::{LITTLE, MAX_GPUS, MAX_SLOTS, Slot};
use crate::gpu::{GRANULARITY, GpuUuid};
use crate::units::ByteSize;

/// What a job may need without being able to wait for it, such as what the driver prepares for the first copy or for memory
/// to be set. At most a chunk, which is how exactly the balloon promises to follow.
const LAZY_LOADING: ByteSize = ByteSize::new(LITTLE);

/// How long a GPU counts as full after the driver has refused the job, whatever else is known of it.
const NEWLY_FULL: Duration = Duration::from_secs(10);

/// What is worth taking back at once where others are waiting for it.
const SMALL_STEP: u64 = GRANULARITY.bytes();

/// What the job had of one GPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Most bytes at one time.
    pub peak: u64,
    /// Most bytes out of the reservation at one time.
    pub handed_over: u64,
    /// Whether a context counts in the peak at what such a one takes as a rule, because NVML did not tell.
    pub is_estimated: bool,
    /// How often the driver was out of memory and way was given.
    pub retries: u64,
    /// Between the first look at NVML and the last.
    pub looked: Duration,
}

/// What NVML shows of the job on one GPU.
#[derive(Debug, Default)]
pub struct Reading {
    /// By process with a slot: what it has beyond its count.
    pub members: BTreeMap<u32, u64>,
    /// The same, whether or not that was seen twice: with memory in it that may have been freed just now.
    pub glimpsed: BTreeMap<u32, u64>,
    /// All processes without one.
    pub strangers: u64,
}

/// The account of one GPU.
struct Account {
    lane: Box<dyn Lane>,
    told: JobUse,
    /// What the processes' counts came to when they were read last.
    counted: u64,
    /// By process: what NVML shows beyond its count, such as a context.
    beyond: BTreeMap<u32, u64>,
    /// The same by one look only.
    glimpsed: BTreeMap<u32, u64>,
    /// The most that a process had beyond its count.
    largest: Option<u64>,
    strangers: u64,
    looks: Option<(Instant, Instant)>,
    /// When the driver last refused the job.
    refused: Option<Instant>,
    /// The most of these two at one time.
    most_counted: u64,
    most_beyond: u64,
    usage: Usage,
    retries: Arc<AtomicU64>,
}

/// The accounts of one job.
pub struct Ledger {
    shared: Arc<Shared>,
    accounts: Vec<Account>,
    /// By slot: the process that has it.
    members: Vec<Option<u32>>,
    /// Not where no byte is to be free for a moment.
    pub keeps_headroom: bool,
    /// Kept free where processes without the library may come; else `None`.
    headroom_for_strangers: Option<ByteSize>,
}

impl Ledger {
    pub fn new(shared: Arc<Shared>, lanes: Vec<Box<dyn Lane>>) -> Self {
        let account = |lane| Account {
            lane,
            told: JobUse::default(),
            counted: 0,
            beyond: BTreeMap::new(),
            glimpsed: BTreeMap::new(),
            largest: None,
            strangers: 0,
            looks: None,
            refused: None,
            most_counted: 0,
            most_beyond: 0,
            usage: Usage::default(),
            retries: Arc::default(),
        };
        let mut ledger = Self {
            shared,
            accounts: lanes.into_iter().take(MAX_GPUS).map(account).collect(),
            members: vec![None; MAX_SLOTS],
            keeps_headroom: true,
            headroom_for_strangers: None,
        };
        ledger.read();
        ledger
    }

    pub fn lanes(&self) -> impl Iterator<Item = &dyn Lane> {
        self.accounts.iter().map(|account| &*account.lane)
    }

    /// The identities of the GPUs, by number.
    pub fn gpus(&self) -> impl Iterator<Item = GpuUuid> {
        self.accounts.iter().map(|account| account.lane.gpu())
    }

    pub fn number(&self, gpu: GpuUuid) -> Option<usize> {
        self.gpus().position(|uuid| uuid == gpu)
    }

    pub fn lane(&self, number: usize) -> &dyn Lane {
        &*self.accounts[number].lane
    }

    pub fn members(&self) -> impl Iterator<Item = u32> {
        self.members.iter().flatten().copied()
    }

    /// Gives a process a slot; `None` if there is none left. A process that has one has replaced its program, with which its
    /// memory went.
    pub fn admit(&mut self, pid: u32) -> Option<usize> {
        let known = self.members.iter().position(|member| *member == Some(pid));
        let slot = known.or_else(|| self.members.iter().position(Option::is_none))?;
        if known.is_some() {
            self.take_stock(Some(pid));
            self.lanes().for_each(|lane| lane.take_home_all_of(pid));
        }
        self.wipe(slot);
        self.members[slot] = Some(pid);
        self.read();
        Some(slot)
    }

    /// The process has ended: what it held counts as freed, and what it borrowed is the balloon's.
    pub fn dismiss(&mut self, pid: u32) {
        self.take_stock(Some(pid));
        self.lanes().for_each(|lane| lane.take_home_all_of(pid));
        if let Some(slot) = self.members.iter().position(|member| *member == Some(pid)) {
            self.wipe(slot);
            self.members[slot] = None;
        }
        for account in &mut self.accounts {
            account.beyond.remove(&pid);
            account.glimpsed.remove(&pid);
        }
        self.read();
    }

    fn wipe(&self, slot: usize) {
        let slot = &self.shared.page().slots[slot];
        for used in &slot.used {
            used.store(0, Relaxed);
        }
        slot.contexts.store(0, Relaxed);
    }

    pub fn expects_strangers(&self) -> bool {
        self.headroom_for_strangers.is_some()
    }

    /// Of processes that end before NVML has been read twice, what it told once counts in the peak; of a context of which it
    /// told nothing, what another one of the job takes, or any. `ending` is the process that is about to be forgotten; without
    /// one, the job is over.
    fn take_stock(&mut self, ending: Option<u32>) {
        for number in 0..self.accounts.len() {
            let account = &self.accounts[number];
            let is_measured = |pid: &u32| account.beyond.get(pid).is_some_and(|beyond| *beyond > 0);
            if ending.as_ref().is_some_and(is_measured) {
                continue;
            }
            let (mut sum, mut is_estimated) = (account.strangers, false);
            for (pid, slot) in self.slots() {
                let told = account.beyond.get(&pid).filter(|_| is_measured(&pid)).or(account.glimpsed.get(&pid));
                let has_context = slot.contexts.load(Relaxed) & 1 << number != 0;
                let beyond = told.copied().unwrap_or_else(|| {
                    is_estimated |= has_context;
                    if has_context { account.largest.unwrap_or(TYPICAL_CONTEXT.bytes()) } else { 0 }
                });
                sum = sum.saturating_add(beyond);
            }
            let account = &mut self.accounts[number];
            if sum > account.most_beyond {
                account.most_beyond = sum;
                account.usage.is_estimated = is_estimated;
            }
        }
    }

    /// What processes without the library are to find free from now on.
    pub fn expect_strangers(&mut self, headroom: ByteSize) {
        self.headroom_for_strangers = Some(headroom);
        self.read();
    }

    /// Takes note of what NVML shows beside the counts.
    pub fn audited(&mut self, number: usize, reading: Reading) {
        let members: Vec<u32> = self.members().collect();
        let account = &mut self.accounts[number];
        account.strangers = reading.strangers;
        // Whoever has ended meanwhile stays out.
        account.beyond = reading.members;
        account.beyond.retain(|pid, _| members.contains(pid));
        account.glimpsed.extend(reading.glimpsed.into_iter().filter(|(pid, now)| members.contains(pid) && *now > 0));
        account.largest = account.largest.max(account.glimpsed.values().max().copied());
        let now = Instant::now();
        account.looks = Some((account.looks.map_or(now, |(first, _)| first), now));
        let job = self.job(number);
        let account = &mut self.accounts[number];
        account.told = job;
        account.lane.follow(job);
    }

    /// What each process counts on a GPU.
    pub fn counts(&self, number: usize) -> BTreeMap<u32, u64> {
        self.slots().map(|(pid, slot)| (pid, positive(slot.used[number].load(Relaxed)))).collect()
    }

    /// The slots that processes have. The others are not looked at, and so take no memory.
    fn slots(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.members.iter().zip(&self.shared.page().slots).filter_map(|(member, slot)| Some(((*member)?, slot)))
    }

    /// Reads the counts and tells the workers what has changed.
    pub fn read(&mut self) {
        for number in 0..self.accounts.len() {
            let job = self.job(number);
            let account = &mut self.accounts[number];
            if account.told != job {
                account.told = job;
                account.lane.follow(job);
            }
        }
    }

    /// The same for one GPU at the end of a turn, of which the worker wants to hear in any case.
    pub fn settle(&mut self, number: usize) {
        self.accounts[number].refused = Some(Instant::now());
        let job = self.job(number);
        let account = &mut self.accounts[number];
        account.told = job;
        account.lane.settle(job);
    }

    /// Counts how often way was given on a GPU.
    pub fn retries(&self, number: usize) -> Arc<AtomicU64> {
        Arc::clone(&self.accounts[number].retries)
    }

    /// What the job, which is over or no longer followed, had of each GPU.
    pub fn usage(&mut self) -> Vec<Usage> {
        self.take_stock(None);
        self.read();
        let usage = |account: &Account| Usage {
            retries: account.retries.load(Relaxed),
            looked: account.looks.map_or(Duration::ZERO, |(first, last)| last - first),
            ..account.usage
        };
        self.accounts.iter().map(usage).collect()
    }

    /// What the job holds of a GPU, read now.
    fn job(&mut self, number: usize) -> JobUse {
        self.set_steps(number);
        let news = &self.shared.page().gpus[number];
        // First the news, then the counts that they are about: what comes in between is news again.
        let highest = positive(news.highest.swap(0, Relaxed));
        news.unread.swap(0, Acquire);
        news.rung.store(0, Relaxed);
        let counts = self.slots().map(|(_, slot)| positive(slot.used[number].load(Relaxed)));
        let counted = counts.fold(0, u64::saturating_add);
        let holds = ByteSize::new(self.accounts[number].enter(counted, highest));
        JobUse { holds, headroom: self.headroom(number) }
    }

    /// What is news for the holder.
    fn set_steps(&self, number: usize) {
        let lane = &self.accounts[number].lane;
        let chunk = lane.chunk_size().bytes().max(1);
        // The lane finds the GPU full a little later than the job.
        let is_full = lane.is_full() || self.accounts[number].refused.is_some_and(|at| at.elapsed() < NEWLY_FULL);
        let step_back = if is_full { SMALL_STEP.min(chunk) } else { chunk };
        let news = &self.shared.page().gpus[number];
        news.step.store(chunk.cast_signed(), Relaxed);
        news.step_back.store(step_back.cast_signed(), Relaxed);
    }

    fn headroom(&self, number: usize) -> ByteSize {
        if let Some(headroom) = self.headroom_for_strangers {
            headroom
        } else if self.keeps_headroom && self.members().next().is_some() {
            LAZY_LOADING.min(self.accounts[number].lane.chunk_size())
        } else {
            ByteSize::ZERO
        }
    }
}

impl Account {
    /// Takes note of what the processes count now, and of how much more than before they have counted meanwhile. Returns what
    /// the job holds with what NVML shows beyond that.
    fn enter(&mut self, counted: u64, highest: u64) -> u64 {
        let beyond = self.beyond.values().fold(self.strangers, |sum, bytes| sum.saturating_add(*bytes));
        // NVML tells late of a context that has been there all the time, so the two peaks count together.
        self.most_counted = self.most_counted.max(counted).max(self.counted.saturating_add(highest));
        if beyond > self.most_beyond {
            self.most_beyond = beyond;
            self.usage.is_estimated = false;
        }
        self.counted = counted;
        let own = self.most_counted.saturating_add(self.most_beyond);
        let peak = own.saturating_add(self.lane.most_lent().bytes());
        self.usage.peak = self.usage.peak.max(peak);
        self.usage.handed_over = self.usage.handed_over.max(peak.min(self.lane.reservation().bytes()));
        counted.saturating_add(beyond)
    }
}

/// A count may be below zero for a moment: another thread's free was counted before its allocation.
fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
