//! What goes wrong, and how long calls take, as a test has asked.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::clients::Client;
use crate::layout::{ComputeMode, MAX_FAULTS};
use crate::map::State;
use crate::names::Function;

/// Calls that cost the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Family {
    Other = 0,
    Init = 1,
    Context = 2,
    Alloc = 3,
    Free = 4,
    Query = 5,
    Copy = 6,
    Nvml = 7,
    /// Beside its own cost, a call that asks for more memory than there is: 8 to 12 ms on an H100.
    Refusal = 8,
}

/// Calls of a function that shall fail.
#[derive(Debug, Clone)]
pub struct Fault {
    pub function: String,
    /// The library's error code.
    pub error: i32,
    /// The first call from now that fails, counted from 1.
    pub nth: u64,
    /// How many calls fail from there on.
    pub times: u64,
    /// Only of this process.
    pub pid: Option<u32>,
}

impl Fault {
    /// The next call of `function`, by whomever, fails with `error`.
    pub fn next(function: impl Into<String>, error: i32) -> Self {
        Self { function: function.into(), error, nth: 1, times: 1, pid: None }
    }
}

impl State {
    pub fn inject(&self, fault: &Fault) {
        let number = self.number_of(&fault.function);
        let _guard = self.registry.lock(|| ());
        let used = self.faults_used.load(Relaxed) as usize;
        assert!(used < MAX_FAULTS, "too many injected faults");
        let slot = &self.faults[used];
        slot.function.store(number, Relaxed);
        slot.pid.store(fault.pid.unwrap_or(0), Relaxed);
        slot.error.store(fault.error, Relaxed);
        slot.first.store(fault.nth, Relaxed);
        slot.times.store(fault.times, Relaxed);
        slot.seen.store(0, Relaxed);
        self.faults_used.store(used as u32 + 1, Release);
    }

    /// Takes all injected faults away.
    pub fn heal(&self) {
        let _guard = self.registry.lock(|| ());
        self.faults_used.store(0, Release);
    }

    pub fn set_delay(&self, family: Family, delay: Duration) {
        self.delays_ns[family as usize].store(delay.as_nanos() as u64, Relaxed);
    }

    /// Every call begins here: it is counted, takes its time, and may be told to fail.
    pub fn enter(&self, client: Client, function: &Function, family: Family) -> Result<(), i32> {
        let number = self.count(client, function);
        self.spend(family as usize);
        let faults = self.faults_used.load(Acquire) as usize;
        if faults == 0 {
            return Ok(());
        }
        for slot in self.faults[..faults].iter().filter(|slot| slot.function.load(Relaxed) == number) {
            let pid = slot.pid.load(Relaxed);
            if pid != 0 && pid != self.pid_of(client.0) {
                continue;
            }
            let seen = slot.seen.fetch_add(1, Relaxed) + 1;
            let first = slot.first.load(Relaxed);
            if seen >= first && seen - first < slot.times.load(Relaxed) {
                return Err(slot.error.load(Relaxed));
            }
        }
        Ok(())
    }
}

/// What a test does to the machine.
impl State {
    pub fn set_utilization(&self, gpu: usize, percent: u32) {
        self.gpus[gpu].utilization.store(percent, Relaxed);
    }

    pub fn set_compute_mode(&self, gpu: usize, mode: ComputeMode) {
        self.gpus[gpu].compute_mode.store(mode as u32, Relaxed);
    }

    /// The GPU falls off the bus: CUDA's calls on it return `error`, NVML says that it is lost.
    pub fn lose_gpu(&self, gpu: usize, error: i32) {
        self.gpus[gpu].is_lost.store(error.unsigned_abs(), Relaxed);
        self.changed();
    }

    /// How long freed memory still counts as used in what the driver reports.
    pub fn set_lag(&self, lag: Duration) {
        self.lag_ns.store(lag.as_nanos() as u64, Relaxed);
    }
}
