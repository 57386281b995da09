//! `gpu-balloon completions`: the completions of a shell, out of the one definition of the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli;
use crate::commands::Failure;
use crate::exit::Exit;

impl cli::Completions {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli::Cli::command(), "gpu-balloon", &mut script);
        match io::stdout().lock().write_all(&script) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, error).context("cannot write the completions"))
            }
            _ => Ok(Exit::Done.into()),
        }
    }
}
