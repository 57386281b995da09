use std::time::{Duration, SystemTime};

use super::*;
use crate::report::{Balloon, Glyphs, Gpu, GpuMemory, Look, Part, Process, Snapshot};

pub const GPU: &str = "GPU-00000000-0000-0000-0000-000000000000";

const GB: u64 = 1 << 30;

fn gb(size: u64) -> ByteSize {
    ByteSize::new(size * GB)
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// 40 GB of balloon, 30 GB of bob's, and some that nobody shows.
pub fn gpu() -> Gpu {
    Gpu {
        ordinal: Some(0),
        index: Some(0),
        uuid: GPU.to_owned(),
        pci_bus_id: Some("00000000:65:00.0".to_owned()),
        name: Some("NVIDIA H200".to_owned()),
        memory: Some(GpuMemory {
            total: gb(140),
            used: gb(71),
            free: gb(68),
            own_balloons: gb(40),
            overhead: ByteSize::new(GB / 2),
            ..GpuMemory::default()
        }),
        utilization_percent: Some(87),
        compute_mode: Some("Default".to_owned()),
        processes: vec![process(4711, "bob", "python train.py --lr 3e-4", 30)],
    }
}

fn process(pid: u32, user: &str, command: &str, used: u64) -> Process {
    Process {
        pid,
        user: Some(user.to_owned()),
        command: Some(command.to_owned()),
        used: Some(gb(used)),
        is_own: user == "alice",
    }
}

pub fn part(ordinal: u32) -> Part {
    Part {
        ordinal: Some(ordinal),
        uuid: GPU.to_owned(),
        is_inflated: Some(true),
        target: Some(gb(40)),
        allocated: Some(gb(40)),
        chunks: Some(410),
        chunk_size: Some(ByteSize::new(100 << 20)),
        overhead: Some(ByteSize::new(GB / 2)),
        handed_over: Some(ByteSize::ZERO),
        borrowers: Vec::new(),
        free: Some(gb(68)),
        total: Some(gb(140)),
    }
}

pub fn balloon(name: &str, parts: Vec<Part>) -> Balloon {
    Balloon {
        name: name.to_owned(),
        pid: Some(4242),
        user: Some("alice".to_owned()),
        command: Some("gpu-balloon hold --gpu 0 --reserve 40GB".to_owned()),
        reason: None,
        state: Some(State::Holding),
        place_in_line: None,
        started_at: Some(start()),
        ends_at: None,
        log: None,
        parts,
        is_own: true,
    }
}

fn shown(snapshot: &Snapshot, columns: usize) -> String {
    let look = Look { columns: Some(columns), glyphs: Glyphs::Unicode, colour: false };
    let text = render(snapshot, look, start() + Duration::from_secs(2 * 3600 + 10 * 60 + 5));
    for line in text.lines() {
        assert!(line.width() <= columns, "{} columns: {line}", line.width());
        assert_eq!(line.trim_end(), line, "no blanks at the end");
    }
    format!("\n{text}")
}

fn busy() -> Snapshot {
    let memory = GpuMemory {
        used: gb(90),
        free: gb(49),
        own_processes: gb(5),
        foreign_balloons: gb(10),
        ..gpu().memory.unwrap()
    };
    let processes = vec![process(990, "alice", "jupyter-lab", 5), gpu().processes.remove(0)];
    let shared = Gpu { memory: Some(memory), processes, ..gpu() };
    let hidden = Gpu { ordinal: None, index: Some(1), processes: Vec::new(), memory: Some(idle()), ..gpu() };
    let hidden = Gpu { utilization_percent: Some(0), ..hidden };
    let reason = Some("nightly run of the large model".to_owned());
    let ends_at = Some(start() + Duration::from_secs(3 * 3600));
    let own = Balloon { reason, ends_at, ..balloon("train", vec![part(0)]) };
    Snapshot { gpus: vec![shared, hidden], balloons: vec![own] }
}

fn idle() -> GpuMemory {
    GpuMemory { total: gb(140), free: gb(139), ..GpuMemory::default() }
}

#[test]
fn a_common_terminal() {
    let expected = "
GPU 0  NVIDIA H200  90.0 GB of 140.0 GB used  87 % busy
  ●●●●●●●●●●●●●●●●●●●●●●○○○○○○██▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒···························
  ● your balloons 40.0 GB  + 512.0 MB overhead  ○ others' balloons 10.0 GB
  █ your processes 5.0 GB  ▒ others 34.5 GB  · free 49.0 GB
  ▒ pid 4711  bob      30.0 GB  python train.py --lr 3e-4
  █ pid  990  alice     5.0 GB  jupyter-lab
  ▒ 4.5 GB  of processes that are not shown to you

GPU -  NVIDIA H200  0 B of 140.0 GB used  0 % busy  hidden here (nvidia-smi: 1)
  ············································································
  · free 139.0 GB

● train  holding  pid 4242  alice  started 2h 10m ago  ends in 49m 55s
  GPU 0  40.0 GB of 40.0 GB held  410 chunks of 100.0 MB  512.0 MB overhead
  reason  nightly run of the large model
  command  gpu-balloon hold --gpu 0 --reserve 40GB
";
    assert_eq!(shown(&busy(), 80), expected);
}

#[test]
fn a_narrow_terminal() {
    let expected = "
GPU 0  NVIDIA H200
       90.0 GB of 140.0 GB used
       87 % busy
  ●●●●●●●●●●○○○█▒▒▒▒▒▒▒▒▒·············
  ● your balloons 40.0 GB
  + 512.0 MB overhead
  ○ others' balloons 10.0 GB
  █ your processes 5.0 GB
  ▒ others 34.5 GB  · free 49.0 GB
  ▒ pid 4711  bob      30.0 GB  python …
  █ pid  990  alice     5.0 GB  jupyter…
  ▒ 4.5 GB  of processes that are not s…

GPU -  NVIDIA H200  0 B of 140.0 GB used
       0 % busy
       hidden here (nvidia-smi: 1)
  ····································
  · free 139.0 GB

● train  holding  pid 4242  alice
    started 2h 10m ago  ends in 49m 55s
  GPU 0  40.0 GB of 40.0 GB held
    410 chunks of 100.0 MB
    512.0 MB overhead
  reason  nightly run of the large model
  command  gpu-balloon hold --gpu 0 --r…
";
    assert_eq!(shown(&busy(), 40), expected);
}

#[test]
fn a_wide_terminal() {
    let expected = "
GPU 0  NVIDIA H200  90.0 GB of 140.0 GB used  87 % busy
  ●●●●●●●●●●●●●●●●●●●●●●●●●●●●●○○○○○○○████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒···································
  ● your balloons 40.0 GB  + 512.0 MB overhead  ○ others' balloons 10.0 GB  █ your processes 5.0 GB  ▒ others 34.5 GB  · free 49.0 GB
  ▒ pid 4711  bob      30.0 GB  python train.py --lr 3e-4
  █ pid  990  alice     5.0 GB  jupyter-lab
  ▒ 4.5 GB  of processes that are not shown to you

GPU -  NVIDIA H200  0 B of 140.0 GB used  0 % busy  hidden here (nvidia-smi: 1)
  ····································································································
  · free 139.0 GB

● train  holding  pid 4242  alice  started 2h 10m ago  ends in 49m 55s
  GPU 0  40.0 GB of 40.0 GB held  410 chunks of 100.0 MB  512.0 MB overhead
  reason  nightly run of the large model
  command  gpu-balloon hold --gpu 0 --reserve 40GB
";
    assert_eq!(shown(&busy(), 200), expected);
}

#[test]
fn balloons_in_every_state() {
    let growing =
        Part { allocated: Some(gb(10)), chunks: Some(1), handed_over: Some(gb(15)), overhead: None, ..part(1) };
    let empty = Part { allocated: Some(ByteSize::ZERO), chunks: Some(0), overhead: None, ..part(12) };
    let silent = Part { target: None, chunks: None, chunk_size: None, overhead: None, handed_over: None, ..part(0) };
    let unknown = Part { allocated: None, ..silent.clone() };
    let log = Some("/run/user/1000/gpu-balloon/late.log".to_owned());
    let late = Some(start());
    let foreign =
        Balloon { is_own: false, user: Some("bob".to_owned()), state: None, ..balloon("900", vec![silent.clone()]) };
    let balloons = vec![
        Balloon { state: Some(State::Inflating), ..balloon("grows", vec![part(0), growing]) },
        Balloon { state: Some(State::Waiting), place_in_line: Some(2), ..balloon("waits", vec![empty]) },
        Balloon { state: Some(State::Deflating), ends_at: late, log, ..balloon("late", Vec::new()) },
        Balloon { state: Some(State::Unresponsive), started_at: None, ..balloon("stopped", vec![unknown]) },
        foreign,
    ];
    let expected = "
● grows  inflating  pid 4242  alice  started 2h 10m ago
  GPU 0  40.0 GB of 40.0 GB held  410 chunks of 100.0 MB  512.0 MB overhead
  GPU 1  10.0 GB of 40.0 GB held  1 chunk of 100.0 MB  15.0 GB handed over
  command  gpu-balloon hold --gpu 0 --reserve 40GB

● waits  waiting, place 2 in line  pid 4242  alice  started 2h 10m ago
  GPU 12  0 B of 40.0 GB held
  command  gpu-balloon hold --gpu 0 --reserve 40GB

● late  deflating  pid 4242  alice  started 2h 10m ago  ends now
  command  gpu-balloon hold --gpu 0 --reserve 40GB
  log  /run/user/1000/gpu-balloon/late.log

● stopped  does not answer  pid 4242  alice
  GPU 0  size not known
  command  gpu-balloon hold --gpu 0 --reserve 40GB

○ 900  state not known  pid 4242  bob  started 2h 10m ago
  GPU 0  40.0 GB held
  command  gpu-balloon hold --gpu 0 --reserve 40GB
";
    assert_eq!(shown(&Snapshot { gpus: Vec::new(), balloons }, 80), expected);
}

#[test]
fn a_gpu_that_tells_nothing_and_no_balloon() {
    let dumb =
        Gpu { name: None, memory: None, utilization_percent: None, compute_mode: None, processes: Vec::new(), ..gpu() };
    let prohibited =
        Gpu { compute_mode: Some("Prohibited".to_owned()), ordinal: Some(1), memory: Some(idle()), ..dumb.clone() };
    let expected = "
GPU 0  GPU-00000000-0000-0000-0000-000000000000  memory not known

GPU 1  GPU-00000000-0000-0000-0000-000000000000  0 B of 140.0 GB used
       nvidia-smi: 0  Prohibited mode
  ············································································
  · free 139.0 GB

no balloons
";
    assert_eq!(shown(&Snapshot { gpus: vec![dumb, prohibited], balloons: Vec::new() }, 80), expected);
}

#[test]
fn without_unicode_and_without_a_terminal() {
    let look = Look { columns: None, glyphs: Glyphs::Ascii, colour: false };
    let command = format!("python {}", "x".repeat(200));
    let gpu = Gpu { processes: vec![process(1, "bob", &command, 30)], ..gpu() };
    let text = render(&Snapshot { gpus: vec![gpu], balloons: vec![balloon("train", Vec::new())] }, look, start());
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains(&command), "nothing is cut off");
    assert!(text.contains(&format!("  {}{}{}\n", "o".repeat(22), "=".repeat(17), ".".repeat(37))), "{text}");
}

#[test]
fn no_string_of_another_user_harms_the_terminal() {
    let hostile = "\u{1b}[2J\u{9b}31m\u{7}a\nb\u{202e}";
    let mut gpu = Gpu { name: Some(hostile.to_owned()), processes: vec![process(1, hostile, hostile, 1)], ..gpu() };
    gpu.compute_mode = None;
    let reason = Some(hostile.to_owned());
    let snapshot = Snapshot { gpus: vec![gpu], balloons: vec![Balloon { reason, ..balloon(hostile, Vec::new()) }] };
    let text = shown(&snapshot, 80);
    let harmful = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(!text.contains(harmful), "{text:?}");
}

#[test]
fn colours_only_add_escapes() {
    let look = Look { columns: Some(80), glyphs: Glyphs::Unicode, colour: true };
    let text = render(&busy(), look, start());
    assert!(text.contains("\u{1b}[32m●●●"), "own balloons are green");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain += before;
        rest = after.split_once('m').unwrap().1;
    }
    assert_eq!(plain + rest, render(&busy(), Look { colour: false, ..look }, start()));
}

#[test]
fn every_line_fits_every_terminal() {
    for columns in 12..250 {
        shown(&busy(), columns);
    }
}

#[test]
fn spans_have_two_units() {
    let table = [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_725, "1h 2m"), (86_399, "23h 59m"), (273_600, "3d 4h")];
    for (seconds, expected) in table {
        assert_eq!(span(Duration::from_secs(seconds)), expected);
    }
}
