//! What there is to show, gathered from NVML, the holders and `/proc`, and cut down to what is wanted.

use super::view::View;
use crate::commands::Failure;
use crate::commands::inquiry::ask_all;
use crate::commands::machine::{Machine, NoGpus};
use crate::control::registry::{self, Entry, FindError};
use crate::gpu::{GpuSelector, Nvml, Selection};
use crate::process::Processes;
use crate::report::Snapshot;

/// What is wanted of what there is.
pub struct Wanted {
    /// Only this balloon and its GPUs.
    pub name: Option<String>,
    /// Only these GPUs and what balloons have on them; empty for all.
    pub gpus: Vec<GpuSelector>,
}

/// What was found, and what a person should know of how that went.
pub struct Found {
    pub snapshot: Snapshot,
    pub notes: Vec<String>,
}

/// Looks again and again. NVML takes long to open on some machines, so it is kept.
#[derive(Default)]
pub struct Survey {
    nvml: Option<Nvml>,
    processes: Processes,
}

impl Survey {
    /// Looks at everything once.
    ///
    /// # Errors
    /// What is wanted does not exist, or there is neither a GPU nor a balloon to show.
    pub fn look(&mut self, wanted: &Wanted) -> Result<Found, Failure> {
        let mut notes = Vec::new();
        let entries = registry::manageable().unwrap_or_else(|error| {
            notes.push(format!("your balloons are not shown: {:#}", anyhow::Error::new(error)));
            Vec::new()
        });
        let asked = ask_all(&entries);
        // NVML is read while the holders answer.
        let machine = self.machine();
        let heard = asked.answers();
        let machine = match machine {
            Ok(machine) => machine,
            Err(none) if !wanted.gpus.is_empty() || wanted.name.is_none() && heard.is_empty() => {
                return Err(none.into());
            }
            Err(none) => {
                notes.push(format!("the GPUs are not shown: {none}"));
                Machine::unknown()
            }
        };
        notes.extend(machine.unreadable.iter().cloned());
        notes.extend(heard.iter().filter_map(|heard| heard.note()));
        let mut snapshot = View::new(&machine, &mut self.processes).of(heard);
        if let Some(name) = &wanted.name {
            keep_balloon(&mut snapshot, &entries, name)?;
        }
        if !wanted.gpus.is_empty() {
            keep_gpus(&mut snapshot, &machine, &wanted.gpus)?;
        }
        Ok(Found { snapshot, notes })
    }

    fn machine(&mut self) -> Result<Machine, NoGpus> {
        let nvml = match self.nvml.take() {
            Some(nvml) => nvml,
            None => Nvml::open()?,
        };
        Machine::read(self.nvml.insert(nvml))
    }
}

/// Keeps the balloon that `text` names, which may be another user's holder by its pid, and the GPUs it is on.
fn keep_balloon(snapshot: &mut Snapshot, entries: &[Entry], text: &str) -> Result<(), Failure> {
    let (name, pid) = match registry::find(entries, text) {
        Ok(entry) => (entry.name.as_str(), entry.registration.as_ref().map(|registration| registration.pid)),
        Err(_) if snapshot.balloons.iter().any(|balloon| balloon.name == text) => (text, text.parse().ok()),
        Err(error) => return Err(error.into()),
    };
    snapshot.balloons.retain(|balloon| balloon.name == name && (pid.is_none() || balloon.pid == pid));
    if snapshot.balloons.is_empty() {
        // It has ended since it was found.
        return Err(FindError::Unknown(text.to_owned()).into());
    }
    let parts = || snapshot.balloons.iter().flat_map(|balloon| &balloon.parts);
    snapshot.gpus.retain(|gpu| parts().any(|part| part.uuid == gpu.uuid));
    Ok(())
}

/// Keeps these GPUs and what balloons have on them.
fn keep_gpus(snapshot: &mut Snapshot, machine: &Machine, selectors: &[GpuSelector]) -> Result<(), Failure> {
    let chosen = match machine.visibility.select(selectors)? {
        Selection::These(gpus) => gpus,
        Selection::Any { .. } => {
            return Err(Failure::usage(anyhow::anyhow!("`any` chooses GPUs for a new balloon, not to look at")));
        }
    };
    let is_chosen = |uuid: &str| chosen.iter().any(|gpu| gpu.known.id() == uuid);
    snapshot.gpus.retain(|gpu| is_chosen(&gpu.uuid));
    for balloon in &mut snapshot.balloons {
        balloon.parts.retain(|part| is_chosen(&part.uuid));
    }
    snapshot.balloons.retain(|balloon| !balloon.parts.is_empty());
    Ok(())
}
