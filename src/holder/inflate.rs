//! From nothing to everything held: one attempt on all GPUs of the holder, and the way in and out of it.

use std::time::{Duration, Instant, SystemTime};

use crate::control::wire::{Answer, Request, State};
use crate::gpu::{GRANULARITY, Memory};
use crate::holder::orders::{Order, Report};
use crate::holder::plan::{HolderError, Manner, OnShort, Shortfall};
use crate::holder::seat::Seat;
use crate::holder::waiting::Watched;
use crate::holder::worker::Worker;
use crate::holder::{Event, Holder, Progress};
use crate::units::{self, ByteSize};

/// How often a watcher of the inflation is told.
const PROGRESS: Duration = Duration::from_millis(100);

/// How often those behind in the line are told what is still to be allocated.
const CLAIMS: Duration = Duration::from_secs(1);

/// Who is told how far it is.
pub type Watch<'a> = &'a mut dyn FnMut(Watched<'_>);

impl Holder {
    /// Inflates on all GPUs at the same time: everything, or, unless the plan keeps what fits, nothing. Waits for memory
    /// before if the plan says so. Tells `watch` how far it is, if there is one.
    ///
    /// # Errors
    /// The memory is not available, a driver call failed, or the holder was told to stop. Everything was given back.
    pub fn inflate(&mut self, mut watch: Option<Watch<'_>>) -> Result<Vec<Shortfall>, HolderError> {
        self.join_line();
        let outcome = match self.plan.waiting.map(|waiting| waiting.manner) {
            Some(Manner::PieceByPiece) => self.grow(&mut watch),
            Some(Manner::AllAtOnce) | None => self.take(&mut watch),
        };
        match outcome {
            Ok(mut shortfalls) => {
                self.leave_line();
                for seat in &self.seats {
                    tracing::info!(gpu = seat.ordinal(), held = %seat.held(), "inflated");
                }
                shortfalls.sort_by_key(|short| self.seats.iter().position(|seat| seat.uuid() == short.uuid));
                self.state = State::Holding;
                self.ends = self.plan.timeout.and_then(|timeout| {
                    Some((Instant::now().checked_add(timeout)?, SystemTime::now().checked_add(timeout)?))
                });
                Ok(shortfalls)
            }
            Err(error) => {
                self.deflate()?;
                self.leave_line();
                Err(error)
            }
        }
    }

    /// One attempt to hold what is wanted on all seats.
    pub(super) fn attempt(
        &mut self,
        on_short: OnShort,
        watch: &mut Option<Watch<'_>>,
    ) -> Result<Vec<Shortfall>, HolderError> {
        self.state = State::Inflating;
        let all: Vec<usize> = (0..self.seats.len()).collect();
        let mut memory = self.open(&all)?;
        if let Some(in_line) = &mut self.in_line {
            in_line.learn(self.seats.iter().map(|seat| &seat.wanted).zip(memory.iter().copied()));
            for (seat, memory) in self.seats.iter().zip(&mut memory).filter(|_| in_line.spoken_for) {
                memory.free = memory.free.saturating_sub(in_line.turn.claimed_by_others(seat.uuid()));
            }
        }
        let targets = self.targets(&memory)?;
        let short: Vec<Shortfall> = all
            .iter()
            .map(|&index| (index, self.needed(index, targets[index]), memory[index].free))
            .filter(|(_, needed, free)| needed > free)
            .map(|(index, needed, free)| self.shortfall(index, needed, free))
            .collect();
        if !short.is_empty() && on_short == OnShort::GiveBack {
            return Err(HolderError::NotAvailable(short));
        }
        for (seat, &target) in self.seats.iter().zip(&targets) {
            let settles = on_short == OnShort::GiveBack && seat.wanted.amount.is_of_free();
            let on_short = if settles { OnShort::Settle } else { on_short };
            seat.tell(Order::Reserve { target, chunk_size: self.plan.chunk_size, on_short });
        }
        // Who has a target reports by itself what it lacks of it.
        let mut shortfalls: Vec<Shortfall> = short
            .into_iter()
            .filter(|short| {
                self.seats.iter().zip(&targets).any(|(seat, target)| seat.uuid() == short.uuid && target.is_zero())
            })
            .collect();
        shortfalls.extend(self.await_held(&all, &targets, on_short, watch)?);
        if !shortfalls.is_empty() && self.held().is_zero() {
            Err(HolderError::NotAvailable(shortfalls))
        } else {
            Ok(shortfalls)
        }
    }

    /// What must be free for a seat to come to its target; where that is nothing, for it to hold anything at all.
    fn needed(&self, index: usize, target: ByteSize) -> ByteSize {
        if target.is_zero() { self.seats[index].wanted.amount.least(GRANULARITY) } else { target }
    }

    /// What the wishes come to with this memory.
    fn targets(&self, memory: &[Memory]) -> Result<Vec<ByteSize>, HolderError> {
        self.seats.iter().zip(memory).map(|(seat, memory)| target(seat, *memory)).collect()
    }

    /// Waits until the workers of these seats, each with its target, have reported. Returns where something is missing,
    /// or ends with the first such report if nothing is to be kept then.
    pub(super) fn await_held(
        &mut self,
        seats: &[usize],
        targets: &[ByteSize],
        on_short: OnShort,
        watch: &mut Option<Watch<'_>>,
    ) -> Result<Vec<Shortfall>, HolderError> {
        let mut shortfalls = Vec::new();
        let mut left = seats.len();
        let mut next_claims = Instant::now();
        while left > 0 {
            if next_claims <= Instant::now() {
                self.tell_claims(seats, targets);
                next_claims = Instant::now() + CLAIMS;
            }
            let progress = watch.is_some().then(|| Instant::now() + PROGRESS);
            match self.next(Some(progress.map_or(next_claims, |progress| progress.min(next_claims))))? {
                Event::Report(_, Report::Held) => left -= 1,
                Event::Report(index, Report::Short { missing, .. }) => {
                    left -= 1;
                    let target = seats.iter().position(|&seat| seat == index).map_or(missing, |at| targets[at]);
                    // What the driver reports by now has the pieces in it that were given back.
                    let shortfall = self.shortfall(index, target, target.saturating_sub(missing));
                    if on_short == OnShort::GiveBack {
                        return Err(HolderError::NotAvailable(vec![shortfall]));
                    }
                    shortfalls.push(shortfall);
                }
                event => self.unless_it_ends(event)?,
            }
            if let Some(watch) = watch {
                watch(Watched::Inflating(&self.progress()));
            }
        }
        Ok(shortfalls)
    }

    /// Tells those behind in the line what is still to be allocated.
    fn tell_claims(&mut self, seats: &[usize], targets: &[ByteSize]) {
        let left = |(&seat, &target): (&usize, &ByteSize)| {
            let seat = &self.seats[seat];
            (seat.uuid(), target.saturating_sub(seat.held()))
        };
        let claims = seats.iter().zip(targets).map(left).collect();
        if let Some(in_line) = &mut self.in_line {
            in_line.turn.claims(claims);
        }
    }

    /// Starts the workers of these seats, and returns the memory of each with its context in place.
    pub(super) fn open(&mut self, seats: &[usize]) -> Result<Vec<Memory>, HolderError> {
        for &index in seats {
            let (device, reports) = (self.seats[index].wanted.device.clone(), self.reports.clone());
            self.seats[index].worker = Some(Worker::start(index, device, self.plan.backing, reports)?);
        }
        let mut memory = vec![None; seats.len()];
        while memory.contains(&None) {
            match self.next(None)? {
                Event::Report(index, Report::Opened(opened)) => {
                    let gpu = self.seats[index].ordinal();
                    tracing::debug!(gpu, free = %opened.free, total = %opened.total, "opened");
                    if let Some(at) = seats.iter().position(|&seat| seat == index) {
                        memory[at] = Some(opened);
                    }
                }
                event => self.unless_it_ends(event)?,
            }
        }
        Ok(memory.into_iter().flatten().collect())
    }

    /// Turns an event before everything is held into the error that ends it, where it does.
    pub(super) fn unless_it_ends(&mut self, event: Event) -> Result<(), HolderError> {
        match event {
            Event::Signal(received) if self.events.signals.would_end_us(&received) => {
                Err(HolderError::Signal(received))
            }
            Event::Exited => Err(HolderError::Exited),
            Event::Request(asker, Request::Release { .. }) => {
                self.released_by.push(asker);
                Err(HolderError::Released)
            }
            Event::Request(asker, _) => {
                let error = "the balloon is not inflated yet; try again once it is".to_owned();
                self.events.answer(asker, Answer::Refused { error });
                Ok(())
            }
            Event::Report(index, Report::Failed(source)) => {
                let seat = &self.seats[index];
                Err(HolderError::Gpu { gpu: seat.wanted.device.clone(), source })
            }
            Event::Report(..) | Event::Signal(_) | Event::JobEnded | Event::Woken(_) | Event::Deadline => Ok(()),
        }
    }

    pub(super) fn shortfall(&self, index: usize, wanted: ByteSize, free: ByteSize) -> Shortfall {
        let seat = &self.seats[index];
        let missing = wanted.saturating_sub(free);
        Shortfall { ordinal: seat.ordinal(), uuid: seat.uuid(), wanted, free, missing }
    }

    fn progress(&self) -> Vec<Progress> {
        let progress = |seat: &Seat| Progress { ordinal: seat.ordinal(), held: seat.held(), target: seat.target() };
        self.seats.iter().map(progress).collect()
    }
}

/// What the wish of a seat comes to with this memory; nothing where nothing is free.
pub(super) fn target(seat: &Seat, memory: Memory) -> Result<ByteSize, HolderError> {
    let memory = units::Memory { free: memory.free, total: memory.total, held: seat.held() };
    match seat.wanted.amount.resolve(&memory, seat.wanted.utilization, GRANULARITY) {
        Ok(target) => Ok(target),
        Err(error) if error.is_shortage() => Ok(ByteSize::ZERO),
        Err(error) => Err(HolderError::Size(error)),
    }
}
