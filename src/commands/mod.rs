//! One file a verb: from the arguments to the domain and back to an exit code.

mod announce;
mod blockers;
mod completions;
mod detach;
mod doctor;
mod failure;
mod handing;
mod hold;
mod holders;
mod inquiry;
mod machine;
mod output;
mod plan;
mod release;
mod resize;
mod run;
mod status;
mod talk;
mod waiting_line;

use std::process::ExitCode;

use crate::cli::Command;
pub use failure::Failure;

impl Command {
    /// Runs the verb and returns the exit code of its success.
    pub fn run(self, quiet: bool) -> Result<ExitCode, Failure> {
        match self {
            Self::Hold(hold) => hold.run(quiet),
            Self::Resize(resize) => resize.run(),
            Self::Release(release) => release.run(quiet),
            Self::Completions(completions) => completions.run(),
            Self::Status(status) => status.run(quiet),
            Self::Doctor(doctor) => doctor.run(),
            Self::Run(run) => run.run(quiet),
        }
    }
}
