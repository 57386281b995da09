//! Who holds how much of a GPU. Every change is made under that GPU's lock and cannot be lost with its maker.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::clients::Client;
use crate::faults::Family;
use crate::layout::{ComputeMode, Gpu, LAGGING};
use crate::lock::Guard;
use crate::map::State;
use crate::trace::now_ns;

/// The GPU has not that much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

/// A GPU's memory as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub total: u64,
    pub used: u64,
    pub reserved: u64,
    pub free: u64,
}

impl Gpu {
    fn capacity(&self) -> u64 {
        self.total.load(Relaxed).saturating_sub(self.reserved.load(Relaxed))
    }
}

impl State {
    /// Takes `bytes` of a GPU for a client.
    pub fn take(&self, gpu: usize, client: Client, bytes: u64) -> Result<(), NoMemory> {
        let locked = self.lock(gpu);
        let fits = |gpu: &Gpu| {
            gpu.used
                .load(Relaxed)
                .checked_add(bytes)
                .is_some_and(|after| after <= gpu.capacity().saturating_sub(gpu.withheld.load(Relaxed)))
        };
        if !fits(&self.gpus[gpu]) {
            self.bury(gpu);
            if !fits(&self.gpus[gpu]) {
                drop(locked);
                self.spend(Family::Refusal as usize);
                return Err(NoMemory);
            }
        }
        let before = self.gpus[gpu].used_by[client.0].load(Relaxed);
        self.set(gpu, client.0, before + bytes);
        drop(locked);
        self.changed();
        Ok(())
    }

    /// Gives `bytes` back.
    pub fn give(&self, gpu: usize, client: Client, bytes: u64) {
        let locked = self.lock(gpu);
        let before = self.gpus[gpu].used_by[client.0].load(Relaxed);
        self.set(gpu, client.0, before.saturating_sub(bytes));
        let lag = self.lag_ns.load(Relaxed);
        if lag > 0 {
            let state = &self.gpus[gpu];
            let slot = &state.lagging[state.lagging_next.fetch_add(1, Relaxed) as usize % LAGGING];
            slot.bytes.store(bytes, Relaxed);
            slot.until_ns.store(now_ns() + lag, Relaxed);
        }
        drop(locked);
        self.changed();
    }

    /// Enters a context of the client, if the compute mode lets it in.
    pub fn enter_context(&self, gpu: usize, client: Client) -> bool {
        let _locked = self.lock(gpu);
        let state = &self.gpus[gpu];
        let admitted = match ComputeMode::of(state.compute_mode.load(Relaxed)) {
            ComputeMode::Default => true,
            ComputeMode::Prohibited => false,
            ComputeMode::ExclusiveProcess => {
                self.bury(gpu);
                let others = (0..self.clients_used.load(Acquire) as usize).filter(|&other| other != client.0);
                others.into_iter().all(|other| state.contexts_of[other].load(Relaxed) == 0)
            }
        };
        if admitted {
            state.contexts_of[client.0].fetch_add(1, Relaxed);
        }
        admitted
    }

    pub fn leave_context(&self, gpu: usize, client: Client) {
        let _locked = self.lock(gpu);
        self.gpus[gpu].contexts_of[client.0].fetch_sub(1, Relaxed);
    }

    /// The GPU's memory as NVML and `cuMemGetInfo` show it: a free may show late.
    pub fn seen(&self, gpu: usize) -> Seen {
        let _locked = self.lock(gpu);
        self.bury(gpu);
        let state = &self.gpus[gpu];
        let late = if self.lag_ns.load(Relaxed) > 0 { lagging(state) } else { 0 };
        let used = (state.used.load(Relaxed) + late).min(state.capacity());
        let free = state.capacity() - used;
        Seen { total: state.total.load(Relaxed), used, reserved: state.reserved.load(Relaxed), free }
    }

    /// What the processes hold on a GPU this instant, contexts included.
    pub fn used(&self, gpu: usize) -> u64 {
        let _locked = self.lock(gpu);
        self.bury(gpu);
        self.gpus[gpu].used.load(Relaxed)
    }

    /// What one process holds on a GPU, contexts included.
    pub fn used_by(&self, gpu: usize, pid: u32) -> u64 {
        let _locked = self.lock(gpu);
        self.bury(gpu);
        self.clients_of(pid).map(|client| self.gpus[gpu].used_by[client].load(Relaxed)).sum()
    }

    /// How many contexts a process has on a GPU.
    pub fn contexts_of(&self, gpu: usize, pid: u32) -> u32 {
        let _locked = self.lock(gpu);
        self.bury(gpu);
        self.clients_of(pid).map(|client| self.gpus[gpu].contexts_of[client].load(Relaxed)).sum()
    }

    /// The processes that have a context or memory on a GPU, with what they hold there.
    pub fn processes(&self, gpu: usize) -> BTreeMap<u32, u64> {
        let _locked = self.lock(gpu);
        self.bury(gpu);
        self.holdings(gpu)
    }

    /// As `processes`. The caller holds the GPU's lock.
    pub(crate) fn holdings(&self, gpu: usize) -> BTreeMap<u32, u64> {
        let state = &self.gpus[gpu];
        let mut holdings = BTreeMap::new();
        for client in 0..self.clients_used.load(Acquire) as usize {
            let bytes = state.used_by[client].load(Relaxed);
            if bytes > 0 || state.contexts_of[client].load(Relaxed) > 0 {
                *holdings.entry(self.pid_of(client)).or_default() += bytes;
            }
        }
        holdings
    }

    /// The most that all processes held at once on a GPU.
    pub fn peak(&self, gpu: usize) -> u64 {
        self.gpus[gpu].peak.load(Relaxed)
    }

    /// The most that one process held on a GPU, also after its end.
    pub fn peak_by(&self, gpu: usize, pid: u32) -> u64 {
        self.clients_of(pid).map(|client| self.gpus[gpu].peak_by[client].load(Relaxed)).max().unwrap_or(0)
    }

    /// Gives back all that a client holds, and forgets its peaks: its place gets a new owner.
    pub(crate) fn wipe(&self, client: usize) {
        for gpu in 0..self.number_of_gpus() {
            let _locked = self.lock(gpu);
            self.clear(gpu, client);
            self.gpus[gpu].peak_by[client].store(0, Relaxed);
        }
    }

    pub(crate) fn lock(&self, gpu: usize) -> Guard<'_> {
        let state = &self.gpus[gpu];
        // The clients' own counts are each one store, so the sum follows from them whenever its maker was killed.
        state.lock.lock(|| {
            let sum = state.used_by.iter().map(|bytes| bytes.load(Relaxed)).sum();
            state.used.store(sum, Relaxed);
        })
    }

    /// Takes what dead clients left. The caller holds the GPU's lock.
    pub(crate) fn bury(&self, gpu: usize) {
        let state = &self.gpus[gpu];
        for client in 0..self.clients_used.load(Acquire) as usize {
            let on_gpu = state.used_by[client].load(Relaxed) > 0 || state.contexts_of[client].load(Relaxed) > 0;
            if on_gpu && !self.is_alive(client) {
                self.clear(gpu, client);
            }
        }
    }

    fn clear(&self, gpu: usize, client: usize) {
        self.drop_shares(gpu, client);
        if self.gpus[gpu].used_by[client].load(Relaxed) > 0 {
            self.set(gpu, client, 0);
        }
        self.gpus[gpu].contexts_of[client].store(0, Relaxed);
    }

    /// Moves bytes from one client's count to another's; they are in use all the while. The caller holds the GPU's lock.
    pub(crate) fn pass_on(&self, gpu: usize, from: usize, to: usize, bytes: u64) {
        let state = &self.gpus[gpu];
        let (gives, takes) = (state.used_by[from].load(Relaxed), state.used_by[to].load(Relaxed));
        let used = state.used.load(Relaxed);
        for (client, holds) in [(to, takes + bytes), (from, gives.saturating_sub(bytes))] {
            state.used_by[client].store(holds, Relaxed);
            state.peak_by[client].fetch_max(holds, Relaxed);
            self.record(state, self.pid_of(client), holds, used);
        }
    }

    /// The one place where a count changes. The caller holds the GPU's lock.
    pub(crate) fn set(&self, gpu: usize, client: usize, holds: u64) {
        let state = &self.gpus[gpu];
        let before = state.used_by[client].swap(holds, Relaxed);
        let used = state.used.load(Relaxed) - before + holds;
        state.used.store(used, Relaxed);
        state.peak.fetch_max(used, Relaxed);
        state.peak_by[client].fetch_max(holds, Relaxed);
        self.record(state, self.pid_of(client), holds, used);
    }
}

fn lagging(gpu: &Gpu) -> u64 {
    let now = now_ns();
    gpu.lagging.iter().filter(|free| free.until_ns.load(Relaxed) > now).map(|free| free.bytes.load(Relaxed)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use crate::{ClientKind, Machine, State};

    const GB: u64 = 1 << 30;

    #[test]
    fn who_dies_with_the_lock_leaves_a_whole_machine() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::create(directory.path(), &Machine::default()).unwrap();
        let client = state.join(ClientKind::Stand).unwrap();
        state.take(0, client, GB).unwrap();
        // SAFETY: the child takes a lock that no other thread holds, and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let own = State::open(directory.path()).unwrap();
            let client = own.join(ClientKind::Stand).unwrap();
            std::mem::forget(own.lock(0));
            // As if it were killed between the two stores of a change.
            own.gpus[0].used_by[client.0].store(5 * GB, Relaxed);
            own.gpus[0].used.store(77 * GB, Relaxed);
            // SAFETY: leaves without running what is the parent's.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: the child is this process's own.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(state.used(0), GB);
        assert_eq!(state.processes(0).len(), 1);
        state.give(0, client, GB);
        assert_eq!(state.used(0), 0);
    }
}
