//! The processes that have a context on a GPU.

use std::ffi::c_uint;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::abi::{Gpu, Out, Result, api};
use crate::errors::NvmlError;

/// `nvmlProcessInfo_v1_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessV1 {
    pid: c_uint,
    used: u64,
}

/// `nvmlProcessInfo_v2_t`, and `nvmlProcessInfo_t` of version 3.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessV2 {
    pid: c_uint,
    used: u64,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlProcessUtilizationSample_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sample {
    pid: c_uint,
    at_us: u64,
    compute: c_uint,
    memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
}

/// Fills the caller's array, or says how long it must be.
fn fill<T>(items: &[T], count: Out<c_uint>, array: Out<T>) -> Result
where
    T: Copy,
{
    let room = count.get()? as usize;
    count.put(items.len() as c_uint)?;
    if items.len() > room {
        return Err(NvmlError::INSUFFICIENT_SIZE);
    }
    items.iter().enumerate().try_for_each(|(index, item)| array.at(index).put(*item))
}

fn running(gpu: &Gpu) -> Vec<ProcessV2> {
    // Memory that was made without a context has no process here, as seen on an H100 with driver 580.
    let has_context = |pid: &c_uint| gpu.state.contexts_of(gpu.index, *pid) > 0;
    let processes = gpu.state.processes(gpu.index).into_iter().filter(|(pid, _)| has_context(pid));
    let none = c_uint::MAX;
    processes.map(|(pid, used)| ProcessV2 { pid, used, gpu_instance: none, compute_instance: none }).collect()
}

api! {
    device: nvmlDeviceGetComputeRunningProcesses (count: Out<c_uint>, array: Out<ProcessV1>) |gpu| {
        let processes: Vec<_> = running(&gpu).iter().map(|p| ProcessV1 { pid: p.pid, used: p.used }).collect();
        fill(&processes, count, array)
    }

    device: nvmlDeviceGetComputeRunningProcesses_v2 | nvmlDeviceGetComputeRunningProcesses_v3
    (count: Out<c_uint>, array: Out<ProcessV2>) |gpu| {
        fill(&running(&gpu), count, array)
    }

    device: nvmlDeviceGetGraphicsRunningProcesses | nvmlDeviceGetGraphicsRunningProcesses_v2
    | nvmlDeviceGetGraphicsRunningProcesses_v3 | nvmlDeviceGetMPSComputeRunningProcesses
    | nvmlDeviceGetMPSComputeRunningProcesses_v2 | nvmlDeviceGetMPSComputeRunningProcesses_v3
    (count: Out<c_uint>, _array: Out<ProcessV2>) |_| {
        count.put(0)
    }

    device: nvmlDeviceGetProcessUtilization (array: Out<Sample>, count: Out<c_uint>, _since_us: u64) |gpu| {
        let processes = gpu.state.processes(gpu.index);
        let busy = gpu.utilization.load(Relaxed);
        // The load of the GPU, shared by those who are on it.
        let share = busy / (processes.len() as c_uint).max(1);
        if busy == 0 || processes.is_empty() {
            count.put(0)?;
            return Err(NvmlError::NOT_FOUND);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let sample = |pid| Sample { pid, at_us, compute: share, memory: share / 2, encoder: 0, decoder: 0 };
        fill(&processes.into_keys().map(sample).collect::<Vec<_>>(), count, array)
    }
}
