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

impl Exit {
    /// The codes of every verb but `run`.
    pub const COMMON: [Self; 6] =
        [Self::Done, Self::Failed, Self::Usage, Self::NotAvailable, Self::NoGpu, Self::NoSuchBalloon];

    /// The codes of `run` that are not its command's own.
    pub const OF_RUN: [Self; 4] = [Self::RunNotAvailable, Self::RunFailed, Self::RunCannotExecute, Self::RunNotFound];

    /// What the code tells, in the words of the help and the man pages.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "wrong usage",
            Self::NotAvailable | Self::RunNotAvailable => "memory not available",
            Self::NoGpu => "no usable driver or GPU",
            Self::NoSuchBalloon => "no such balloon",
            Self::RunFailed => "gpu-balloon itself failed or was used wrongly",
            Self::RunCannotExecute => "the command cannot be executed",
            Self::RunNotFound => "the command is not found",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
