//! `status`: what it shows of GPUs, balloons and others, and that nobody can make it wait or fail.

mod contract;
mod peers;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gpu_sim::{ComputeMode, Family, GB, MB};
use rustix::process::Signal;

use crate::harness::{Machine, PROGRAM, Running};
use contract::Status;

/// What a context costs on the simulated GPUs.
const CONTEXT: u64 = 500 * MB;

fn status(machine: &Machine, arguments: &str) -> Status {
    Status::read(&machine.run(&format!("status --json {arguments}")).exits(0).stdout)
}

/// Starts a hold that `status` cannot tell from any other process, because its program has another name.
fn other_program(machine: &Machine, reserve: &str) -> Running {
    let program = machine.runtime().join("train.py");
    symlink(PROGRAM, &program).unwrap();
    let mut command = machine.command(program.to_str().unwrap());
    command.args(["hold", "--reserve", reserve]).env("XDG_RUNTIME_DIR", elsewhere(machine));
    let mut other = Running::start(&mut command);
    assert!(other.line().starts_with("ready "));
    other
}

/// Another runtime directory, as another user has.
fn elsewhere(machine: &Machine) -> std::path::PathBuf {
    let directory = machine.runtime().join("elsewhere");
    let _ = std::fs::create_dir(&directory);
    directory
}

#[test]
fn gpus_are_shown_as_nvidia_smi_shows_them() {
    let machine = Machine::with(|builder| {
        let builder = builder.memory_each([24 * GB, 40 * GB]).reserved(400 * MB).utilization_each([7, 93]);
        builder.name_each(["One".to_owned(), "Two".to_owned()]).compute_mode_each([ComputeMode::Default])
    });
    machine.set_compute_mode(1, ComputeMode::Prohibited);
    let status = status(&machine, "");
    assert_eq!((status.schema, status.balloons.len()), (1, 0));
    let [first, second] = &status.gpus[..] else { panic!("{status:?}") };
    assert_eq!((first.gpu_id, first.name.as_deref()), (Some(0), Some("One")));
    assert_eq!((first.total_bytes, first.used_bytes, first.free_bytes), (24 * GB, 0, 24 * GB - 400 * MB));
    assert_eq!((first.utilization_percent, first.compute_mode.as_deref()), (Some(7), Some("Default")));
    assert_eq!((second.gpu_id, second.name.as_deref(), second.total_bytes), (Some(1), Some("Two"), 40 * GB));
    assert_eq!((second.utilization_percent, second.compute_mode.as_deref()), (Some(93), Some("Prohibited")));
    assert!(first.uuid.starts_with("GPU-") && first.uuid != second.uuid);
    assert!(first.pci_bus_id < second.pci_bus_id, "in the order of the bus");
}

#[test]
fn a_balloon_is_shown_with_all_that_is_known_of_it() {
    let machine = Machine::new();
    let mut command =
        machine.program("hold --gpu 0,1 --reserve 2GB --name train --timeout 2h --chunk-size 1GB --reason");
    let mut holder = Running::start(command.arg("nightly run"));
    holder.line();
    let status = status(&machine, "");
    let [balloon] = &status.balloons[..] else { panic!("{status:?}") };
    assert_eq!((balloon.name.as_str(), balloon.pid), ("train", Some(holder.pid())));
    assert_eq!((balloon.state.as_deref(), balloon.reason.as_deref()), (Some("holding"), Some("nightly run")));
    assert!(balloon.command.as_ref().is_some_and(|command| command.contains("hold --gpu 0,1")));
    assert!(balloon.user.as_ref().is_some_and(|user| !user.is_empty()));
    let seconds = |time: &Option<String>| humantime::parse_rfc3339(time.as_deref().unwrap()).unwrap();
    let lasts = seconds(&balloon.ends_at).duration_since(seconds(&balloon.started_at)).unwrap();
    assert!((7200..7260).contains(&lasts.as_secs()), "{lasts:?}");
    for (part, gpu) in balloon.gpus.iter().zip(&status.gpus) {
        assert_eq!((part.gpu_id, &part.uuid, part.is_inflated), (gpu.gpu_id, &gpu.uuid, Some(true)));
        assert_eq!((part.target_bytes, part.allocated_bytes), (Some(2 * GB), Some(2 * GB)));
        assert_eq!((part.allocated_mb, part.num_chunks, part.chunk_size_mb), (Some(2048), Some(2), Some(1024)));
        assert_eq!((part.overhead_bytes, part.handed_over_bytes), (Some(CONTEXT), Some(0)));
        assert_eq!(part.total_memory_mb, Some(24 * 1024));
        assert_eq!(part.free_memory_mb, Some((22 * GB - CONTEXT) / MB));
        assert_eq!((gpu.used_bytes, gpu.balloon_bytes), (2 * GB + CONTEXT, 2 * GB));
        assert!(gpu.processes.is_empty(), "a holder is not among the rest: {gpu:?}");
    }
}

#[test]
fn who_holds_the_rest_is_named() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 2GB");
    let other = other_program(&machine, "3GB");
    let status = status(&machine, "--gpu 0");
    let [process] = &status.gpus[0].processes[..] else { panic!("{status:?}") };
    assert_eq!((process.pid, process.used_bytes), (other.pid(), Some(3 * GB + CONTEXT)));
    assert!(process.command.as_ref().is_some_and(|command| command.ends_with("train.py hold --reserve 3GB")));
    assert!(process.user.as_ref().is_some_and(|user| !user.is_empty()));
}

#[test]
fn a_holder_of_another_registry_is_shown_as_far_as_the_driver_does() {
    let machine = Machine::new();
    let mut command = machine.program("hold --gpu 0,1 --reserve 1GB --name theirs");
    let mut stranger = Running::start(command.env("XDG_RUNTIME_DIR", elsewhere(&machine)));
    stranger.line();
    let pid = stranger.pid();
    for arguments in ["".to_owned(), pid.to_string()] {
        let status = status(&machine, &arguments);
        let [balloon] = &status.balloons[..] else { panic!("{status:?}") };
        assert_eq!((balloon.name.clone(), balloon.pid, balloon.state.clone()), (pid.to_string(), Some(pid), None));
        assert!(balloon.started_at.is_some() && balloon.command.is_some());
        let sizes: Vec<_> = balloon.gpus.iter().map(|part| (part.allocated_bytes, part.target_bytes)).collect();
        assert_eq!(sizes, [(Some(GB + CONTEXT), None); 2]);
        assert_eq!(status.gpus[0].balloon_bytes, GB + CONTEXT);
        assert!(status.gpus[0].processes.is_empty());
    }
}

#[test]
fn it_takes_no_device_memory_and_needs_no_cuda() {
    let machine = Machine::with(|builder| builder.without_cuda());
    let status = status(&machine, "");
    assert_eq!(status.gpus.len(), 2);
    for gpu in [0, 1] {
        assert_eq!((machine.peak(gpu), machine.processes(gpu)), (0, std::collections::BTreeMap::new()));
    }
}

#[test]
fn ordinals_are_those_of_cuda_visible_devices() {
    let machine = Machine::with(|builder| builder.gpus(3));
    let _holder = machine.hold("--gpu 2 --reserve 1GB --name train");
    let mut command = machine.program("status --json");
    let said = Running::start(command.env("CUDA_VISIBLE_DEVICES", "2,0")).wait().exits(0);
    let status = Status::read(&said.stdout);
    let ordinals: Vec<_> = status.gpus.iter().map(|gpu| gpu.gpu_id).collect();
    assert_eq!(ordinals, [Some(1), None, Some(0)], "shown in the order of the bus, hidden ones too");
    assert_eq!(status.balloons[0].gpus[0].gpu_id, Some(0));
    let mut command = machine.program("status --json --gpu 0");
    let said = Running::start(command.env("CUDA_VISIBLE_DEVICES", "2,0")).wait().exits(0);
    let only = Status::read(&said.stdout);
    assert_eq!(only.gpus.iter().map(|gpu| &gpu.uuid).collect::<Vec<_>>(), [&status.gpus[2].uuid]);
}

#[test]
fn a_gpu_or_a_balloon_alone() {
    let machine = Machine::new();
    let _both = machine.hold("--gpu 0,1 --reserve 1GB --name both");
    let one = machine.hold("--gpu 1 --reserve 1GB --name one");
    let shown = |arguments: &str| {
        let status = status(&machine, arguments);
        let gpus: Vec<_> = status.gpus.iter().filter_map(|gpu| gpu.gpu_id).collect();
        let parts =
            |balloon: &contract::Balloon| balloon.gpus.iter().filter_map(|part| part.gpu_id).collect::<Vec<_>>();
        (gpus, status.balloons.iter().map(|balloon| (balloon.name.clone(), parts(balloon))).collect::<Vec<_>>())
    };
    let both = || ("both".to_owned(), vec![0, 1]);
    let named_one = || ("one".to_owned(), vec![1]);
    assert_eq!(shown(""), (vec![0, 1], vec![both(), named_one()]));
    assert_eq!(shown("--gpu 0"), (vec![0], vec![("both".to_owned(), vec![0])]));
    for name in ["one", "on", &one.pid().to_string()] {
        assert_eq!(shown(name), (vec![1], vec![named_one()]));
    }
    assert_eq!(shown("both --gpu 1"), (vec![1], vec![("both".to_owned(), vec![1])]));
    machine.run("status nobody").exits(5).says(&["no balloon is named `nobody`", "hint:"]);
    machine.run("status --gpu 7").exits(2).says(&["GPU 7", "visible are 0,1"]);
}

#[test]
fn an_inflation_can_be_watched() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(20)));
    let _holder = Running::start(&mut machine.program("hold --reserve 20GB --name slow"));
    machine.wait_for("the first chunks", |machine| machine.used(0) > CONTEXT + 200 * MB);
    let status = status(&machine, "slow");
    let (balloon, part) = (&status.balloons[0], &status.balloons[0].gpus[0]);
    assert_eq!((balloon.state.as_deref(), part.is_inflated), (Some("inflating"), Some(false)));
    assert!((1..20 * GB).contains(&part.allocated_bytes.unwrap()), "{part:?}");
    assert_eq!(part.target_bytes, Some(20 * GB));
}

#[test]
fn without_nvml_balloons_are_shown_all_the_same() {
    let machine = Machine::with(|builder| builder.without_nvml());
    machine.run("status").exits(4).says(&["no usable driver or GPU", "libnvidia-ml.so.1", "hint:"]);
    let _holder = machine.hold("--reserve 1GB --name train");
    let said = machine.run("status --json").exits(0).says(&["the GPUs are not shown"]);
    let status = Status::read(&said.stdout);
    let part = &status.balloons[0].gpus[0];
    assert_eq!((status.gpus.len(), part.allocated_bytes, part.overhead_bytes), (0, Some(GB), None));
}

#[test]
fn a_driver_before_510_is_understood() {
    let symbols = ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3"];
    let machine = Machine::with(|builder| symbols.into_iter().fold(builder, |b, symbol| b.without_symbol(symbol)));
    let _holder = machine.hold("--reserve 1GB --name train");
    let status = status(&machine, "");
    assert_eq!((status.gpus[0].total_bytes, status.gpus[0].used_bytes), (24 * GB, GB + CONTEXT));
    assert_eq!(status.balloons[0].gpus[0].overhead_bytes, Some(CONTEXT));
}

#[test]
fn a_lost_gpu_does_not_hide_the_others() {
    let machine = Machine::new();
    machine.lose_gpu(0, gpu_sim::UNKNOWN_ERROR);
    let said = machine.run("status --json").exits(0).says(&["GPU 0 is not shown", "NVML_ERROR_GPU_IS_LOST"]);
    assert_eq!(Status::read(&said.stdout).gpus.len(), 1);
}

#[test]
fn text_in_a_pipe_has_no_escapes() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 6GB --name train");
    let mut command = machine.program("status");
    command.env("LC_ALL", "C.UTF-8").env_remove("TERM");
    let text = Running::start(&mut command).wait().exits(0).stdout;
    let bar = format!("  {}{}\n", "●".repeat(21), "·".repeat(55));
    for piece in ["GPU 0", "6.5 GB of 24.0 GB used", &bar, "● train", "6.0 GB of 6.0 GB held", "62 chunks of 100.0 MB"]
    {
        assert!(text.contains(piece), "no `{piece}` in:\n{text}");
    }
    assert!(text.contains(&format!("pid {}", holder.pid())) && !text.contains('\u{1b}'), "{text}");
    let mut command = machine.program("status");
    let text = Running::start(command.env("LC_ALL", "C")).wait().exits(0).stdout;
    assert!(text.is_ascii() && text.contains(&"o".repeat(21)), "{text}");
}

#[test]
fn a_full_disk_is_a_failure_that_is_told() {
    let machine = Machine::new();
    let mut command = machine.command("sh");
    command.args(["-c", &format!("exec {PROGRAM} status > /dev/full")]);
    Running::start(&mut command).wait().exits(1).says(&["cannot write to standard output"]);
}

#[test]
fn colours_only_where_they_are_welcome() {
    let machine = Machine::new();
    let on_a_terminal = |variables: &[(&str, &str)]| {
        let mut command = machine.command("script");
        command.args(["-qec", &format!("stty cols 60; exec {PROGRAM} status"), "/dev/null"]);
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").envs(variables.iter().copied());
        Running::start(&mut command).wait().exits(0).stdout
    };
    let coloured = on_a_terminal(&[]);
    assert!(coloured.contains("\u{1b}[1mGPU 0\u{1b}[0m"), "{coloured:?}");
    assert!(coloured.contains(&format!("  \u{1b}[2m{}\u{1b}[0m", "·".repeat(56))), "as wide as it is: {coloured:?}");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_a_terminal(&[variable]);
        assert!(plain.contains("GPU 0") && !plain.contains('\u{1b}'), "{variable:?}: {plain:?}");
    }
}

#[test]
fn watching_goes_on_until_a_signal() {
    let machine = Machine::new();
    let mut watch = Running::start(&mut machine.program("status --json --watch=10ms"));
    assert_eq!(Status::read(&watch.line()).balloons.len(), 0);
    let _holder = machine.hold("--reserve 1GB");
    let start = Instant::now();
    while Status::read(&watch.line()).balloons.is_empty() {
        assert!(start.elapsed() < crate::harness::DEADLINE, "the balloon does not appear");
    }
    watch.signal(Signal::INT);
    watch.wait().exits(0);
}

#[test]
fn watching_on_a_terminal_redraws_in_place_and_gives_the_cursor_back() {
    let machine = Machine::new();
    let mut command = machine.command("script");
    command.args(["-qec", &format!("exec {PROGRAM} status --watch=20ms"), "/dev/null"]).env("TERM", "xterm");
    let mut terminal = Running::start(&mut command);
    let first = terminal.line();
    assert!(first.starts_with("\u{1b}[?25l\u{1b}[H"), "{first:?}");
    while !terminal.line().starts_with("\u{1b}[J\u{1b}[H") {}
    let pid = terminal.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let watch = children.trim().parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(watch, Signal::INT).unwrap();
    let said = terminal.wait().exits(0).stdout;
    assert!(said.trim_end().ends_with("\u{1b}[J\u{1b}[?25h"), "{said:?}");
}

#[test]
fn watching_may_be_slower_than_time_goes_on() {
    let machine = Machine::new();
    for interval in ["18446744073709551615", "9000000000000000000", "100000000years"] {
        let mut watch = Running::start(&mut machine.program(&format!("status --json --watch={interval}")));
        assert!(Status::read(&watch.line()).balloons.is_empty());
        assert!(watch.is_silent());
        watch.signal(Signal::INT);
        watch.wait().exits(0);
    }
}

#[test]
fn watching_on_a_dumb_terminal_writes_nothing_over() {
    let machine = Machine::new();
    let mut command = machine.command("script");
    command.args(["-qec", &format!("exec {PROGRAM} status --watch=20ms"), "/dev/null"]).env("TERM", "dumb");
    let mut terminal = Running::start(&mut command);
    let mut said = String::new();
    while said.matches("GPU 1").count() < 2 {
        said += &terminal.line();
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn watching_ends_quietly_when_nobody_reads() {
    let machine = Machine::new();
    let mut command = machine.program("status --watch=10ms --json");
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let ended = watch.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn however_long_its_command_and_reason_a_balloon_is_shown_and_managed() {
    let machine = Machine::new();
    let words = "\u{7}".repeat(100_000);
    let mut command = machine.program("hold --reserve 1GB --name wordy --reason");
    let mut holder = Running::start(command.arg(&words));
    holder.line();
    let status = status(&machine, "wordy");
    let balloon = &status.balloons[0];
    assert_eq!(balloon.state.as_deref(), Some("holding"));
    assert!(balloon.reason.as_ref().is_some_and(|reason| reason.ends_with("...") && reason.len() > 4000));
    machine.run("resize wordy 2GB").exits(0);
    machine.run("release wordy").exits(0);
    holder.wait().exits(0);
}

#[test]
fn where_no_gpu_is_visible_none_can_be_chosen() {
    let machine = Machine::new();
    let mut command = machine.program("status --gpu 0");
    let said = Running::start(command.env("CUDA_VISIBLE_DEVICES", "")).wait().exits(4);
    said.says(&["no usable driver or GPU: no GPU is visible", "hint: CUDA_VISIBLE_DEVICES"]);
}
