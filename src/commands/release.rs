//! `gpu-balloon release`: asks live holders to let go, all at once, and returns when their memory is free.

use std::process::ExitCode;

use crate::cli;
use crate::commands::holders::{Holders, chosen, silent, unexpected};
use crate::commands::{Failure, talk};
use crate::control::client::ClientError;
use crate::control::registry::Entry;
use crate::control::wire::{Answer, Request};
use crate::exit::Exit;
use crate::units::ByteSize;

impl cli::Release {
    pub fn run(self, quiet: bool) -> Result<ExitCode, Failure> {
        let holders = Holders::live()?;
        let gpus = match self.gpu.is_empty() {
            true => None,
            false => Some(chosen(&self.gpu)?.iter().map(|gpu| gpu.known.uuid).collect()),
        };
        let request = Request::Release { gpus };
        // Nothing is released before every name is known to be one.
        let targets = self.targets(&holders)?;
        let asked: Vec<_> = targets.iter().map(|holder| (*holder, holders.ask(holder, &request))).collect();
        let mut failures = Vec::new();
        for (holder, pending) in asked {
            match pending.and_then(|pending| released(holder, pending.answer(None))) {
                Ok(Some(freed)) => talk::say(quiet, format_args!("released {freed} of balloon `{}`", holder.name)),
                Ok(None) => talk::say(quiet, format_args!("balloon `{}` has ended", holder.name)),
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
                Ok(holder) if targets.iter().any(|target| target.name == holder.name) => {}
                Ok(holder) => targets.push(holder),
                Err(failure) if self.if_exists && failure.is(Exit::NoSuchBalloon) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(targets)
    }
}

/// What was released; `None` where the holder ended by itself, which frees its memory as well.
fn released(holder: &Entry, answer: Result<Answer, ClientError>) -> Result<Option<ByteSize>, Failure> {
    match answer {
        Ok(Answer::Released { bytes }) => Ok(Some(ByteSize::new(bytes))),
        Ok(answer) => Err(unexpected(holder, &answer)),
        Err(ClientError::Ended) => Ok(None),
        Err(error) => Err(silent(holder, error)),
    }
}
