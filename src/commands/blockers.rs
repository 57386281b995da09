//! Who is in the way: the processes that hold a GPU's memory, named in the error of a request that does not fit.

use crate::commands::failure::Failure;
use crate::gpu::{GpuUuid, Nvml};
use crate::holder::HolderError;
use crate::process;
use crate::units::ByteSize;

/// The failure for `error`, with the processes in the way.
pub fn named(error: HolderError) -> Failure {
    let short: Vec<(u32, GpuUuid)> = match &error {
        HolderError::NotAvailable(shortfalls) | HolderError::NotInTime { shortfalls, .. } => {
            shortfalls.iter().map(|short| (short.ordinal, short.uuid)).collect()
        }
        HolderError::Gpu { gpu, source } if source.error.is_out_of_memory() || source.error.is_unavailable() => {
            vec![(gpu.ordinal, gpu.uuid)]
        }
        _ => Vec::new(),
    };
    let details = match Nvml::open() {
        _ if short.is_empty() => Vec::new(),
        Ok(nvml) => short.iter().flat_map(|&(ordinal, uuid)| in_the_way(&nvml, ordinal, uuid)).collect(),
        Err(error) => vec![format!("who holds the memory is not known: {error}")],
    };
    Failure::from(error).details(details)
}

fn in_the_way(nvml: &Nvml, ordinal: u32, uuid: GpuUuid) -> Vec<String> {
    let Ok(mut processes) = nvml.processes(uuid) else { return Vec::new() };
    processes.retain(|holder| holder.pid != std::process::id());
    processes.sort_by_key(|holder| std::cmp::Reverse(holder.used_bytes));
    let told = processes.iter().map(|holder| {
        let size =
            holder.used_bytes.map_or_else(|| "an unknown size".to_owned(), |bytes| ByteSize::new(bytes).to_string());
        let who = process::describe(holder.pid);
        format!("GPU {ordinal}: pid {} holds {size}{who}", holder.pid)
    });
    told.collect()
}
