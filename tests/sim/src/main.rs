//! `gpu-sim`: runs a command on a machine with simulated GPUs, or plays a part on one.

mod cleaner;
mod cli;
mod client;
mod cuda;
mod ending;
mod hog;
mod launch;
mod parse;
mod show;
mod thief;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    match cli.part {
        Some(cli::Part::Hog(hog)) => hog.run(),
        Some(cli::Part::Thief(thief)) => thief.run(),
        Some(cli::Part::Client(client)) => client.run(),
        Some(cli::Part::Show(show)) => show.run(),
        None => cli.launch.run(),
    }
}
