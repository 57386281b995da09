//! Holders as the tests see them: what one holds on a GPU, and one that is refused.

use gpu_sim::MB;

use super::{Ended, Machine, PROGRAM, Running};

/// What a context costs on the simulated GPUs, unless a test has said otherwise.
pub const CONTEXT: u64 = 500 * MB;

impl Machine {
    /// What a holder holds on a GPU, its context aside.
    #[track_caller]
    pub fn balloon(&self, gpu: usize, holder: &Running) -> u64 {
        let held = self.used_by(gpu, holder.pid());
        held - if self.contexts_of(gpu, holder.pid()) > 0 { CONTEXT } else { 0 }
    }

    /// `gpu-balloon hold` with these arguments and variables, once it says that it holds.
    #[track_caller]
    pub fn hold_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(PROGRAM);
        command.arg("hold").args(arguments).envs(variables.iter().copied());
        let mut holder = Running::start(&mut command);
        let ready = holder.line();
        assert!(ready.starts_with("ready "), "{ready}");
        holder
    }

    /// `gpu-balloon hold` that fails with `code` before it touches device memory.
    #[track_caller]
    pub fn refuses(&self, code: i32, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let before: Vec<u64> = self.all_gpus().map(|gpu| self.traced(gpu)).collect();
        let mut command = self.command(PROGRAM);
        command.arg("hold").args(arguments).envs(variables.iter().copied());
        let ended = Running::start(&mut command).wait().exits(code);
        let after: Vec<u64> = self.all_gpus().map(|gpu| self.traced(gpu)).collect();
        assert_eq!(before, after, "{arguments:?} touched device memory");
        assert_eq!(ended.stdout, "", "{arguments:?} said that it holds");
        assert!(ended.stderr.starts_with("gpu-balloon: "), "{}", ended.stderr);
        ended
    }

    fn all_gpus(&self) -> std::ops::Range<usize> {
        0..self.number_of_gpus()
    }
}
