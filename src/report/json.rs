//! `status --json`: the contract's names, in its order. Sizes are bytes unless the name ends in `_mb`; unknown is null.

use serde::Serialize;

use super::{Balloon, Gpu, Part, Process, Snapshot};
use crate::control::wire::{State, rfc3339};
use crate::units::ByteSize;

/// Raised when a name changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// The snapshot on one line, without a line feed.
pub fn render(snapshot: &Snapshot) -> String {
    let status = Status {
        schema: SCHEMA,
        gpus: snapshot.gpus.iter().map(GpuJson::from).collect(),
        balloons: snapshot.balloons.iter().map(BalloonJson::from).collect(),
    };
    // Fails for maps with strange keys and the like only, of which there are none.
    serde_json::to_string(&status).unwrap_or_default()
}

#[derive(Serialize)]
struct Status<'a> {
    schema: u32,
    gpus: Vec<GpuJson<'a>>,
    balloons: Vec<BalloonJson<'a>>,
}

#[derive(Serialize)]
struct GpuJson<'a> {
    gpu_id: Option<u32>,
    uuid: &'a str,
    pci_bus_id: Option<&'a str>,
    name: Option<&'a str>,
    total_bytes: Option<ByteSize>,
    used_bytes: Option<ByteSize>,
    free_bytes: Option<ByteSize>,
    balloon_bytes: Option<ByteSize>,
    utilization_percent: Option<u32>,
    compute_mode: Option<&'a str>,
    processes: Vec<ProcessJson<'a>>,
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    user: Option<&'a str>,
    command: Option<&'a str>,
    used_bytes: Option<ByteSize>,
}

#[derive(Serialize)]
struct BalloonJson<'a> {
    name: &'a str,
    pid: Option<u32>,
    user: Option<&'a str>,
    command: Option<&'a str>,
    reason: Option<&'a str>,
    state: Option<State>,
    started_at: Option<String>,
    ends_at: Option<String>,
    gpus: Vec<PartJson<'a>>,
}

#[derive(Serialize)]
struct PartJson<'a> {
    gpu_id: Option<u32>,
    uuid: &'a str,
    is_inflated: Option<bool>,
    target_bytes: Option<ByteSize>,
    allocated_bytes: Option<ByteSize>,
    allocated_mb: Option<u64>,
    num_chunks: Option<u64>,
    chunk_size_mb: Option<u64>,
    overhead_bytes: Option<ByteSize>,
    handed_over_bytes: Option<ByteSize>,
    free_memory_mb: Option<u64>,
    total_memory_mb: Option<u64>,
}

impl<'a> From<&'a Gpu> for GpuJson<'a> {
    fn from(gpu: &'a Gpu) -> Self {
        Self {
            gpu_id: gpu.ordinal,
            uuid: &gpu.uuid,
            pci_bus_id: gpu.pci_bus_id.as_deref(),
            name: gpu.name.as_deref(),
            total_bytes: gpu.memory.map(|memory| memory.total),
            used_bytes: gpu.memory.map(|memory| memory.used),
            free_bytes: gpu.memory.map(|memory| memory.free),
            balloon_bytes: gpu.memory.map(|memory| memory.balloons()),
            utilization_percent: gpu.utilization_percent,
            compute_mode: gpu.compute_mode.as_deref(),
            processes: gpu.processes.iter().map(ProcessJson::from).collect(),
        }
    }
}

impl<'a> From<&'a Process> for ProcessJson<'a> {
    fn from(process: &'a Process) -> Self {
        Self {
            pid: process.pid,
            user: process.user.as_deref(),
            command: process.command.as_deref(),
            used_bytes: process.used,
        }
    }
}

impl<'a> From<&'a Balloon> for BalloonJson<'a> {
    fn from(balloon: &'a Balloon) -> Self {
        Self {
            name: &balloon.name,
            pid: balloon.pid,
            user: balloon.user.as_deref(),
            command: balloon.command.as_deref(),
            reason: balloon.reason.as_deref(),
            state: balloon.state,
            started_at: balloon.started_at.and_then(rfc3339),
            ends_at: balloon.ends_at.and_then(rfc3339),
            gpus: balloon.parts.iter().map(PartJson::from).collect(),
        }
    }
}

impl<'a> From<&'a Part> for PartJson<'a> {
    fn from(part: &'a Part) -> Self {
        Self {
            gpu_id: part.ordinal,
            uuid: &part.uuid,
            is_inflated: part.is_inflated,
            target_bytes: part.target,
            allocated_bytes: part.allocated,
            allocated_mb: part.allocated.map(ByteSize::mb),
            num_chunks: part.chunks,
            chunk_size_mb: part.chunk_size.map(ByteSize::mb),
            overhead_bytes: part.overhead,
            handed_over_bytes: part.handed_over,
            free_memory_mb: part.free.map(ByteSize::mb),
            total_memory_mb: part.total.map(ByteSize::mb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{GPU, balloon, gpu, part};
    use super::*;

    #[test]
    fn the_names_are_those_of_the_contract() {
        let snapshot = Snapshot { gpus: vec![gpu()], balloons: vec![balloon("train", vec![part(0)])] };
        let expected = concat!(
            r#"{"schema":1,"gpus":[{"gpu_id":0,"uuid":"GPU-00000000-0000-0000-0000-000000000000","#,
            r#""pci_bus_id":"00000000:65:00.0","name":"NVIDIA H200","total_bytes":150323855360,"#,
            r#""used_bytes":76235669504,"free_bytes":73014444032,"balloon_bytes":42949672960,"utilization_percent":87,"#,
            r#""compute_mode":"Default","processes":[{"pid":4711,"user":"bob","command":"python train.py --lr 3e-4","#,
            r#""used_bytes":32212254720}]}],"#,
            r#""balloons":[{"name":"train","pid":4242,"user":"alice","#,
            r#""command":"gpu-balloon hold --gpu 0 --reserve 40GB","reason":null,"state":"holding","#,
            r#""started_at":"2026-01-01T00:00:00Z","ends_at":null,"gpus":[{"gpu_id":0,"#,
            r#""uuid":"GPU-00000000-0000-0000-0000-000000000000","is_inflated":true,"target_bytes":42949672960,"#,
            r#""allocated_bytes":42949672960,"allocated_mb":40960,"num_chunks":410,"chunk_size_mb":100,"#,
            r#""overhead_bytes":536870912,"handed_over_bytes":0,"free_memory_mb":69632,"total_memory_mb":143360}]}]}"#,
        );
        assert_eq!(render(&snapshot), expected);
        assert!(expected.contains(GPU));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let gpu =
            Gpu { ordinal: None, name: None, memory: None, utilization_percent: None, compute_mode: None, ..gpu() };
        let text = render(&Snapshot { gpus: vec![gpu], balloons: Vec::new() });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let names = ["gpu_id", "name", "total_bytes", "used_bytes", "free_bytes", "balloon_bytes"];
        for name in names.into_iter().chain(["utilization_percent", "compute_mode"]) {
            assert_eq!(value["gpus"][0][name], serde_json::Value::Null, "{name}");
        }
    }

    #[test]
    fn any_name_and_reason_stays_one_line() {
        let reason = Some("two\nlines \"and\" \u{1b}[31m".to_owned());
        let text =
            render(&Snapshot { gpus: Vec::new(), balloons: vec![Balloon { reason, ..balloon("x", Vec::new()) }] });
        assert!(text.contains(r#""reason":"two\nlines \"and\" \u001b[31m""#), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
