//! `gpu-balloon status`: shows GPUs, balloons and who holds the rest. Creates no CUDA context.

mod survey;
mod view;
mod watch;

use std::process::ExitCode;
use std::time::SystemTime;

use crate::cli;
use crate::commands::output::{look, print};
use crate::commands::plan::selectors;
use crate::commands::{Failure, talk};
use crate::exit::Exit;
use crate::report::{Snapshot, json, table};
use survey::{Found, Survey, Wanted};

impl cli::Status {
    pub fn run(self, quiet: bool) -> Result<ExitCode, Failure> {
        let wanted = Wanted { gpus: selectors(&self.gpu)?, name: self.name };
        let mut survey = Survey::default();
        if let Some(interval) = self.watch {
            return watch::run(&mut survey, &wanted, interval, self.json);
        }
        let Found { snapshot, notes } = survey.look(&wanted)?;
        for note in notes {
            talk::say_unless(quiet, format_args!("{note}"));
        }
        print(&shown(&snapshot, self.json))?;
        Ok(Exit::Done.into())
    }
}

/// The snapshot as standard output takes it.
fn shown(snapshot: &Snapshot, as_json: bool) -> String {
    if as_json { json::render(snapshot) + "\n" } else { table::render(snapshot, look(), SystemTime::now()) }
}
