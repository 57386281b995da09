//! Makes or joins a machine and becomes the command on it.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow};
use gpu_sim::{Builder, Sandbox};

use crate::cleaner;
use crate::cli::Launch;
use crate::parse::Cost;

impl Launch {
    /// Returns only if the command cannot be started: it takes this process's place, so that its exit code, signals
    /// and terminal are its own.
    pub fn run(self) -> anyhow::Result<()> {
        let directory = self.dir.clone().or_else(|| self.shared.then(shared).flatten()).or_else(inherited);
        if let Some(directory) = directory.as_ref().filter(|_| self.shared)
            && Sandbox::open(directory).is_ok_and(|sandbox| sandbox.is_outdated())
        {
            std::fs::remove_dir_all(directory)?;
        }
        let sandbox = match &directory {
            Some(directory) => join_or_make(directory, || self.builder())
                .with_context(|| format!("cannot use the machine in {}", directory.display()))?,
            None => cleaner::temporary(self.builder()).context("cannot make a machine")?,
        };
        for fault in &self.inject {
            sandbox.inject(fault);
        }
        for gpu in &self.lost {
            sandbox.lose_gpu(*gpu, gpu_sim::UNKNOWN_ERROR);
        }
        let (program, arguments) = self.command.split_first().ok_or_else(|| anyhow!("no command"))?;
        let error = Command::new(program).args(arguments).envs(sandbox.environment()).exec();
        Err(error).with_context(|| format!("cannot run {}", program.display()))
    }

    fn builder(&self) -> Builder {
        let mut builder = Sandbox::builder()
            .gpus(self.gpus)
            .memory_each(self.memory.clone())
            .context(self.context)
            .reserved(self.reserved)
            .utilization_each(self.utilization.clone())
            .compute_mode_each(self.compute_mode.clone())
            .name_each(self.name.clone())
            .fastest_first(self.fastest_first.clone())
            .cuda_version(self.cuda_version)
            .driver_version(self.driver_version.clone())
            .lag(self.lag);
        if self.stub {
            builder = builder.stub();
        }
        if self.no_nvml {
            builder = builder.without_nvml();
        }
        if self.no_cuda {
            builder = builder.without_cuda();
        }
        builder = self.without.iter().fold(builder, |builder, symbol| builder.without_symbol(symbol));
        self.call_cost.iter().fold(builder, |builder, Cost(family, delay)| builder.delay(*family, *delay))
    }
}

/// Beside the folder of this program: `target/sim`.
pub fn shared() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.parent()?.join("sim"))
}

/// The machine on which this process already is.
pub fn inherited() -> Option<PathBuf> {
    env::var_os(gpu_sim::DIRECTORY).map(PathBuf::from).filter(|directory| Sandbox::open(directory).is_ok())
}

fn join_or_make(directory: &Path, builder: impl FnOnce() -> Builder) -> io::Result<Sandbox> {
    match Sandbox::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Left by an older build; who is still in it keeps what he has mapped.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => std::fs::remove_dir_all(directory)?,
        joined => return joined,
    }
    // Complete before it gets its name: another launcher may be at the same.
    let unfinished = directory.with_extension(std::process::id().to_string());
    builder().build_in(&unfinished)?;
    if std::fs::rename(&unfinished, directory).is_err() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    Sandbox::open(directory)
}
