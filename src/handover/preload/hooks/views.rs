//! What the job sees of the memory. `shared`: what the balloon holds for the job counts as free. `capped`: the reservation
//! is all there is. `raw`, and without a holder: the driver's word.

use crate::driver::{self, SUCCESS};
use crate::holder;
use crate::hook::{Hook, NEWEST, hook};
use crate::protocol::{Answer, Uuid, VIEW_CAPPED, VIEW_RAW};

pub const HOOKS: &[&Hook] = &[&INFO, &TOTAL, &NVML_INFO, &NVML_INFO_V2];

/// What the job is shown.
struct Shown {
    free: u64,
    total: u64,
}

/// `None`: the driver's word stands.
fn shown(gpu: impl FnOnce() -> Option<Uuid>) -> Option<Shown> {
    let view = holder::view();
    if view == VIEW_RAW {
        return None;
    }
    let Answer { free, total, balloon, job, reservation, .. } = holder::memory(gpu()?)?;
    let within_reach = free.saturating_add(balloon).min(total);
    Some(match view {
        VIEW_CAPPED => {
            let total = reservation.min(total);
            Shown { free: within_reach.min(total.saturating_sub(job)), total }
        }
        _ => Shown { free: within_reach, total },
    })
}

hook! {
    INFO = c"cuMemGetInfo_v2", c"cuMemGetInfo", (3020, NEWEST), false;
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) |real| {
        let status = real(free, total);
        if status == SUCCESS
            && let Some(shown) = shown(|| driver::uuid(driver::current_device()?))
        {
            put(free, shown.free as usize);
            put(total, shown.total as usize);
        }
        status
    }
}

/// Writes to a place that the driver has just filled, or left alone because there is none.
fn put<T>(place: *mut T, value: T) {
    // SAFETY: the caller's place for one `T`, or null.
    if let Some(place) = unsafe { place.as_mut() } {
        *place = value;
    }
}

hook! {
    TOTAL = c"cuDeviceTotalMem_v2", c"cuDeviceTotalMem", (3020, NEWEST), false;
    fn cuDeviceTotalMem_v2(total: *mut usize, device: i32) |real| {
        let status = real(total, device);
        if status == SUCCESS
            && holder::view() == VIEW_CAPPED
            && let Some(shown) = shown(|| driver::uuid(device))
        {
            put(total, shown.total as usize);
        }
        status
    }
}

/// `nvmlMemory_t`.
#[repr(C)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
struct MemoryV2 {
    version: u32,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

hook! {
    NVML_INFO = c"nvmlDeviceGetMemoryInfo", c"", (0, 0), false;
    fn nvmlDeviceGetMemoryInfo(device: usize, memory: *mut Memory) |real| {
        let status = real(device, memory);
        if status == SUCCESS
            && let Some(Shown { free, total }) = shown(|| driver::nvml_uuid(device))
        {
            put(memory, Memory { total, free, used: total.saturating_sub(free) });
        }
        status
    }
}

hook! {
    NVML_INFO_V2 = c"nvmlDeviceGetMemoryInfo_v2", c"", (0, 0), false;
    fn nvmlDeviceGetMemoryInfo_v2(device: usize, memory: *mut MemoryV2) |real| {
        let status = real(device, memory);
        if status == SUCCESS
            && let Some(shown) = shown(|| driver::nvml_uuid(device))
            // SAFETY: the driver has just filled it.
            && let Some(memory) = unsafe { memory.as_mut() }
        {
            apart_from_reserved(memory, &shown);
        }
        status
    }
}

/// Here `total` includes what the driver keeps for itself, and `used` does not.
fn apart_from_reserved(memory: &mut MemoryV2, shown: &Shown) {
    if holder::view() == VIEW_CAPPED {
        (memory.total, memory.reserved) = (shown.total, 0);
    }
    memory.free = shown.free;
    memory.used = memory.total.saturating_sub(memory.reserved).saturating_sub(shown.free);
}
