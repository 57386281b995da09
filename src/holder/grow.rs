//! `--greedy`: taking what is free now and growing as others leave, until everything is held.
//!
//! Only the first in line on a GPU takes there, so that of two such holders one finishes after the other.

use std::time::Instant;

use crate::gpu::{GRANULARITY, GpuUuid, Memory};
use crate::holder::Holder;
use crate::holder::bench::GIVEN_TO_NOBODY;
use crate::holder::in_line::{fixed, want};
use crate::holder::inflate::{Watch, target};
use crate::holder::orders::Order;
use crate::holder::plan::{Gpus, HolderError, OnShort, Shortfall};
use crate::holder::seat::Seat;
use crate::line::policy::{EVERYTHING, Free, Grant, Request, Want};
use crate::units::ByteSize;

impl Holder {
    /// Grows until everything is held, or until the time is over.
    pub(super) fn grow(&mut self, watch: &mut Option<Watch<'_>>) -> Result<Vec<Shortfall>, HolderError> {
        let until = self.plan.waiting.and_then(|waiting| waiting.until);
        self.settle_on_gpus(watch)?;
        for seat in &mut self.seats {
            seat.goal = fixed(&seat.wanted);
        }
        self.ask_for_the_rest();
        while self.seats.iter().any(|seat| !is_full(seat)) {
            let now = Instant::now();
            if let Some(grant) = self.ask_line(now, watch)? {
                self.take_pieces(&grant, watch)?;
                self.ask_for_the_rest();
            } else if until.is_some_and(|until| until <= now) {
                return self.stop_growing();
            } else if !self.give_back_what_is_owed(now)? {
                self.await_change(now, until)?;
            }
        }
        for seat in &mut self.seats {
            seat.goal = None;
        }
        Ok(Vec::new())
    }

    /// Of any GPUs, those on which everything fits now, else those with the most free memory.
    fn settle_on_gpus(&mut self, watch: &mut Option<Watch<'_>>) -> Result<(), HolderError> {
        if !matches!(self.plan.gpus, Gpus::Any(_)) {
            return Ok(());
        }
        let grant = self.ask_line(Instant::now(), watch)?.unwrap_or_else(|| self.most_free());
        self.seat(&grant);
        self.plan.gpus = Gpus::These(self.seats.iter().map(|seat| seat.wanted.clone()).collect());
        if let Some(in_line) = &mut self.in_line {
            in_line.narrow(&self.plan.gpus);
        }
        Ok(())
    }

    /// Stands in line for what is still missing.
    fn ask_for_the_rest(&mut self) {
        let Some(in_line) = &mut self.in_line else { return };
        let rest = self.seats.iter().filter(|seat| !is_full(seat)).map(|seat| {
            let context = if seat.worker.is_some() { ByteSize::ZERO } else { in_line.context(seat.uuid()) };
            let rest = match seat.goal {
                Some(goal) => Want::Bytes(goal.saturating_sub(seat.held()).saturating_add(context)),
                None => want(&seat.wanted, context),
            };
            (seat.uuid(), rest)
        });
        in_line.grow_by(Request::These(rest.collect()));
    }

    /// Takes what was granted, or as much of it as there is.
    fn take_pieces(&mut self, grant: &Grant, watch: &mut Option<Watch<'_>>) -> Result<(), HolderError> {
        let before = self.held();
        let at = |(gpu, size): &(_, _)| Some((self.seats.iter().position(|seat| seat.uuid() == *gpu)?, *size));
        // Where a context would take all of the piece, and more from others, none is opened.
        let is_worth_it = |(index, size): &(usize, ByteSize)| {
            self.seats[*index].worker.is_some() || *size > self.context(self.seats[*index].uuid())
        };
        let pieces: Vec<(usize, ByteSize)> = grant.iter().filter_map(at).filter(is_worth_it).collect();
        let opened = self.open_first(&pieces)?;
        let pieces = pieces.into_iter().filter(|(index, _)| self.seats[*index].worker.is_some());
        let pieces: Vec<(usize, ByteSize)> = pieces.collect();
        let mut targets = Vec::new();
        for (index, granted) in &pieces {
            let memory = opened.iter().find(|(opened, _)| opened == index).map(|(_, memory)| *memory);
            targets.push(self.next_target(*index, *granted, memory)?);
        }
        let seats: Vec<usize> = pieces.iter().map(|(index, _)| *index).collect();
        for (&index, &target) in seats.iter().zip(&targets) {
            let chunk_size = self.plan.chunk_size;
            self.seats[index].tell(Order::Reserve { target, chunk_size, on_short: OnShort::Keep });
        }
        self.await_held(&seats, &targets, OnShort::Keep, watch)?;
        for seat in &mut self.seats {
            // What could be had of all that is free is all.
            let missing = seat.goal.map_or(ByteSize::ZERO, |goal| goal.saturating_sub(seat.held()));
            if seat.wanted.amount.is_of_free() && missing <= GIVEN_TO_NOBODY {
                seat.goal = seat.goal.map(|_| seat.held());
            }
        }
        if self.held() > before
            && let Some(in_line) = &mut self.in_line
        {
            in_line.forget_attempt();
        }
        Ok(())
    }

    /// Opens the contexts of those seats that have none yet. A GPU without room for one is tried again later.
    fn open_first(&mut self, pieces: &[(usize, ByteSize)]) -> Result<Vec<(usize, Memory)>, HolderError> {
        let unopened = pieces.iter().map(|(index, _)| *index).filter(|index| self.seats[*index].worker.is_none());
        let unopened: Vec<usize> = unopened.collect();
        match self.open(&unopened) {
            Ok(memory) => {
                if let Some(in_line) = &mut self.in_line {
                    let wanted = unopened.iter().map(|index| &self.seats[*index].wanted);
                    in_line.learn(wanted.zip(memory.iter().copied()));
                }
                Ok(unopened.into_iter().zip(memory).collect())
            }
            Err(error) if self.may_wait_on(&error) => {
                let (_, ended) = self.free_seats(&unopened, Seat::dismiss)?;
                if let Some(in_line) = &mut self.in_line {
                    in_line.learn_from(&error);
                }
                ended.map_or(Ok(Vec::new()), Err)
            }
            Err(error) => Err(error),
        }
    }

    /// How large a seat may be with this piece. `memory` is what its context, just opened, showed.
    fn next_target(
        &mut self,
        index: usize,
        granted: ByteSize,
        memory: Option<Memory>,
    ) -> Result<ByteSize, HolderError> {
        let seat = &mut self.seats[index];
        let goal = match (seat.goal, memory) {
            (Some(goal), _) => goal,
            // Where nothing is free now, the least that can be.
            (None, Some(memory)) => target(seat, memory)?.max(GRANULARITY),
            // A share whose resolution did not fit: what was missing is asked for again.
            (None, None) => seat.target(),
        };
        seat.goal = Some(goal);
        // A context that was just opened has taken its part of the piece.
        let (context, there) = match memory {
            Some(memory) => (self.context(self.seats[index].uuid()), memory.free),
            None => (ByteSize::ZERO, EVERYTHING),
        };
        let piece = granted.saturating_sub(context).min(there).round_down(GRANULARITY);
        Ok(self.seats[index].held().saturating_add(piece).min(goal))
    }

    /// What the context on a GPU is known to cost.
    fn context(&self, gpu: GpuUuid) -> ByteSize {
        self.in_line.as_ref().map_or(ByteSize::ZERO, |in_line| in_line.context(gpu))
    }

    /// Gives back where others ahead in line lack what this holder has: someone outside the line took what was kept for
    /// them. Says whether that was so.
    fn give_back_what_is_owed(&mut self, now: Instant) -> Result<bool, HolderError> {
        let held: Free = self.seats.iter().map(|seat| (seat.uuid(), seat.held())).collect();
        let owed = self.in_line.as_mut().map(|in_line| in_line.owed(&held, now)).unwrap_or_default();
        let seats: Vec<usize> = (0..self.seats.len()).filter(|&at| owed.contains(&self.seats[at].uuid())).collect();
        if seats.is_empty() {
            return Ok(false);
        }
        let (released, ended) = self.free_seats(&seats, Seat::dismiss)?;
        tracing::info!(freed = %released.freed, "given back to others ahead in line");
        self.ask_for_the_rest();
        ended.map_or(Ok(true), Err)
    }

    /// The time is over: everything is given back, or what is there is kept.
    fn stop_growing(&mut self) -> Result<Vec<Shortfall>, HolderError> {
        if self.plan.on_short == OnShort::GiveBack || self.held().is_zero() {
            return Err(self.not_in_time());
        }
        let shortfalls = self.lack().map(|lack| lack.shortfalls).unwrap_or_default();
        for seat in &mut self.seats {
            seat.goal = None;
            seat.is_released = seat.worker.is_none();
        }
        Ok(shortfalls)
    }
}

fn is_full(seat: &Seat) -> bool {
    seat.goal.is_some_and(|goal| seat.held() >= goal)
}
