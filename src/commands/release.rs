//! `gpu-balloon release`: asks live holders to let go, all at once, and returns when their memory is free.

use std::process::ExitCode;

use crate::cli;
use crate::commands::holders::{Holders, chosen, has_ended, refuse_foreign, silent, unexpected};
use crate::commands::{Failure, talk};
use crate::control::client::ClientError;
use crate::control::registry::Entry;
use crate::control::wire::{Answer, Request};
use crate::exit::Exit;
use crate::units::ByteSize;

impl cli::Release {
    pub fn run(self, quiet: bool) -> Result<ExitCode, Failure> {
        let holders = Holders::live()?;
        // Nothing is released before every name is known to be one.
        let targets = self.targets(&holders)?;
        let requests = self.requests(&holders, targets)?;
        let asked = requests.into_iter().map(|(holder, request)| (holder, holders.ask(holder, &request)));
        let asked: Vec<_> = asked.collect();
        let mut failures = Vec::new();
        for (holder, pending) in asked {
            match released(holder, pending.and_then(|pending| holders.wait(holder, pending))) {
                Ok(Some(freed)) => {
                    talk::say_unless(quiet, format_args!("released {freed} of balloon `{}`", holder.name))
                }
                Ok(None) => talk::say_unless(quiet, format_args!("balloon `{}` has ended", holder.name)),
                Err(failure) => failures.push(failure),
            }
        }
        match failures.len() {
            0 => Ok(Exit::Done.into()),
            _ => Err(Failure::several(failures)),
        }
    }

    fn targets<'a>(&self, holders: &'a Holders) -> Result<Vec<&'a Entry>, Failure> {
        if self.all {
            return Ok(holders.all().iter().collect());
        }
        let mut targets: Vec<&Entry> = Vec::new();
        for name in &self.names {
            match holders.named(name) {
                // Two spellings of one name ask it once.
                Ok(holder) if targets.iter().any(|target| std::ptr::eq(*target, holder)) => {}
                Ok(holder) => targets.push(holder),
                Err(failure) if self.if_exists && failure.is(Exit::NoSuchBalloon) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(targets)
    }

    /// What to ask of whom. With `--gpu`, a balloon that was named must have a part on each GPU; of all balloons, those
    /// that have one are asked.
    fn requests<'a>(&self, holders: &Holders, targets: Vec<&'a Entry>) -> Result<Vec<(&'a Entry, Request)>, Failure> {
        if self.gpu.is_empty() {
            return Ok(targets.into_iter().map(|holder| (holder, Request::Release { gpus: None })).collect());
        }
        let chosen = chosen(&self.gpu)?;
        let mut requests = Vec::new();
        for holder in targets {
            let balloon = holders.describe(holder)?;
            if !self.all {
                refuse_foreign(&balloon, &chosen)?;
            }
            let parts: Vec<_> = chosen.iter().map(|gpu| gpu.known.uuid).filter(|gpu| balloon.is_on(*gpu)).collect();
            if !parts.is_empty() {
                requests.push((holder, Request::Release { gpus: Some(parts) }));
            }
        }
        Ok(requests)
    }
}

/// What was released; `None` where the holder ended by itself, which frees its memory as well.
fn released(holder: &Entry, answer: Result<Answer, ClientError>) -> Result<Option<ByteSize>, Failure> {
    match answer {
        Ok(Answer::Released { bytes }) => Ok(Some(ByteSize::new(bytes))),
        Ok(answer) => Err(unexpected(holder, &answer)),
        Err(ClientError::Ended | ClientError::Unreachable(_)) if has_ended(holder) => Ok(None),
        Err(error) => Err(silent(holder, error)),
    }
}
