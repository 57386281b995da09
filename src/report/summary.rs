//! `run --summary`: what the job had of each GPU, and the reservation that would have been right.

use std::fmt::Write as _;

use serde::Serialize;

use crate::units::ByteSize;

/// Raised when a name changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// What a job came to.
pub struct Summary {
    pub command: String,
    pub gpus: Vec<Gpu>,
}

/// What it had of one GPU.
pub struct Gpu {
    pub ordinal: u32,
    pub uuid: String,
    pub reserved: ByteSize,
    /// The most it had at one time, contexts and code included where NVML tells; `None` where nobody looked.
    pub peak: Option<ByteSize>,
    /// Whether a context is counted in the peak at a typical size.
    pub is_estimated: bool,
    /// The most it had at one time out of the reservation.
    pub handed_over: ByteSize,
    /// How often the driver was out of memory and the balloon gave way.
    pub retries: u64,
}

impl Gpu {
    /// The least that would have been enough, in whole megabytes; `None` for a job that did not use the GPU, or was not
    /// watched.
    fn right_size(&self) -> Option<ByteSize> {
        self.peak?.round_up(ByteSize::new(2 << 20)).filter(|size| !size.is_zero())
    }
}

impl Summary {
    /// The value for `--reserve`, if the job used every GPU.
    fn right_reservation(&self) -> Option<String> {
        let sizes: Option<Vec<ByteSize>> = self.gpus.iter().map(Gpu::right_size).collect();
        let mut sizes = sizes?;
        // One size serves every GPU; of different ones there must be one for each.
        if sizes.windows(2).all(|pair| pair[0] == pair[1]) {
            sizes.truncate(1);
        }
        Some(sizes.iter().map(|size| size.exact()).collect::<Vec<_>>().join(",")).filter(|text| !text.is_empty())
    }
}

/// For people, several lines.
pub fn text(summary: &Summary) -> String {
    let mut text = format!("gpu-balloon: summary of {}\n", summary.command);
    for gpu in &summary.gpus {
        let Gpu { ordinal, reserved, peak, is_estimated, handed_over, retries, .. } = gpu;
        let about = if *is_estimated { "about " } else { "" };
        let peak = peak.map_or("not known".to_owned(), |peak| format!("{about}{peak}"));
        let _ = write!(text, "  GPU {ordinal}: peak {peak} of {reserved} reserved, {handed_over} handed over");
        let _ = writeln!(text, ", out of memory and retried {retries} times");
    }
    match summary.right_reservation() {
        Some(reservation) => _ = writeln!(text, "  right next time: --reserve {reservation}"),
        None if summary.gpus.iter().any(|gpu| gpu.peak.is_none()) => {}
        None => text.push_str("  not every GPU was used\n"),
    }
    text
}

/// For programs, one line.
pub fn json(summary: &Summary) -> String {
    let gpus = summary.gpus.iter().map(|gpu| GpuJson {
        gpu_id: gpu.ordinal,
        uuid: &gpu.uuid,
        reserved_bytes: gpu.reserved.bytes(),
        peak_bytes: gpu.peak.map(ByteSize::bytes),
        is_estimated: gpu.is_estimated,
        handed_over_bytes: gpu.handed_over.bytes(),
        out_of_memory_retries: gpu.retries,
        right_reserve_bytes: gpu.right_size().map(ByteSize::bytes),
    });
    let json = SummaryJson {
        schema: SCHEMA,
        command: &summary.command,
        gpus: gpus.collect(),
        right_reserve: summary.right_reservation(),
    };
    // Fails for maps with strange keys and the like only, of which there are none.
    serde_json::to_string(&json).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    schema: u32,
    command: &'a str,
    gpus: Vec<GpuJson<'a>>,
    right_reserve: Option<String>,
}

#[derive(Serialize)]
struct GpuJson<'a> {
    gpu_id: u32,
    uuid: &'a str,
    reserved_bytes: u64,
    peak_bytes: Option<u64>,
    is_estimated: bool,
    handed_over_bytes: u64,
    out_of_memory_retries: u64,
    right_reserve_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(ordinal: u32, peak: u64) -> Gpu {
        Gpu {
            ordinal,
            uuid: format!("GPU-{ordinal}"),
            reserved: ByteSize::new(16 << 30),
            peak: Some(ByteSize::new(peak)),
            is_estimated: false,
            handed_over: ByteSize::new(peak),
            retries: 3,
        }
    }

    fn summary(gpus: Vec<Gpu>) -> Summary {
        Summary { command: "python train.py".to_owned(), gpus }
    }

    #[test]
    fn the_right_reservation_is_the_peak_in_whole_pages() {
        let of =
            |peaks: &[u64]| summary((0..).zip(peaks).map(|(at, peak)| gpu(at, *peak)).collect()).right_reservation();
        assert_eq!(of(&[(11 << 30) + 1]).as_deref(), Some("11266MB"));
        assert_eq!(of(&[4 << 30, 4 << 30]).as_deref(), Some("4GB"));
        assert_eq!(of(&[4 << 30, 2 << 30]).as_deref(), Some("4GB,2GB"));
        assert_eq!(of(&[4 << 30, 4 << 30, 2 << 30]).as_deref(), Some("4GB,4GB,2GB"));
        assert_eq!(of(&[4 << 30, 0]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_text_tells_everything() {
        assert_eq!(
            text(&summary(vec![gpu(0, 3 << 30)])),
            "gpu-balloon: summary of python train.py\n  GPU 0: peak 3.0 GB of 16.0 GB reserved, 3.0 GB handed over, out \
             of memory and retried 3 times\n  right next time: --reserve 3GB\n"
        );
    }

    #[test]
    fn the_json_is_in_bytes() {
        assert_eq!(
            json(&summary(vec![gpu(1, 0)])),
            "{\"schema\":1,\"command\":\"python train.py\",\"gpus\":[{\"gpu_id\":1,\"uuid\":\"GPU-1\",\"reserved_bytes\":\
             17179869184,\"peak_bytes\":0,\"is_estimated\":false,\"handed_over_bytes\":0,\"out_of_memory_retries\":3,\"right_reserve_bytes\":null\
             }],\"right_reserve\":null}\n"
        );
    }
}
