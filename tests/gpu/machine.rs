//! The machine as it is: its GPUs as NVML shows them, and the program with a runtime directory of its own.

// Shared with the tests on the simulated driver, which need more of it.
#[allow(dead_code, reason = "the tests of the command line use the rest")]
#[path = "../cli/harness/process.rs"]
mod process;

use std::process::Command;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use tempfile::TempDir;

pub use process::{DEADLINE, Ended, Running};

pub const MB: u64 = 1 << 20;
pub const GB: u64 = 1 << 30;

/// What a context costs at most, and the little that the driver takes when it is initialised.
pub const CONTEXT: u64 = 600 * MB;
pub const INITIALISED: u64 = 8 * MB;

/// What a process with a context takes of the device beyond what NVML has on its account, which is what `status` calls
/// its overhead: 8.8 MiB on an H100 with driver 580.159.04.
pub const UNACCOUNTED: u64 = 16 * MB;

/// The driver hands out memory in blocks of this size, and counts a little beside them.
pub const BLOCKS: u64 = 4 * MB;

pub struct Machine {
    nvml: Nvml,
    runtime: TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let nvml = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().expect("this machine has NVML");
        let runtime = tempfile::Builder::new().prefix("gpu-balloon-test-").tempdir().expect("a directory");
        Self { nvml, runtime }
    }

    /// This machine, if it has a second GPU.
    pub fn with_two_gpus() -> Option<Self> {
        let machine = Self::new();
        let count = machine.nvml.device_count().expect("NVML counts");
        (count >= 2 || skip("a second GPU")).then_some(machine)
    }

    /// Bytes that NVML shows as free.
    pub fn free(&self, gpu: u32) -> u64 {
        self.nvml.device_by_index(gpu).and_then(|gpu| gpu.memory_info()).expect("NVML tells").free
    }

    pub fn total(&self, gpu: u32) -> u64 {
        self.nvml.device_by_index(gpu).and_then(|gpu| gpu.memory_info()).expect("NVML tells").total
    }

    /// Whether NVML names a process for memory of the GPU.
    pub fn names(&self, gpu: u32, pid: u32) -> bool {
        let processes = self.nvml.device_by_index(gpu).and_then(|gpu| gpu.running_compute_processes());
        processes.expect("NVML lists").iter().any(|process| process.pid == pid)
    }

    /// Waits until NVML shows as much as free as before, but for the little that the driver may keep. It has no event for
    /// that.
    #[track_caller]
    pub fn wait_for_free(&self, gpu: u32, before: u64) {
        let least = before.saturating_sub(INITIALISED);
        let deadline = Instant::now() + DEADLINE;
        while self.free(gpu) < least {
            assert!(Instant::now() < deadline, "GPU {gpu}: {} free, not {least}", self.free(gpu));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until `status` shows so many balloons, those that wait among them.
    #[track_caller]
    pub fn wait_for_balloons(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.status()["balloons"].as_array().expect("a list").len() != count {
            assert!(Instant::now() < deadline, "not {count} balloons: {}", self.status());
        }
    }

    /// Any command, with this test's runtime directory and all GPUs of the machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            let ours = variable.to_string_lossy().starts_with("GPU_BALLOON_");
            if ours || ["CUDA_VISIBLE_DEVICES", "NOTIFY_SOCKET"].iter().any(|name| variable == *name) {
                command.env_remove(variable);
            }
        }
        command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID").env("XDG_RUNTIME_DIR", self.runtime.path());
        command
    }

    /// `gpu-balloon` with these words as arguments.
    pub fn program(&self, line: &str) -> Command {
        let built = option_env!("CARGO_BIN_EXE_gpu-balloon").unwrap_or("gpu-balloon");
        let program = std::env::var("GPU_TESTS_PROGRAM").unwrap_or_else(|_| built.to_owned());
        let mut command = self.command(&program);
        command.args(line.split_whitespace());
        command
    }

    /// Runs `gpu-balloon` to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ended {
        Running::start(&mut self.program(line)).wait()
    }

    /// Starts `gpu-balloon hold` and returns once it says that it holds, and how many bytes.
    #[track_caller]
    pub fn hold(&self, line: &str) -> (Running, u64) {
        let mut holder = Running::start(&mut self.program(&format!("hold {line}")));
        let ready = holder.line();
        let held = ready.rsplit_once("held=").and_then(|(_, held)| held.parse().ok());
        (holder, held.unwrap_or_else(|| panic!("{ready}")))
    }

    /// What `status --json` says.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let said = self.run("status --json").exits(0);
        serde_json::from_str(&said.stdout).expect("status is JSON")
    }

    /// What a command of somebody else prints; `None` where the machine does not have it.
    pub fn asked(&self, command: &str, arguments: &[&str]) -> Option<String> {
        let said = self.command(command).args(arguments).output();
        let Ok(said) = said else { return skip(command).then(String::new) };
        assert!(said.status.success(), "{command}: {}", String::from_utf8_lossy(&said.stderr));
        Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }
}

/// Fails the test unless the two are within `within` of each other.
#[track_caller]
pub fn assert_near(one: u64, other: u64, within: u64) {
    let apart = one.abs_diff(other);
    assert!(apart <= within, "{one} and {other} are {apart} apart, more than {within}");
}

/// Says what was not tested.
pub fn skip(missing: &str) -> bool {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: it needs {missing}, which this machine lacks");
    false
}
