//! Memory and load.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::Ordering::Relaxed;

use crate::abi::{Out, api};
use crate::errors::NvmlError;

/// `nvmlMemory_t`: here, what the driver keeps for itself counts as used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryV2 {
    version: c_uint,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

const MEMORY_V2: c_uint = size_of::<MemoryV2>() as c_uint | 2 << 24;

api! {
    device: nvmlDeviceGetMemoryInfo (out: Out<Memory>) |gpu| {
        let seen = gpu.state.seen(gpu.index);
        out.put(Memory { total: seen.total, free: seen.free, used: seen.used + seen.reserved })
    }

    device: nvmlDeviceGetMemoryInfo_v2 (out: Out<MemoryV2>) |gpu| {
        let version = out.cast::<c_uint>().get()?;
        if version != MEMORY_V2 {
            return Err(NvmlError::ARGUMENT_VERSION_MISMATCH);
        }
        let seen = gpu.state.seen(gpu.index);
        let (total, reserved, free, used) = (seen.total, seen.reserved, seen.free, seen.used);
        out.put(MemoryV2 { version, total, reserved, free, used })
    }

    device: nvmlDeviceGetBAR1MemoryInfo (out: Out<Memory>) |_| {
        let (total, used) = (128 << 30, 2 << 20);
        out.put(Memory { total, free: total - used, used })
    }

    device: nvmlDeviceGetUtilizationRates (out: Out<[c_uint; 2]>) |gpu| {
        let seen = gpu.state.seen(gpu.index);
        let busy = gpu.utilization.load(Relaxed);
        // The second is the time in which memory was read or written, not how full it is.
        out.put([busy, if seen.used > 0 { busy / 2 } else { 0 }])
    }

    device: nvmlDeviceGetComputeMode (mode: Out<c_int>) |gpu| {
        mode.put(gpu.compute_mode.load(Relaxed) as c_int)
    }

    device: nvmlDeviceSetComputeMode (_mode: c_int) |_| {
        Err(NvmlError::NO_PERMISSION)
    }

    device: nvmlDeviceGetEncoderUtilization | nvmlDeviceGetDecoderUtilization | nvmlDeviceGetJpgUtilization
    | nvmlDeviceGetOfaUtilization (utilization: Out<c_uint>, period_us: Out<c_uint>) |_| {
        utilization.put(0)?;
        period_us.put(167_000)
    }
}
