//! This user's holders as `resize` and `release` talk to them: found by name, asked with a deadline.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::commands::Failure;
use crate::commands::plan::{selectors, visibility};
use crate::control::client::{ClientError, Pending, ask};
use crate::control::registry::{self, Entry};
use crate::control::wire::{Answer, Balloon, Request};
use crate::exit::Exit;
use crate::gpu::{GpuUuid, Selection, Visible};
use crate::holder::process;
use crate::units::NamedGpu;

/// How long a holder that lives may take to say something.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a holder that is busy with a request is asked whether it still lives.
const INTERVAL: Duration = Duration::from_millis(500);

/// The holders that live: this user's, and for root everybody's.
pub struct Holders {
    entries: Vec<Entry>,
}

impl Holders {
    /// Looks them up.
    pub fn live() -> Result<Self, Failure> {
        let entries = registry::manageable().map_err(|error| Failure::new(Exit::Failed, error))?;
        Ok(Self { entries })
    }

    pub fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// The holder that `text` names: by name, pid, or unique prefix.
    pub fn named(&self, text: &str) -> Result<&Entry, Failure> {
        registry::find(&self.entries, text).map_err(Failure::from)
    }

    /// Sends a request; its answer can be awaited beside others.
    pub fn ask(&self, holder: &Entry, request: &Request) -> Result<Pending, ClientError> {
        ask(&holder.directory, &holder.name, request, Instant::now() + PATIENCE)
    }

    /// The balloon as its holder describes it.
    pub fn describe(&self, holder: &Entry) -> Result<Balloon, Failure> {
        let answer = self.ask(holder, &Request::Status).and_then(|asked| asked.answer(Instant::now() + PATIENCE));
        match answer {
            Ok(Answer::Status { balloon }) => Ok(*balloon),
            Ok(other) => Err(unexpected(holder, &other)),
            Err(error) => Err(silent(holder, error)),
        }
    }

    /// Waits for an answer that takes the holder as long as it takes, unless it stops answering anything: a holder always
    /// has time to describe itself.
    pub fn wait(&self, holder: &Entry, pending: Pending) -> Result<Answer, ClientError> {
        let mut leaves = false;
        pending.answer_while(INTERVAL, || {
            let asked = self.ask(holder, &Request::Status);
            match asked.and_then(|pending| pending.answer(Instant::now() + PATIENCE)) {
                Err(ClientError::Silent) => false,
                // One that no longer listens is about to answer.
                Err(_) => !std::mem::replace(&mut leaves, true),
                Ok(_) => true,
            }
        })
    }
}

/// Whether a holder that hung up has ended. Waits for that: its memory is free when its process is gone.
pub fn has_ended(holder: &Entry) -> bool {
    let pid = holder.registration.as_ref().and_then(|registration| registration.pid.try_into().ok());
    if let Some(Ok(process)) = pid.map(process) {
        let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout));
    }
    !registry::lives(holder)
}

/// The failure of a holder that gives no answer.
pub fn silent(holder: &Entry, error: ClientError) -> Failure {
    let pid = holder.registration.as_ref().map(|registration| registration.pid);
    let stopped = matches!(error, ClientError::Silent);
    let failure = Failure::new(Exit::Failed, error).context(format!("balloon `{}`", holder.name));
    match pid {
        Some(pid) if stopped => failure.hint(format!("it may be stopped: `kill -CONT {pid}` lets it go on")),
        _ => failure,
    }
}

/// The failure of a holder that says something else than it was asked.
pub fn unexpected(holder: &Entry, answer: &Answer) -> Failure {
    let (exit, error) = match answer {
        Answer::Misfit { error } => (Exit::Usage, error.clone()),
        Answer::Refused { error } => (Exit::Failed, error.clone()),
        _ => (Exit::Failed, "the holder's answer does not fit the request".to_owned()),
    };
    Failure::new(exit, anyhow::anyhow!(error)).context(format!("balloon `{}`", holder.name))
}

/// The GPUs that `--gpu` names, of those that CUDA shows here.
pub fn chosen(values: &[String]) -> Result<Vec<Visible>, Failure> {
    let selectors = selectors(values)?;
    match visibility()?.select(&selectors)? {
        Selection::These(gpus) => Ok(gpus),
        Selection::Any { .. } => {
            Err(Failure::usage(anyhow::anyhow!("`any` chooses GPUs for a new balloon, not of one")))
        }
    }
}

/// A balloon that was named must have a part on each GPU that was.
pub fn refuse_foreign(balloon: &Balloon, chosen: &[Visible]) -> Result<(), Failure> {
    match chosen.iter().find(|gpu| !balloon.is_on(gpu.known.uuid)) {
        Some(gpu) => {
            Err(Failure::usage(anyhow::anyhow!("balloon `{}` has no part on GPU {}", balloon.name, gpu.shown())))
        }
        None => Ok(()),
    }
}

/// What a GPU is called here: its ordinal where it is visible, else its UUID.
pub fn shown(uuid: GpuUuid, visible: &[Visible]) -> String {
    let ordinal = visible.iter().find(|gpu| gpu.known.uuid == uuid).map(|gpu| gpu.ordinal.to_string());
    ordinal.unwrap_or_else(|| uuid.to_string())
}
