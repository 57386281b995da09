//! A job under `gpu-balloon run`: `gpu-sim client`, which does what the test tells it.

use std::process::Command;

use gpu_sim::Script;

use super::Machine;

impl Machine {
    /// Starts it under `run` with these options; a process of the job that uses no GPU yet.
    #[track_caller]
    pub fn job(&self, options: &str) -> Script {
        Script::start(self.wrapped(options, "client"))
    }

    /// `gpu-balloon run OPTIONS -- gpu-sim PART`.
    pub fn wrapped(&self, options: &str, part: &str) -> Command {
        let mut command = self.program(&format!("run {options} --"));
        command.arg(gpu_sim::program()).args(part.split_whitespace());
        command
    }
}

/// The process itself, below the wrapper.
#[track_caller]
pub fn pid_of(job: &mut Script) -> u32 {
    job.must("pid").parse().expect("a pid")
}
