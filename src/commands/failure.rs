//! A command's failure as a person reads it: what failed, why, a hint where something helps, and the exit code.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli;
use crate::control::registry::{FindError, RegistryError};
use crate::exit::Exit;
use crate::gpu::{CallError, ComputeMode, Device, DriverError, SelectError, VISIBLE_DEVICES};
use crate::holder::HolderError;
use crate::untrusted::printable;

/// Why a command ends without having done its job.
#[derive(Debug)]
pub struct Failure {
    pub exit: ExitCode,
    error: anyhow::Error,
    /// Lines that tell more, such as the processes in the way.
    details: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit: exit.into(), error: error.into(), details: Vec::new(), hint: None }
    }

    /// A failure that the command line or the environment causes.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Usage, error)
    }

    pub fn context(mut self, what: impl std::fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(what);
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure in other words.
    pub fn told_as(mut self, what: String) -> Self {
        self.error = anyhow::Error::msg(what);
        self
    }

    pub fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// Whether it ends with this exit code.
    pub fn is(&self, exit: Exit) -> bool {
        self.exit == ExitCode::from(exit)
    }

    /// Several failures of one command: the first one decides, the others are told below it.
    pub fn several(failures: Vec<Self>) -> Self {
        let mut failures = failures.into_iter();
        let mut first = failures.next().unwrap_or_else(|| Self::new(Exit::Failed, anyhow::anyhow!("nothing failed")));
        first.details.extend(failures.map(|failure| format!("{:#}", failure.error)));
        first
    }

    /// The same failure under the exit codes of `run`, which leaves the small ones to the command it wraps.
    pub fn of_run(mut self) -> Self {
        if self.is(Exit::NotAvailable) {
            self.exit = Exit::RunNotAvailable.into();
        } else if !self.is(Exit::RunCannotExecute) && !self.is(Exit::RunNotFound) {
            self.exit = Exit::RunFailed.into();
        }
        self
    }

    /// What failed and why, and the hint, as a report quotes them.
    pub fn quoted(self) -> (String, Option<String>) {
        (format!("{:#}", self.error), self.hint)
    }

    /// Prints the failure on standard error and returns its exit code. A closed standard error changes nothing.
    pub fn report(self) -> ExitCode {
        // What was typed, and what variables hold, is quoted as it is.
        let mut text = format!("gpu-balloon: {}\n", printable(&format!("{:#}", self.error)));
        for detail in &self.details {
            let _ = writeln!(text, "  {}", printable(detail));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", printable(hint));
        }
        let _ = io::stderr().write_all(text.as_bytes());
        self.exit
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        let hint = match &error {
            DriverError::NoLibrary(_) => {
                "install the NVIDIA driver, or start the container with the GPUs (docker run --gpus all)".to_owned()
            }
            DriverError::TooOld { .. } => "update the NVIDIA driver to version 470 or later".to_owned(),
            DriverError::Init { error, library } if error.is_stub_library() => {
                format!("{library} is the CUDA toolkit's stub for linking; take its directory out of LD_LIBRARY_PATH")
            }
            DriverError::Init { error, .. } if error.is_mismatch() => {
                "the kernel module is of another version than the library; reboot after a driver update".to_owned()
            }
            DriverError::Init { .. } => "see whether nvidia-smi works, and dmesg for the driver's messages".to_owned(),
            DriverError::NoGpu => no_gpu_hint(),
        };
        Self::new(Exit::NoGpu, error).context("no usable driver or GPU").hint(hint)
    }
}

/// Where the variable that hides GPUs is set, it is the first suspect.
pub fn no_gpu_hint() -> String {
    match std::env::var(VISIBLE_DEVICES) {
        Ok(list) if list.is_empty() => format!("{VISIBLE_DEVICES} is empty, which hides every GPU; try without it"),
        Ok(list) => format!("{VISIBLE_DEVICES} is `{list}`, which may hide every GPU; try without it"),
        Err(_) => "see whether nvidia-smi shows a GPU".to_owned(),
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::NoneVisible(_) => {
                Self::new(Exit::NoGpu, error).context("no usable driver or GPU").hint(no_gpu_hint())
            }
            error => Self::usage(error),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(Exit::NoGpu, error)
            .context("the driver does not answer")
            .hint("see whether nvidia-smi works, and dmesg for the driver's messages")
    }
}

impl From<FindError> for Failure {
    fn from(error: FindError) -> Self {
        let (exit, meant) = match &error {
            FindError::Unknown(name) => (Exit::NoSuchBalloon, cli::stray(OsStr::new(name))),
            FindError::Ambiguous { .. } => (Exit::Usage, None),
        };
        Self::new(exit, error).hint(meant.unwrap_or_else(|| "`gpu-balloon status` lists the balloons".to_owned()))
    }
}

impl From<HolderError> for Failure {
    fn from(error: HolderError) -> Self {
        match error {
            HolderError::Size(error) => Self::usage(anyhow::anyhow!(error)),
            HolderError::NotAvailable(_) => Self::new(Exit::NotAvailable, error)
                .hint("ask for less, wait for it with --wait, or keep what fits with --best-effort"),
            HolderError::NotInTime { .. } => Self::new(Exit::NotAvailable, error)
                .hint("wait longer, ask for less, or keep what fits with --best-effort"),
            HolderError::NeverFits { .. } => Self::new(Exit::NotAvailable, error).hint("ask for less"),
            HolderError::CannotChoose(_) => Self::new(Exit::NoGpu, error).hint("name the GPUs"),
            HolderError::Signal(ref received) => {
                let exit = ExitCode::from(u8::try_from(128 + received.signal).unwrap_or(255));
                Self { exit, error: error.into(), details: Vec::new(), hint: None }
            }
            HolderError::Gpu { gpu, source } => gpu_failure(&gpu, source),
            HolderError::Registry(RegistryError::Directory(_)) => {
                Self::new(Exit::Failed, error).context("cannot register the balloon's name").hint(
                    "XDG_RUNTIME_DIR says where that directory lies; without --name, the memory is held all the same",
                )
            }
            HolderError::Registry(RegistryError::Taken(_)) => Self::new(Exit::Failed, error)
                .hint("--if-absent takes that for a success; `gpu-balloon status` shows it"),
            HolderError::Registry(_) | HolderError::System(_) | HolderError::Released | HolderError::Exited => {
                Self::new(Exit::Failed, error)
            }
        }
    }
}

fn gpu_failure(gpu: &Device, source: CallError) -> Failure {
    let ordinal = gpu.ordinal;
    let out_of_memory = source.error.is_out_of_memory();
    let is_refused = source.error.is_unavailable() || source.is_of_context() && !out_of_memory;
    let shut = is_refused.then(|| gpu.compute_mode().ok()).flatten();
    let exit = if out_of_memory { Exit::NotAvailable } else { Exit::NoGpu };
    let is_nvml = source.is_of_nvml();
    let failure = Failure::new(exit, source);
    match shut {
        Some(mode @ (ComputeMode::ExclusiveProcess | ComputeMode::Prohibited)) => failure
            .context(format!("cannot use GPU {ordinal}, which is in {mode} compute mode"))
            .hint(format!("root can let more processes in: nvidia-smi -i {} -c DEFAULT", gpu.uuid)),
        _ => {
            let failure = failure.context(format!("cannot use GPU {ordinal}"));
            if out_of_memory {
                failure.hint("the GPU has no room even for a CUDA context; wait for it with --wait")
            } else if is_nvml {
                failure.hint("without NVML, hold in a CUDA context: leave --contextless out")
            } else {
                failure.hint("`gpu-balloon doctor` checks every GPU")
            }
        }
    }
}
