//! Memory that several processes hold: counted once, for one of them, until none is left.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::clients::Client;
use crate::layout::{MAX_CLIENTS, MAX_SHARES, ShareSlot};
use crate::map::State;

/// A piece of memory that can be handed to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

impl ShareSlot {
    fn add(&self, client: usize) {
        self.holders[client / 64].fetch_or(1 << (client % 64), Relaxed);
    }

    fn remove(&self, client: usize) {
        self.holders[client / 64].fetch_and(!(1 << (client % 64)), Relaxed);
    }

    fn holders(&self) -> impl Iterator<Item = usize> {
        (0..MAX_CLIENTS).filter(|client| self.holders[client / 64].load(Relaxed) & (1 << (client % 64)) != 0)
    }
}

impl State {
    /// Makes a share of memory that the client has taken. `None`: there are too many.
    pub fn share(&self, gpu: usize, client: Client, bytes: u64) -> Option<Share> {
        let _registry = self.registry.lock(|| ());
        let used = self.shares_used.load(Relaxed) as usize;
        let free = (0..used).find(|&share| self.shares[share].bytes.load(Acquire) == 0);
        let share = free.or_else(|| (used < MAX_SHARES).then_some(used))?;
        let slot = &self.shares[share];
        slot.gpu.store(gpu as u32, Relaxed);
        slot.owner.store(client.0 as u32, Relaxed);
        slot.holders.iter().for_each(|holders| holders.store(0, Relaxed));
        slot.add(client.0);
        slot.bytes.store(bytes, Release);
        self.shares_used.fetch_max(share as u32 + 1, Release);
        Some(Share(share as u32))
    }

    /// Enters the client among the holders; gives the GPU and the bytes. `None`: there is no such share any more.
    pub fn hold_share(&self, share: Share, client: Client) -> Option<(usize, u64)> {
        let slot = self.shares.get(share.0 as usize)?;
        let gpu = slot.gpu.load(Relaxed) as usize;
        let _locked = self.lock(gpu);
        self.bury(gpu);
        let bytes = slot.bytes.load(Acquire);
        slot.add(client.0);
        (bytes > 0).then_some((gpu, bytes))
    }

    /// The client needs the share no more.
    pub fn leave_share(&self, share: Share, client: Client) {
        let gpu = self.shares[share.0 as usize].gpu.load(Relaxed) as usize;
        let locked = self.lock(gpu);
        self.drop_share(gpu, &self.shares[share.0 as usize], client.0);
        drop(locked);
        self.changed();
    }

    /// Takes a client out of all shares of a GPU. The caller holds the GPU's lock.
    pub(crate) fn drop_shares(&self, gpu: usize, client: usize) {
        let used = self.shares_used.load(Acquire) as usize;
        for slot in &self.shares[..used] {
            if slot.bytes.load(Acquire) > 0 && slot.gpu.load(Relaxed) as usize == gpu {
                self.drop_share(gpu, slot, client);
            }
        }
    }

    fn drop_share(&self, gpu: usize, slot: &ShareSlot, client: usize) {
        slot.remove(client);
        if slot.owner.load(Relaxed) as usize != client {
            return;
        }
        let bytes = slot.bytes.load(Relaxed);
        match slot.holders().find(|&holder| self.is_alive(holder)) {
            Some(heir) => {
                self.pass_on(gpu, client, heir, bytes);
                slot.owner.store(heir as u32, Relaxed);
            }
            None => {
                let held = self.gpus[gpu].used_by[client].load(Relaxed);
                self.set(gpu, client, held.saturating_sub(bytes));
                slot.bytes.store(0, Release);
            }
        }
    }
}
