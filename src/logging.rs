//! Diagnostics on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable that overrides `-v` and `-q`, in `tracing_subscriber`'s filter syntax.
const VARIABLE: &str = "GPU_BALLOON_LOG";

/// How much the user wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbosity {
    pub verbose: u8,
    pub quiet: bool,
}

/// Starts logging to standard error: warnings, more with `-v` and `-vv`, only errors with `-q`.
pub fn start(verbosity: Verbosity) {
    let level = match verbosity {
        Verbosity { quiet: true, .. } => LevelFilter::ERROR,
        Verbosity { verbose: 0, .. } => LevelFilter::WARN,
        Verbosity { verbose: 1, .. } => LevelFilter::INFO,
        Verbosity { .. } => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).with_env_var(VARIABLE).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        // Else a message that cannot be written is followed by a second one, and when that fails too, by a panic.
        .log_internal_errors(false)
        .with_target(false)
        .without_time()
        .init();
}
