//! Waiting for memory: the loop of a holder in line, and what happens when an attempt fails all the same.
//!
//! No CUDA context is opened before the whole request fits by NVML's figures. The context itself costs memory, which is
//! not known before the first one: it is learned from the attempt that fails for it, and counted from then on. Where there
//! is no NVML, the first in line finds out by an attempt every now and then.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::control::registry::{self, Registered};
use crate::control::wire::State;
use crate::gpu::GpuUuid;
use crate::holder::in_line::{InLine, fixed, want};
use crate::holder::inflate::Watch;
use crate::holder::plan::{Gpus, HolderError, OnShort, Shortfall, Waiting, Wanted};
use crate::holder::seat::Seat;
use crate::holder::{Event, Holder, Progress, describe_in};
use crate::line::policy::{Grant, Stage, Want};
use crate::line::sight::Crowd;
use crate::line::verdict::Verdict;
use crate::line::{Wakes, Woken};
use crate::units::{Amount, ByteSize};

/// What a watcher sees before everything is held.
pub enum Watched<'a> {
    Waiting(&'a Lack),
    Inflating(&'a [Progress]),
}

/// What a waiting holder lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    pub shortfalls: Vec<Shortfall>,
    /// The place in line, 1 for the first.
    pub place: Option<u32>,
    /// Who is on those GPUs.
    pub crowd: Crowd,
}

impl Holder {
    pub(super) fn join_line(&mut self) {
        let directory = self.registered.as_ref().map(Registered::directory);
        let stage = match self.plan.waiting {
            None => Stage::Now,
            Some(_) => Stage::Waiting,
        };
        self.in_line = Some(InLine::join(directory, self.name.as_str(), stage, &self.plan));
    }

    /// Leaves the line, and tells those behind by that.
    pub(super) fn leave_line(&mut self) {
        self.in_line = None;
        self.events.wakes = None;
    }

    /// Takes everything at once, as soon as the line and the memory let it.
    pub(super) fn take(&mut self, watch: &mut Option<Watch<'_>>) -> Result<Vec<Shortfall>, HolderError> {
        loop {
            let on_short = self.wait_for_turn(watch)?;
            match self.attempt(on_short, watch) {
                Err(error) if self.may_wait_on(&error) => self.step_back(&error)?,
                Err(HolderError::NotAvailable(shortfalls)) if self.plan.waiting.is_some() => {
                    return Err(HolderError::NotInTime { shortfalls, ahead: 0 });
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits until this holder may go, and seats it on its GPUs. Says what is to become of a part when not all fits.
    fn wait_for_turn(&mut self, watch: &mut Option<Watch<'_>>) -> Result<OnShort, HolderError> {
        let Some(waiting) = self.plan.waiting else { return self.wait_for_others() };
        loop {
            let now = Instant::now();
            if let Some(grant) = self.ask_line(now, watch)? {
                self.seat(&grant);
                return Ok(OnShort::GiveBack);
            }
            if waiting.until.is_some_and(|until| until <= now) {
                return self.run_out_of_time();
            }
            self.await_change(now, waiting.until)?;
        }
    }

    /// A holder that does not wait lets those finish who are taking memory on its GPUs.
    fn wait_for_others(&mut self) -> Result<OnShort, HolderError> {
        loop {
            let now = Instant::now();
            let Some(in_line) = &mut self.in_line else { return Ok(self.plan.on_short) };
            match in_line.ask_now(&self.plan.gpus, now) {
                Verdict::Go(grant) => {
                    self.seat(&grant);
                    return Ok(self.plan.on_short);
                }
                Verdict::NoFit => return self.take_most_free(),
                Verdict::Wait => self.need_sight_to_choose()?,
            }
            self.await_change(now, None)?;
        }
    }

    /// Asks the line, and tells the watcher and the sources of events what has changed.
    pub(super) fn ask_line(
        &mut self,
        now: Instant,
        watch: &mut Option<Watch<'_>>,
    ) -> Result<Option<Grant>, HolderError> {
        let Some(in_line) = &mut self.in_line else { return Ok(None) };
        let (verdict, has_changed) = in_line.ask_waiting(&self.plan.gpus, now);
        self.need_sight_to_choose()?;
        if let Verdict::Go(grant) = verdict {
            return Ok(Some(grant));
        }
        self.refuse_what_never_fits()?;
        if has_changed {
            self.look_around();
        }
        self.state = State::Waiting;
        if let Some(watch) = watch
            && let Some(lack) = self.lack()
        {
            watch(Watched::Waiting(&lack));
        }
        Ok(None)
    }

    /// Sleeps until something happens that may have freed memory, or until it is time to look again.
    pub(super) fn await_change(&mut self, now: Instant, until: Option<Instant>) -> Result<(), HolderError> {
        if self.events.wakes.is_none() {
            // Most holders never wait, and a watch costs them milliseconds. What changed before it is seen by another look.
            self.events.wakes = Some(Wakes::new(self.registered.as_ref().map(Registered::directory)));
            self.look_around();
            return Ok(());
        }
        let Some(in_line) = &self.in_line else { return Ok(()) };
        let next = in_line.next_look(now);
        match self.next(Some(until.map_or(next, |until| until.min(next))))? {
            Event::Woken(Woken { by_exit, .. }) => {
                if let Some(in_line) = &mut self.in_line {
                    in_line.hurry();
                }
                if by_exit {
                    self.look_around();
                }
                Ok(())
            }
            event => self.unless_it_ends(event),
        }
    }

    /// Sees who is on the GPUs, to be woken when one of them ends.
    fn look_around(&mut self) {
        let hears_balloons = self.events.wakes.as_ref().is_some_and(Wakes::hears_balloons);
        let registered = self.registered.as_ref().filter(|_| hears_balloons);
        let entries = registered.and_then(|registered| registry::live(registered.directory()).ok()).unwrap_or_default();
        let own: BTreeSet<u32> = entries.into_iter().filter_map(|entry| Some(entry.registration?.pid)).collect();
        let Some(sight) = self.in_line.as_mut().and_then(|in_line| in_line.sight(&self.plan.gpus)) else { return };
        sight.look_around(&own);
        let pids = sight.crowd().values().flatten().map(|process| process.pid);
        let others = pids.filter(|pid| *pid != std::process::id()).collect();
        if let Some(wakes) = &mut self.events.wakes {
            wakes.watch_exits(&others);
        }
    }

    /// Waiting for more than a GPU has, now that the cost of the context is known, would only keep others from it.
    fn refuse_what_never_fits(&self) -> Result<(), HolderError> {
        let Some((in_line, sight)) = self.in_line.as_ref().and_then(|in_line| Some((in_line, in_line.seen()?))) else {
            return Ok(());
        };
        for wanted in self.plan.gpus.chosen() {
            let (ordinal, gpu) = (wanted.device.ordinal, wanted.device.uuid);
            if let (Some(size), Some(most)) = (fixed(wanted), sight.most(gpu)) {
                let most = most.saturating_sub(in_line.context(gpu));
                if size > most {
                    return Err(HolderError::NeverFits { ordinal, wanted: size, most });
                }
            }
        }
        Ok(())
    }

    /// Without NVML nobody can tell which GPUs have the memory.
    fn need_sight_to_choose(&mut self) -> Result<(), HolderError> {
        match (&self.plan.gpus, self.in_line.as_mut().and_then(InLine::blindness)) {
            (Gpus::Any(_), Some(error)) => Err(HolderError::CannotChoose(error)),
            (Gpus::These(_), Some(error)) if self.plan.waiting.is_some() => {
                tracing::warn!(%error, "without NVML only an attempt every other second tells whether the memory is free");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the granted GPUs for its own.
    pub(super) fn seat(&mut self, grant: &Grant) {
        if let Gpus::Any(among) = &self.plan.gpus {
            let seat = |(rank, (gpu, _)): (usize, &(GpuUuid, ByteSize))| {
                let wishes = among.iter().find(|wishes| wishes.iter().any(|wanted| wanted.device.uuid == *gpu))?;
                wishes.get(rank).cloned().map(Seat::new)
            };
            self.seats = grant.iter().enumerate().filter_map(seat).collect();
            if let Some(registered) = &mut self.registered {
                describe_in(registered, &self.plan, self.started_at, self.seats.iter().map(Seat::uuid));
            }
        }
        let Some(sight) = self.in_line.as_ref().and_then(InLine::seen) else { return };
        for seat in self.seats.iter_mut().filter(|seat| seat.wanted.amount == Amount::Auto) {
            seat.wanted.utilization = sight.utilization(seat.uuid()).or(seat.wanted.utilization);
        }
    }

    /// The time is over: all or nothing says no, best effort takes what there is.
    fn run_out_of_time(&mut self) -> Result<OnShort, HolderError> {
        match self.plan.on_short {
            OnShort::Keep | OnShort::Settle => self.take_most_free(),
            OnShort::GiveBack => Err(self.not_in_time()),
        }
    }

    pub(super) fn not_in_time(&self) -> HolderError {
        let lack = self.lack();
        let ahead = lack.as_ref().and_then(|lack| lack.place).map_or(0, |place| place - 1);
        HolderError::NotInTime { shortfalls: lack.map(|lack| lack.shortfalls).unwrap_or_default(), ahead }
    }

    /// It does not fit. Where a part is worth keeping, the GPUs with the most free memory are taken.
    fn take_most_free(&mut self) -> Result<OnShort, HolderError> {
        if self.plan.on_short == OnShort::GiveBack {
            return Err(HolderError::NotAvailable(self.lack().map(|lack| lack.shortfalls).unwrap_or_default()));
        }
        let grant = self.most_free();
        self.seat(&grant);
        Ok(OnShort::Keep)
    }

    /// The GPUs with the most free memory of those that may be used, as many as are wanted.
    pub(super) fn most_free(&self) -> Grant {
        let Gpus::Any(among) = &self.plan.gpus else { return Grant::new() };
        let free = |gpu| self.in_line.as_ref().and_then(InLine::seen).and_then(|sight| sight.free().get(&gpu).copied());
        let gpus = self.plan.gpus.all().map(|wanted| wanted.device.uuid);
        let mut gpus: Grant = gpus.map(|gpu| (gpu, free(gpu).unwrap_or_default())).collect();
        gpus.sort_by_key(|(_, free)| std::cmp::Reverse(*free));
        gpus.truncate(among.first().map_or(0, Vec::len));
        gpus
    }

    /// Whether to wait on after this failure.
    pub(super) fn may_wait_on(&self, error: &HolderError) -> bool {
        let in_time =
            self.plan.waiting.is_some_and(|Waiting { until, .. }| until.is_none_or(|until| Instant::now() < until));
        in_time
            && match error {
                HolderError::NotAvailable(_) => true,
                HolderError::Gpu { source, .. } => source.error.is_out_of_memory() || source.error.is_unavailable(),
                _ => false,
            }
    }

    /// Gives everything back, the contexts too, and stands in line again at the same place.
    fn step_back(&mut self, error: &HolderError) -> Result<(), HolderError> {
        tracing::info!(%error, "waiting on");
        let all: Vec<usize> = (0..self.seats.len()).collect();
        let (_, ended) = self.free_seats(&all, Seat::dismiss)?;
        if let Some(in_line) = &mut self.in_line {
            in_line.learn_from(error);
            in_line.wait_again(Stage::Waiting, &self.plan.gpus);
        }
        if matches!(self.plan.gpus, Gpus::Any(_)) {
            self.seats.clear();
        }
        ended.map_or(Ok(()), Err)
    }

    /// What is missing, as far as NVML tells.
    pub(super) fn lack(&self) -> Option<Lack> {
        let in_line = self.in_line.as_ref()?;
        let sight = in_line.seen()?;
        let shortfall = |wanted: &Wanted| {
            let (ordinal, uuid) = (wanted.device.ordinal, wanted.device.uuid);
            let held = self.seats.iter().find(|seat| seat.uuid() == uuid).map_or(ByteSize::ZERO, Seat::held);
            let (Want::Bytes(size) | Want::Share(size)) = want(wanted, ByteSize::ZERO);
            let context = if held.is_zero() { in_line.context(uuid) } else { ByteSize::ZERO };
            let there = sight.free().get(&uuid)?.saturating_sub(in_line.turn.claimed_by_others(uuid));
            let free = there.saturating_sub(context).saturating_add(held);
            let missing = size.saturating_sub(free);
            (!missing.is_zero()).then_some(Shortfall { ordinal, uuid, wanted: size, free, missing })
        };
        let shortfalls: Vec<Shortfall> = self.plan.gpus.all().filter_map(shortfall).collect();
        let crowd = sight.crowd().clone();
        Some(Lack { shortfalls, place: self.place_in_line(), crowd })
    }

    /// The place in line of a waiting holder.
    pub(super) fn place_in_line(&self) -> Option<u32> {
        self.in_line.as_ref().and_then(|in_line| in_line.turn.place()).filter(|_| self.state == State::Waiting)
    }
}
