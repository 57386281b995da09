//! The machine as text.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::anyhow;
use gpu_sim::{MB, Sandbox};

use crate::cli::Show;
use crate::launch::{inherited, shared};

impl Show {
    pub fn run(self) -> anyhow::Result<()> {
        let none = || anyhow!("there is no machine: name it with --dir");
        let directory: PathBuf = self.dir.or_else(inherited).or_else(shared).ok_or_else(none)?;
        let sandbox = Sandbox::open(&directory)?;
        let mut out = std::io::stdout().lock();
        for gpu in 0..sandbox.number_of_gpus() {
            let seen = sandbox.seen(gpu);
            let (name, used, total) = (sandbox.gpus[gpu].name.get(), sandbox.used(gpu) / MB, seen.total / MB);
            writeln!(out, "GPU {gpu}: {name} ({}), {used} of {total} MB used", sandbox.uuid_text(gpu))?;
            for (pid, bytes) in sandbox.processes(gpu) {
                writeln!(out, "  pid {pid}: {} MB", bytes / MB)?;
            }
        }
        for (function, count) in self.calls.map(|pid| sandbox.all_calls(pid)).unwrap_or_default() {
            writeln!(out, "{count:>10} {function}")?;
        }
        Ok(())
    }
}
