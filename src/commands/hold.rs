//! `gpu-balloon hold`: inflate, announce, hold, deflate.

use std::process::ExitCode;

use crate::cli;
use crate::commands::announce::Announcement;
use crate::commands::blockers;
use crate::commands::detach::{self, Output};
use crate::commands::failure::Failure;
use crate::commands::plan::{Planned, chosen, plan};
use crate::commands::talk::{self, Show};
use crate::control::registry::RegistryError;
use crate::exit::Exit;
use crate::holder::{Cause, Holder, HolderError, Released};
use crate::job::Inherited;
use crate::signals::{Purpose, Signals};

impl cli::Hold {
    pub fn run(self, quiet: bool) -> Result<ExitCode, Failure> {
        let options = &self.reservation;
        if options.detach && !detach::is_child()? {
            return detach::start(Output::Holders);
        }
        let mut inherited = Inherited::now();
        let mut child = options.detach.then(|| detach::child(&mut inherited, options.ready_fd)).transpose()?;
        let announce = if options.detach { Announcement::silent } else { Announcement::prepare };
        let announcement = announce(options, &mut inherited)?;
        let signals = Signals::block(Purpose::Hold).map_err(|error| Failure::new(Exit::Failed, error))?;
        let Planned { mut plan, gpus } = plan(options, talk::command_line(std::env::args_os()))?;
        plan.log = child.as_ref().map(|child| child.log.display().to_string());
        let mut holder = match Holder::start(plan, signals) {
            Err(HolderError::Registry(RegistryError::Taken(name))) if options.if_absent => {
                talk::say_unless(quiet, format_args!("a balloon named `{name}` holds already"));
                return Ok(Exit::Done.into());
            }
            started => started?,
        };
        let shortfalls = match talk::inflate(&mut holder, if quiet { Show::Nothing } else { Show::Progress }) {
            Ok(shortfalls) => shortfalls,
            Err(error) => return Err(blockers::named(error)),
        };
        for shortfall in &shortfalls {
            talk::say_unless(quiet, format_args!("holding less than asked: {shortfall}"));
        }
        let ready = announcement.ready(&holder, &chosen(&gpus, &holder));
        if let Some(child) = &mut child {
            child.let_go(&ready);
        }
        let cause = holder.hold()?;
        let released = holder.deflate()?;
        end(&released, &cause, quiet)
    }
}

/// Says what was released and why, and how that ends.
fn end(released: &Released, cause: &Cause, quiet: bool) -> Result<ExitCode, Failure> {
    if let Some(received) = &released.cut_short {
        return Ok(ExitCode::from(u8::try_from(128 + received.signal).unwrap_or(255)));
    }
    talk::say_unless(quiet, format_args!("released {}: {}", released.freed, talk::because(cause)));
    if let Some((ordinal, error)) = released.failures.first() {
        let failure = Failure::new(Exit::Failed, error.clone()).context(format!("GPU {ordinal} did not free all"));
        return Err(
            failure.hint("a lost GPU shows in dmesg; what is held there goes when this process ends, which is now")
        );
    }
    match cause {
        Cause::Lost => Ok(Exit::Failed.into()),
        _ => Ok(Exit::Done.into()),
    }
}
