//! gpu-balloon: reserve GPU memory, hold it, hand it over.

mod balloon;
mod cli;
mod commands;
mod control;
mod exit;
mod gpu;
mod holder;
mod job;
mod logging;
mod signals;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    logging::start(logging::Verbosity { verbose: cli.verbose, quiet: cli.quiet });
    gpu::order_by_pci_bus();
    match todo!() as Result<exit::Exit, std::convert::Infallible> {
        Ok(exit) => exit.into(),
        Err(failure) => match failure {},
    }
}
