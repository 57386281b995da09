//! This user's holders as `resize` and `release` talk to them: found by name, asked with a deadline.

use std::time::{Duration, Instant};

use crate::commands::Failure;
use crate::commands::plan::{selectors, visibility};
use crate::control::client::{ClientError, Pending, ask};
use crate::control::registry::{self, Entry, FindError};
use crate::control::wire::{Answer, Balloon, Request};
use crate::exit::Exit;
use crate::gpu::{GpuUuid, Selection, Visible};

/// How long a holder that lives may take to say something.
const PATIENCE: Duration = Duration::from_secs(2);

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
        registry::find(&self.entries, text).map_err(|error| {
            let exit = match error {
                FindError::Unknown(_) => Exit::NoSuchBalloon,
                FindError::Ambiguous { .. } => Exit::Usage,
            };
            Failure::new(exit, error).hint("`gpu-balloon status` lists the balloons")
        })
    }

    /// Sends a request; its answer can be awaited beside others.
    pub fn ask(&self, holder: &Entry, request: &Request) -> Result<Pending, Failure> {
        ask(&holder.directory, &holder.name, request, Instant::now() + PATIENCE).map_err(|error| silent(holder, error))
    }

    /// The balloon as its holder describes it.
    pub fn describe(&self, holder: &Entry) -> Result<Balloon, Failure> {
        let answer = self.ask(holder, &Request::Status)?.answer(Some(Instant::now() + PATIENCE));
        match answer.map_err(|error| silent(holder, error))? {
            Answer::Status { balloon } => Ok(balloon),
            other => Err(unexpected(holder, &other)),
        }
    }
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
        Answer::NotAvailable { error } => (Exit::NotAvailable, error.clone()),
        Answer::Refused { error } => (Exit::Failed, error.clone()),
        _ => (Exit::Failed, "the holder's answer does not fit the request".to_owned()),
    };
    Failure::new(exit, anyhow::anyhow!(error)).context(format!("balloon `{}`", holder.name))
}

/// The GPUs that `--gpu` names, of those that CUDA shows here.
pub fn chosen(values: &[String]) -> Result<Vec<Visible>, Failure> {
    let selectors = selectors(values)?;
    match visibility()?.select(&selectors).map_err(Failure::usage)? {
        Selection::These(gpus) => Ok(gpus),
        Selection::Any { .. } => {
            Err(Failure::usage(anyhow::anyhow!("`any` chooses GPUs for a new balloon, not of one")))
        }
    }
}

/// What a GPU is called here: its ordinal where it is visible, else its UUID.
pub fn shown(uuid: GpuUuid, visible: &[Visible]) -> String {
    let ordinal = visible.iter().find(|gpu| gpu.known.uuid == uuid).map(|gpu| gpu.ordinal.to_string());
    ordinal.unwrap_or_else(|| uuid.to_string())
}
