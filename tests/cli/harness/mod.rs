//! What the tests stand on: a machine of simulated GPUs with a runtime directory of its own, and the program on it.

mod background;
mod compiler;
mod dispositions;
mod holders;
mod job;
mod process;
mod session;
mod terminal;
mod users;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpu_sim::{Builder, Sandbox};
use tempfile::TempDir;

pub use background::Background;
pub use compiler::compile;
pub use holders::CONTEXT;
pub use job::pid_of;
pub use process::{DEADLINE, Ended, Running};
pub use session::Session;
pub use terminal::Terminal;
pub use users::{NOBODY, skipped, unprivileged};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-balloon");

/// A simulated machine, on which nothing of the machine that the tests run on is seen.
pub struct Machine {
    sandbox: Sandbox,
    runtime: TempDir,
}

impl Machine {
    /// Two GPUs of 24 GB each.
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        dispositions::heed_signals();
        let runtime = tempfile::Builder::new().prefix("gpu-balloon-test-").tempdir().expect("a directory");
        Self { sandbox: configure(Sandbox::builder()).build(), runtime }
    }

    /// `$XDG_RUNTIME_DIR` of the programs on it, which is `$TMPDIR` and `$HOME` too.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// Where holders are registered.
    pub fn registry(&self) -> PathBuf {
        self.runtime().join("gpu-balloon")
    }

    /// The files of the holders that are registered; the line of those who wait lies beside them and stays.
    pub fn registered(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.registry()).expect("a registry");
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "line").collect();
        names.sort_unstable();
        names
    }

    /// Any command on the machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.sandbox.command(program);
        for variable in ["XDG_RUNTIME_DIR", "TMPDIR", "HOME"] {
            command.env(variable, self.runtime());
        }
        for (variable, _) in std::env::vars_os() {
            let ours = variable.to_string_lossy().starts_with("GPU_BALLOON_");
            if ours || ["NOTIFY_SOCKET", "NO_COLOR", "COLUMNS", "LD_PRELOAD"].iter().any(|name| variable == *name) {
                command.env_remove(variable);
            }
        }
        command
    }

    /// `gpu-balloon` with these words as arguments.
    pub fn program(&self, line: &str) -> Command {
        let mut command = self.command(PROGRAM);
        command.args(line.split_whitespace());
        command
    }

    /// `gpu-balloon run` with these options and this command.
    pub fn wrap(&self, options: &str, command: &[&str]) -> Command {
        let mut run = self.program(&format!("run {options} --"));
        run.args(command);
        run
    }

    /// Runs `gpu-balloon` to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ended {
        Running::start(&mut self.program(line)).wait()
    }

    /// Starts `gpu-balloon hold` and returns once it says that it holds.
    #[track_caller]
    pub fn hold(&self, line: &str) -> Running {
        let mut holder = Running::start(&mut self.program(&format!("hold {line}")));
        let ready = holder.line();
        assert!(ready.starts_with("ready ") || ready.starts_with('{'), "{ready}");
        holder
    }

    /// What `status --json` says.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let said = self.run("status --json").exits(0);
        serde_json::from_str(&said.stdout).expect("status is JSON")
    }
}

impl Deref for Machine {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}
