//! gpu-balloon: reserve GPU memory, hold it, hand it over.

mod balloon;
mod cli;
mod commands;
mod control;
mod exit;
mod gpu;
mod handover;
mod holder;
mod job;
mod line;
mod logging;
mod process;
mod report;
mod signals;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match commands::usage::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    logging::start(logging::Verbosity { verbose: cli.verbose, quiet: cli.quiet });
    gpu::order_by_pci_bus();
    cli.command.run(cli.quiet).unwrap_or_else(commands::Failure::report)
}
