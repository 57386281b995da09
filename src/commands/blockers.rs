//! Who is in the way: the processes that hold a GPU's memory, named in the error of a request that does not fit.

use crate::commands::failure::Failure;
use crate::commands::inquiry::ask_all;
use crate::control::registry;
use crate::control::wire::Balloon;
use crate::gpu::{GpuProcess, GpuUuid, Nvml};
use crate::holder::{HolderError, Shortfall};
use crate::process;
use crate::units::ByteSize;

/// Driver and firmware use memory of their own; what is more than that has an owner.
const WITHOUT_OWNER: ByteSize = ByteSize::new(1 << 30);

/// A GPU that cannot be had.
struct Shut {
    /// As its user calls it.
    name: String,
    uuid: GpuUuid,
    /// What it lacks, where the error itself has no room to tell.
    shortfall: Option<String>,
}

/// The failure for `error`, with the processes in the way.
pub fn named(error: HolderError) -> Failure {
    let shut = shut(&error);
    let headline = headline(&error);
    let failure = Failure::from(error);
    if shut.is_empty() {
        return failure;
    }
    let failure = failure.details(told(&shut, Some(std::process::id())));
    match headline {
        Some(headline) => failure.told_as(headline),
        None => failure,
    }
}

/// The processes that hold the memory of these GPUs, each called as its user calls it; all but `own`.
pub fn in_the_way(gpus: &[(String, GpuUuid)], own: Option<u32>) -> Vec<String> {
    let shut = |(name, uuid): &(String, GpuUuid)| Shut { name: name.clone(), uuid: *uuid, shortfall: None };
    told(&gpus.iter().map(shut).collect::<Vec<_>>(), own)
}

/// What is told of each GPU: what it lacks, and who is on it.
fn told(shut: &[Shut], own: Option<u32>) -> Vec<String> {
    if shut.is_empty() {
        return Vec::new();
    }
    let nvml = Nvml::open();
    let balloons = balloons();
    let mut lines = Vec::new();
    for gpu in shut {
        lines.extend(gpu.shortfall.clone());
        lines.extend(nvml.iter().flat_map(|nvml| on_gpu(nvml, &balloons, gpu, own)));
    }
    lines.extend(nvml.err().map(|error| format!("who holds the memory is not known: {error}")));
    lines
}

fn shut(error: &HolderError) -> Vec<Shut> {
    match error {
        HolderError::NotAvailable(shortfalls) | HolderError::NotInTime { shortfalls, .. } => {
            let line = |short: &Shortfall| (shortfalls.len() > 1).then(|| short.to_string());
            let of =
                |short: &Shortfall| Shut { name: short.ordinal.to_string(), uuid: short.uuid, shortfall: line(short) };
            shortfalls.iter().map(of).collect()
        }
        HolderError::Gpu { gpu, source } if source.error.is_out_of_memory() || source.error.is_unavailable() => {
            vec![Shut { name: gpu.ordinal.to_string(), uuid: gpu.uuid, shortfall: None }]
        }
        _ => Vec::new(),
    }
}

/// What stands above several shortfalls, each of which has a line of its own.
fn headline(error: &HolderError) -> Option<String> {
    let (what, shortfalls, ahead) = match error {
        HolderError::NotAvailable(shortfalls) => ("is not available", shortfalls, 0),
        HolderError::NotInTime { shortfalls, ahead } => ("was not available in time", shortfalls, *ahead),
        _ => return None,
    };
    let ordinals: Vec<String> = shortfalls.iter().map(|short| short.ordinal.to_string()).collect();
    let ahead = if ahead > 0 { format!("; {ahead} ahead in line") } else { String::new() };
    (shortfalls.len() > 1).then(|| format!("the memory {what} on GPUs {}{ahead}", ordinals.join(",")))
}

/// This user's balloons, which NVML may know under no process at all.
fn balloons() -> Vec<Balloon> {
    let entries = registry::manageable().unwrap_or_default();
    ask_all(&entries).answers().into_iter().filter_map(|heard| heard.answer.ok()).collect()
}

fn on_gpu(nvml: &Nvml, balloons: &[Balloon], gpu: &Shut, own: Option<u32>) -> Vec<String> {
    let Ok(mut processes) = nvml.processes(gpu.uuid) else { return Vec::new() };
    let held = |balloon: &Balloon| {
        let part = balloon.gpus.iter().find(|part| part.uuid == gpu.uuid)?;
        Some(GpuProcess { pid: balloon.pid, used_bytes: Some(part.allocated_bytes) })
    };
    // Without a context it is no process to NVML.
    let unlisted = balloons.iter().filter_map(held).filter(|held| !processes.iter().any(|known| known.pid == held.pid));
    let unlisted: Vec<GpuProcess> = unlisted.collect();
    processes.extend(unlisted);
    let unseen = unseen(nvml, &processes, gpu);
    processes.retain(|holder| Some(holder.pid) != own);
    processes.sort_by_key(|holder| std::cmp::Reverse(holder.used_bytes));
    let name = &gpu.name;
    let told = processes.iter().map(|holder| {
        let size =
            holder.used_bytes.map_or_else(|| "an unknown size".to_owned(), |bytes| ByteSize::new(bytes).to_string());
        let balloon = balloons.iter().find(|balloon| balloon.pid == holder.pid);
        let balloon = balloon.map(|balloon| format!(" in balloon `{}`", balloon.name)).unwrap_or_default();
        format!("GPU {name}: pid {} holds {size}{balloon}{}", holder.pid, process::describe(holder.pid))
    });
    told.chain(unseen).collect()
}

/// Memory of processes that NVML does not show, as in a container.
fn unseen(nvml: &Nvml, processes: &[GpuProcess], gpu: &Shut) -> Option<String> {
    let used = nvml.memory(gpu.uuid).ok()?.used;
    let known = processes.iter().map(|process| process.used_bytes).sum::<Option<u64>>()?;
    let unseen = used.saturating_sub(ByteSize::new(known));
    (unseen > WITHOUT_OWNER).then(|| format!("GPU {}: {unseen} are held by processes not seen from here", gpu.name))
}
