//! The one table of exit codes.

use std::process::ExitCode;

/// How gpu-balloon ends. The same table stands in the man page and the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// The memory is not available.
    NotAvailable = 3,
    /// No usable driver or GPU.
    NoGpu = 4,
    NoSuchBalloon = 5,
    /// `run`: the memory was not available.
    RunNotAvailable = 124,
    /// `run`: gpu-balloon itself failed.
    RunFailed = 125,
    /// `run`: the command cannot be executed.
    RunCannotExecute = 126,
    /// `run`: the command was not found.
    RunNotFound = 127,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
