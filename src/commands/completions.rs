//! `gpu-balloon completions`: the completions of a shell, out of the one definition of the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli;
use crate::commands::Failure;
use crate::exit::Exit;

impl cli::Completions {
    pub fn run(self) -> Result<ExitCode, Failure> {
        match io::stdout().lock().write_all(cli::completions(self.shell).as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, error).context("cannot write the completions"))
            }
            _ => Ok(Exit::Done.into()),
        }
    }
}
