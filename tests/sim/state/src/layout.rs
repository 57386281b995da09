//! What lies in the shared file. Everything that changes is atomic; the rest is written before anybody else maps it.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use crate::lock::RobustLock;

pub const MAX_GPUS: usize = 16;
pub const MAX_CLIENTS: usize = 1024;
pub const MAX_FUNCTIONS: usize = 1280;
pub const MAX_FAULTS: usize = 64;
pub const FAMILIES: usize = 9;
/// Frees of which the reported memory may still be ignorant.
pub const LAGGING: usize = 256;
/// Changes of memory that are remembered per GPU.
pub const TRACED: usize = 1 << 16;

/// Pieces of memory that were exported to other processes.
pub const MAX_SHARES: usize = 16384;

/// Device memory comes in pages of this size.
pub const GRANULARITY: u64 = 2 << 20;

/// As both CUDA and NVML number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ComputeMode {
    Default = 0,
    Prohibited = 2,
    ExclusiveProcess = 3,
}

#[repr(C)]
pub struct Shared {
    pub(crate) magic: AtomicU64,
    pub(crate) layout: AtomicU64,
    /// Counts every change that somebody may wait for; a futex.
    pub(crate) changes: AtomicU32,
    pub(crate) waiters: AtomicU32,
    /// Guards the tables of clients, names and faults.
    pub(crate) registry: RobustLock,
    pub(crate) gpu_count: AtomicU32,
    /// As `cuDriverGetVersion` gives it.
    pub cuda_version: AtomicU32,
    pub driver_version: Text<80>,
    /// The library answers like the toolkit's stub.
    pub is_stub: AtomicU32,
    /// How long after a free the reported memory may still count it, in nanoseconds.
    pub lag_ns: AtomicU64,
    pub(crate) delays_ns: [AtomicU64; FAMILIES],
    /// The GPUs as CUDA numbers them without `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
    pub fastest_first: [AtomicU32; MAX_GPUS],
    pub(crate) clients_used: AtomicU32,
    pub(crate) names_used: AtomicU32,
    pub(crate) faults_used: AtomicU32,
    pub(crate) shares_used: AtomicU32,
    pub(crate) shares: [ShareSlot; MAX_SHARES],
    pub(crate) faults: [FaultSlot; MAX_FAULTS],
    pub(crate) names: [Text<64>; MAX_FUNCTIONS],
    pub gpus: [Gpu; MAX_GPUS],
    pub(crate) clients: [ClientSlot; MAX_CLIENTS],
}

/// Text that is written once, before it is shared or under the registry's lock.
#[repr(C)]
pub struct Text<const N: usize>(pub(crate) [std::sync::atomic::AtomicU8; N]);

#[repr(C)]
pub(crate) struct FaultSlot {
    pub function: AtomicU32,
    /// 0: of any process.
    pub pid: AtomicU32,
    pub error: AtomicI32,
    /// The first call that fails, counted from 1.
    pub first: AtomicU64,
    pub times: AtomicU64,
    pub seen: AtomicU64,
}

#[repr(C)]
pub(crate) struct ShareSlot {
    /// 0: the slot is free.
    pub bytes: AtomicU64,
    pub gpu: AtomicU32,
    /// The client whose count it is in.
    pub owner: AtomicU32,
    /// A bit for each client that holds it.
    pub holders: [AtomicU64; MAX_CLIENTS / 64],
}

#[repr(C)]
pub struct Gpu {
    pub(crate) lock: RobustLock,
    pub name: Text<96>,
    pub uuid: [std::sync::atomic::AtomicU8; 16],
    pub pci_domain: AtomicU32,
    pub pci_bus: AtomicU32,
    pub total: AtomicU64,
    /// What the driver keeps for itself; nobody's.
    pub reserved: AtomicU64,
    pub withheld: AtomicU64,
    pub context_cost: AtomicU64,
    pub compute_mode: AtomicU32,
    pub utilization: AtomicU32,
    /// The GPU is gone: what CUDA's calls on it return. 0: it is there.
    pub is_lost: AtomicU32,
    /// Sum over all clients.
    pub(crate) used: AtomicU64,
    pub(crate) peak: AtomicU64,
    pub(crate) used_by: [AtomicU64; MAX_CLIENTS],
    pub(crate) peak_by: [AtomicU64; MAX_CLIENTS],
    pub(crate) contexts_of: [AtomicU32; MAX_CLIENTS],
    pub(crate) lagging_next: AtomicU32,
    pub(crate) lagging: [Lagging; LAGGING],
    pub(crate) traced: AtomicU64,
    pub(crate) trace: [TraceSlot; TRACED],
}

#[repr(C)]
pub(crate) struct Lagging {
    pub until_ns: AtomicU64,
    pub bytes: AtomicU64,
}

#[repr(C)]
pub(crate) struct TraceSlot {
    pub at_ns: AtomicU64,
    pub pid: AtomicU64,
    /// The client's memory on this GPU after the change.
    pub holds: AtomicU64,
    /// All clients' memory on this GPU after the change.
    pub used: AtomicU64,
}

#[repr(C)]
pub(crate) struct ClientSlot {
    pub pid: AtomicU32,
    pub kind: AtomicU32,
    pub calls: [AtomicU32; MAX_FUNCTIONS],
}

impl<const N: usize> Text<N> {
    /// Keeps what fits, with a NUL behind it.
    pub(crate) fn set(&self, text: &str) {
        let bytes = text.bytes().take(N - 1).chain(std::iter::repeat(0));
        for (slot, byte) in self.0.iter().zip(bytes) {
            slot.store(byte, std::sync::atomic::Ordering::Relaxed);
        }
    }

    pub fn get(&self) -> String {
        let bytes = self.0.iter().map(|byte| byte.load(std::sync::atomic::Ordering::Relaxed));
        String::from_utf8_lossy(&bytes.take_while(|byte| *byte != 0).collect::<Vec<u8>>()).into_owned()
    }
}

impl ComputeMode {
    pub fn of(number: u32) -> Self {
        match number {
            2 => Self::Prohibited,
            3 => Self::ExclusiveProcess,
            _ => Self::Default,
        }
    }
}
