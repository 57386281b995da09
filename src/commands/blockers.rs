//! Who is in the way: the processes that hold a GPU's memory, named in the error of a request that does not fit.

use crate::commands::failure::Failure;
use crate::gpu::{GpuUuid, Nvml};
use crate::holder::HolderError;
use crate::process;
use crate::units::ByteSize;

/// The failure for `error`, with the processes in the way.
pub fn named(error: HolderError) -> Failure {
    let short: Vec<(String, GpuUuid)> = match &error {
        HolderError::NotAvailable(shortfalls) | HolderError::NotInTime { shortfalls, .. } => {
            shortfalls.iter().map(|short| (short.ordinal.to_string(), short.uuid)).collect()
        }
        HolderError::Gpu { gpu, source } if source.error.is_out_of_memory() || source.error.is_unavailable() => {
            vec![(gpu.ordinal.to_string(), gpu.uuid)]
        }
        _ => Vec::new(),
    };
    Failure::from(error).details(in_the_way(&short, Some(std::process::id())))
}

/// The processes that hold the memory of these GPUs, each called as its user calls it; all but `own`.
pub fn in_the_way(gpus: &[(String, GpuUuid)], own: Option<u32>) -> Vec<String> {
    match Nvml::open() {
        _ if gpus.is_empty() => Vec::new(),
        Ok(nvml) => gpus.iter().flat_map(|(name, uuid)| on_gpu(&nvml, name, *uuid, own)).collect(),
        Err(error) => vec![format!("who holds the memory is not known: {error}")],
    }
}

fn on_gpu(nvml: &Nvml, name: &str, uuid: GpuUuid, own: Option<u32>) -> Vec<String> {
    let Ok(mut processes) = nvml.processes(uuid) else { return Vec::new() };
    processes.retain(|holder| Some(holder.pid) != own);
    processes.sort_by_key(|holder| std::cmp::Reverse(holder.used_bytes));
    let told = processes.iter().map(|holder| {
        let size =
            holder.used_bytes.map_or_else(|| "an unknown size".to_owned(), |bytes| ByteSize::new(bytes).to_string());
        let who = process::describe(holder.pid);
        format!("GPU {name}: pid {} holds {size}{who}", holder.pid)
    });
    told.collect()
}
