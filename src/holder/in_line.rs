//! What a holder has with it until everything is held: its turn in the line, its view of the memory, and what it has
//! learned from attempts that failed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::control::directory::RuntimeDirectory;
use crate::gpu::{GRANULARITY, GpuUuid, Memory, NvmlError};
use crate::holder::plan::{Gpus, HolderError, Plan, Wanted};
use crate::line::policy::{Free, Request, Stage, Want, Wish};
use crate::line::sight::Sight;
use crate::line::turn::Turn;
use crate::line::verdict::Verdict;
use crate::units::{self, Amount, ByteSize};

/// How long after an attempt that failed for no reason to be seen the next one follows, if nothing comes free before.
const AGAIN: Duration = Duration::from_secs(1);

/// How far attempts of a holder are apart that cannot ask NVML, and so needs a context to see what is free.
const BLIND: Duration = Duration::from_secs(2);

/// How often the line is looked at where there are no figures that say when.
const SOON: Duration = Duration::from_millis(100);

/// How often the line is looked at without news of it.
const UNANNOUNCED: Duration = Duration::from_secs(1);

/// How long what is owed to others ahead is kept: the figures may be of different instants.
const OWED: Duration = Duration::from_secs(2);

/// No context costs more. What seems to was taken by someone else meanwhile.
const DEAREST_CONTEXT: ByteSize = ByteSize::new(1 << 30);

pub(super) struct InLine {
    pub turn: Turn,
    sight: Option<Sight>,
    is_blind: bool,
    /// Why, until someone asks.
    blindness: Option<NvmlError>,
    /// What a context costs on a GPU, where an attempt has shown it.
    contexts: BTreeMap<GpuUuid, ByteSize>,
    tried: Option<Tried>,
    /// Since when a holder that grows has had what others ahead lack.
    owing: Option<Instant>,
    /// When the line was last looked at; `None` after news of it.
    line_seen: Option<Instant>,
    /// What others that stand still were granted, which is not for taking though it is free.
    pub spoken_for: bool,
}

/// The last attempt.
struct Tried {
    at: Instant,
    free: Free,
}

impl InLine {
    pub fn join(directory: Option<&RuntimeDirectory>, name: &str, stage: Stage, plan: &Plan) -> Self {
        let contexts = if plan.backing.has_context {
            BTreeMap::new()
        } else {
            plan.gpus.all().map(|wanted| (wanted.device.uuid, ByteSize::ZERO)).collect()
        };
        let turn = Turn::join(directory, name, wish(stage, request(&plan.gpus, &contexts), &contexts));
        Self {
            turn,
            sight: None,
            is_blind: false,
            blindness: None,
            contexts,
            tried: None,
            owing: None,
            line_seen: None,
            spoken_for: false,
        }
    }

    /// The view of the memory, opened when it is first needed.
    pub fn sight(&mut self, gpus: &Gpus) -> Option<&mut Sight> {
        if self.sight.is_none() && !self.is_blind {
            match Sight::open(gpus.all().map(|wanted| wanted.device.uuid).collect()) {
                Ok(sight) => self.sight = Some(sight),
                Err(error) => {
                    self.is_blind = true;
                    self.blindness = Some(error);
                }
            }
        }
        self.sight.as_mut()
    }

    /// Why NVML cannot be asked; told once.
    pub fn blindness(&mut self) -> Option<NvmlError> {
        self.blindness.take()
    }

    /// From here on only these GPUs matter.
    pub fn narrow(&mut self, gpus: &Gpus) {
        if let Some(sight) = &mut self.sight {
            sight.narrow(gpus.all().map(|wanted| wanted.device.uuid).collect());
        }
    }

    /// The view of the memory, if it was opened.
    pub fn seen(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// What NVML tells to be free, if it tells of every GPU that cannot be done without.
    fn free(&self, gpus: &Gpus) -> Option<&Free> {
        let free = self.sight.as_ref().map(Sight::free)?;
        let needed = gpus.chosen();
        needed.iter().all(|wanted| free.contains_key(&wanted.device.uuid)).then_some(free)
    }

    /// May a holder go that does not wait?
    pub fn ask_now(&mut self, gpus: &Gpus, now: Instant) -> Verdict {
        self.turn.look(None, now);
        let verdict = self.turn.go(None, now);
        if verdict != Verdict::Wait {
            return verdict;
        }
        match self.sight(gpus) {
            Some(sight) if sight.due().is_none_or(|due| due <= now) => {
                sight.look(now);
                let verdict = self.turn.go(self.sight.as_ref().map(Sight::free), now);
                if verdict != Verdict::Wait {
                    return verdict;
                }
            }
            // Without new figures there is nothing to choose by.
            _ if matches!(gpus, Gpus::Any(_)) => return Verdict::Wait,
            _ => {}
        }
        let verdict = self.turn.pass_still(now);
        self.spoken_for = matches!(verdict, Verdict::Go(_));
        verdict
    }

    /// May a holder go that waits? Asks NVML if it is time to. Also says whether something has changed.
    pub fn ask_waiting(&mut self, gpus: &Gpus, now: Instant) -> (Verdict, bool) {
        let is_due = self.sight(gpus).is_some_and(|sight| sight.due().is_none_or(|due| due <= now));
        if self.sight.is_some() && !is_due {
            return (Verdict::Wait, false);
        }
        // The line first: who leaves it before the memory is looked at has allocated already, and counts as claiming still.
        let is_old = self.line_seen.is_none_or(|seen| now.saturating_duration_since(seen) >= UNANNOUNCED);
        if is_old || !self.turn.is_current() {
            self.turn.look(self.sight.as_ref().map(Sight::free), now);
            self.line_seen = Some(now);
        }
        let has_changed = self.sight.as_mut().is_some_and(|sight| sight.look(now));
        let free = self.free(gpus).cloned();
        if !self.may_try(free.as_ref(), now) {
            return (Verdict::Wait, has_changed);
        }
        let verdict = self.turn.go(free.as_ref(), now);
        if matches!(verdict, Verdict::Go(_)) {
            self.tried = Some(Tried { at: now, free: free.unwrap_or_default() });
        }
        (verdict, has_changed)
    }

    /// After a failure, only when more is free than was then, or after a while.
    fn may_try(&self, free: Option<&Free>, now: Instant) -> bool {
        let Some(tried) = &self.tried else { return true };
        let pause = if free.is_some() { AGAIN } else { BLIND };
        let has_grown =
            free.is_some_and(|free| free.iter().any(|(gpu, size)| tried.free.get(gpu).is_none_or(|then| size > then)));
        has_grown || now.saturating_duration_since(tried.at) >= pause
    }

    /// When to ask again, if nothing happens before.
    pub fn next_look(&self, now: Instant) -> Instant {
        let blind = || self.tried.as_ref().map_or(now, |tried| tried.at + BLIND).max(now + SOON);
        self.sight.as_ref().and_then(Sight::due).unwrap_or_else(blind)
    }

    /// Something happened that may have freed memory.
    pub fn hurry(&mut self) {
        self.line_seen = None;
        if let Some(sight) = &mut self.sight {
            sight.hurry(Instant::now());
        }
    }

    /// Learns what the contexts cost from the memory with them in place: from NVML, which names this process's own part,
    /// else from what has gone since the last look.
    pub fn learn<'a>(&mut self, opened: impl Iterator<Item = (&'a Wanted, Memory)>) {
        let (Some(sight), Some(tried)) = (&self.sight, &self.tried) else { return };
        for (wanted, memory) in opened {
            let gpu = wanted.device.uuid;
            let gone = tried.free.get(&gpu).map(|free| free.saturating_sub(memory.free));
            if let Some(cost) = sight.own_use(gpu).or(gone) {
                self.contexts.insert(gpu, cost.min(DEAREST_CONTEXT));
            }
        }
    }

    /// Learns from a failure that there was no room even for a context.
    pub fn learn_from(&mut self, failure: &HolderError) {
        if let HolderError::Gpu { gpu, source } = failure
            && source.error.is_out_of_memory()
        {
            let free = self.tried.as_ref().and_then(|tried| tried.free.get(&gpu.uuid)).copied().unwrap_or_default();
            let more = free.saturating_add(GRANULARITY).min(DEAREST_CONTEXT);
            let known = self.contexts.entry(gpu.uuid).or_default();
            *known = more.max(*known);
        }
    }

    /// Stands in line again.
    pub fn wait_again(&mut self, stage: Stage, gpus: &Gpus) {
        self.turn.wait_for(wish(stage, request(gpus, &self.contexts), &self.contexts));
        self.hurry();
    }

    /// Stands in line for the rest of what it grows to.
    pub fn grow_by(&mut self, rest: Request) {
        self.turn.wait_for(wish(Stage::Growing, rest, &self.contexts));
        self.hurry();
    }

    /// The last attempt brought something: the next one need not wait.
    pub fn forget_attempt(&mut self) {
        self.tried = None;
    }

    /// The GPUs on which a holder that grows has had for long what others ahead of it lack.
    pub fn owed(&mut self, held: &Free, now: Instant) -> Vec<GpuUuid> {
        let free = self.sight.as_ref().map(Sight::free);
        let owed = free.map(|free| self.turn.owed(held, free, now)).unwrap_or_default();
        self.owing = if owed.is_empty() { None } else { self.owing.or(Some(now)) };
        match self.owing {
            Some(since) if now.saturating_duration_since(since) >= OWED => owed,
            _ => Vec::new(),
        }
    }

    /// What a context on a GPU is known to cost.
    pub fn context(&self, gpu: GpuUuid) -> ByteSize {
        self.contexts.get(&gpu).copied().unwrap_or_default()
    }
}

fn wish(stage: Stage, request: Request, contexts: &BTreeMap<GpuUuid, ByteSize>) -> Wish {
    let are_known = request.gpus().all(|gpu| contexts.contains_key(&gpu));
    Wish { stage, request, margin: if are_known { ByteSize::ZERO } else { DEAREST_CONTEXT } }
}

/// What is asked of the line for these wishes.
fn request(gpus: &Gpus, contexts: &BTreeMap<GpuUuid, ByteSize>) -> Request {
    let want = |wanted: &Wanted| want(wanted, contexts.get(&wanted.device.uuid).copied().unwrap_or_default());
    match gpus {
        Gpus::These(wanted) => Request::These(wanted.iter().map(|wanted| (wanted.device.uuid, want(wanted))).collect()),
        Gpus::Any(among) => {
            let candidate = |wishes: &Vec<Wanted>| {
                let gpu = wishes.first()?.device.uuid;
                Some((gpu, wishes.iter().map(want).collect()))
            };
            Request::Any(among.iter().filter_map(candidate).collect())
        }
    }
}

/// A wish as the line counts it, with the cost of its context.
pub(super) fn want(wanted: &Wanted, context: ByteSize) -> Want {
    let least = |rest: ByteSize| Want::Share(rest.saturating_add(GRANULARITY).saturating_add(context));
    match fixed(wanted) {
        Some(size) => Want::Bytes(size.saturating_add(context)),
        None => match wanted.amount {
            Amount::AllBut(rest) => least(rest),
            _ => least(ByteSize::ZERO),
        },
    }
}

/// The bytes of a wish that does not depend on what is free.
pub(super) fn fixed(wanted: &Wanted) -> Option<ByteSize> {
    match wanted.amount {
        Amount::Bytes(_) | Amount::ShareOfTotal(_) => {
            let memory = units::Memory { free: wanted.total, total: wanted.total, held: ByteSize::ZERO };
            wanted.amount.resolve(&memory, None, GRANULARITY).ok()
        }
        Amount::ShareOfFree(_) | Amount::All | Amount::AllBut(_) | Amount::Auto => None,
    }
}
