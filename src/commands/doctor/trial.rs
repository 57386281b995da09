//! A small balloon on one GPU: what it costs, and how soon others see its memory free again.

use std::thread;
use std::time::{Duration, Instant};

use crate::gpu::{CallError, Chunk, Context, Device, Nvml};
use crate::report::diagnosis::Trial;
use crate::units::ByteSize;

const CHUNK: ByteSize = ByteSize::new(16 << 20);
const CHUNKS: u32 = 4;

/// How long to look for the memory, and how often. Another process may take it, so that it never shows.
const PATIENCE: Duration = Duration::from_millis(500);
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// Holds a balloon for a moment.
///
/// # Errors
/// The driver call that failed; everything is given back.
pub fn run(device: &Device, nvml: Option<&Nvml>) -> Result<Trial, CallError> {
    let balloon = ByteSize::new(CHUNK.bytes() * u64::from(CHUNKS));
    let start = Instant::now();
    let context = Context::open(device)?;
    let opened = start.elapsed();
    let start = Instant::now();
    let chunks = (0..CHUNKS).map(|_| context.allocate(CHUNK)).collect::<Result<Vec<Chunk>, CallError>>()?;
    let inflated = start.elapsed();
    let free = || free(&context, device, nvml);
    let held = nvml.and_then(|nvml| used_by_this_process(nvml, device));
    let while_held = free()?;
    for chunk in chunks {
        chunk.release()?;
    }
    let released = Instant::now();
    let goal = while_held.saturating_add(balloon);
    let mut lag = None;
    while lag.is_none() && released.elapsed() < PATIENCE {
        match free()? >= goal {
            true => lag = Some(released.elapsed()),
            false => thread::sleep(BETWEEN_LOOKS),
        }
    }
    Ok(Trial {
        balloon_bytes: balloon,
        chunk_bytes: CHUNK,
        overhead_bytes: held.map(|held| held.saturating_sub(balloon)),
        context_microseconds: opened.as_micros(),
        chunk_microseconds: (inflated / CHUNKS).as_micros(),
        free_to_visible_microseconds: lag.map(|lag| lag.as_micros()),
    })
}

/// As others see it, who ask NVML; without NVML, as CUDA tells it to this process.
fn free(context: &Context, device: &Device, nvml: Option<&Nvml>) -> Result<ByteSize, CallError> {
    match nvml.and_then(|nvml| nvml.memory(device.uuid).ok()) {
        Some(memory) => Ok(memory.free),
        None => context.memory().map(|memory| memory.free),
    }
}

fn used_by_this_process(nvml: &Nvml, device: &Device) -> Option<ByteSize> {
    let processes = nvml.processes(device.uuid).ok()?;
    let own = processes.into_iter().find(|process| process.pid == std::process::id())?;
    own.used_bytes.map(ByteSize::new)
}
