//! Freed memory that the driver shows as used for a while longer: whoever was told that it is free looks at once.

use std::time::{Duration, Instant};

use crate::gpu::{CallError, GpuUuid, Memory, Nvml};
use crate::units::ByteSize;

/// What is not shown by then will be told as free all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the driver is asked while it is late.
const INTERVAL: Duration = Duration::from_millis(1);

/// Waits until the driver shows `expected` as free on a GPU, or until what is missing of it is another process's. Says
/// how late the driver was.
pub fn wait(expected: ByteSize, uuid: GpuUuid, memory: impl Fn() -> Result<Memory, CallError>) -> Duration {
    let start = Instant::now();
    let mut nvml = None;
    loop {
        let missing = memory().map_or(ByteSize::ZERO, |memory| expected.saturating_sub(memory.free));
        if missing.is_zero() {
            // The first look costs as much as any, and says nothing of a delay.
            return if nvml.is_some() { start.elapsed() + INTERVAL } else { Duration::ZERO };
        }
        // The driver is hardly ever late, so NVML is loaded only then.
        let nvml = nvml.get_or_insert_with(Nvml::open).as_ref();
        let is_taken = nvml.is_ok_and(|nvml| unaccounted(nvml, uuid).is_some_and(|bytes| bytes < missing));
        if is_taken || start.elapsed() >= PATIENCE {
            return Duration::ZERO;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Memory that is used but by no process that NVML knows.
fn unaccounted(nvml: &Nvml, uuid: GpuUuid) -> Option<ByteSize> {
    let used = nvml.memory(uuid).ok()?.used;
    let processes = nvml.processes(uuid).ok()?;
    Some(
        processes
            .iter()
            .fold(used, |rest, process| rest.saturating_sub(ByteSize::new(process.used_bytes.unwrap_or(0)))),
    )
}
