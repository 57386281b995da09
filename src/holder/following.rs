//! How a balloon follows the job it is for: job and balloon together stay at the reservation.
//!
//! The job allocates first and the balloon gives way afterwards, so that no memory is up for grabs in between. Whole chunks
//! go at once; the rest, which must be split off a chunk, when the job has been quiet for a moment. What the job frees is
//! taken back a little later, because jobs often free and allocate anew.

use std::time::{Duration, Instant};

use crate::balloon::Space;
use crate::gpu::{CallError, GRANULARITY};
use crate::handover::{JobUse, Need, Reply, Yielded};
use crate::holder::bench::{Bench, Task};
use crate::units::ByteSize;

/// How long the job must be quiet before the balloon is trimmed to the byte.
const QUIET: Duration = Duration::from_millis(10);
/// How long freed memory of the job is left to it, unless others might take it.
const HYSTERESIS: Duration = Duration::from_millis(40);
/// The same after a turn, when NVML has yet to tell what a context took.
const AFTER_TURN: Duration = Duration::from_millis(200);
/// How often memory that somebody else was faster to take is tried for again, and the first pause between two tries, which
/// doubles. After that only when the job's use changes.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What is freed at least where nobody knows how much is needed; chunks that are lent are smaller.
const GUESS: ByteSize = ByteSize::new(64 << 20);

/// How many times over what the job needs may go to others in one turn before it is told no. By bytes: with what must be
/// freed of a larger chunk, a single lost race may cost more than was needed.
const LOST_TIMES: u64 = 16;
/// How many chunks may go where the job needs little: the rest of a chunk is seldom lost as well.
const LOST_CHUNKS: u64 = 4;

/// How many times over headroom that was kept of what came free may be lost. After that others who take it get no more of it.
const HEADROOMS: u64 = 2;

/// Where the following of one GPU's job stands.
#[derive(Debug, Default)]
pub struct Following {
    pub job: JobUse,
    /// During a turn, from the driver's refusal to the job's allocation: what the job holds and what way was given to. The
    /// balloon then grows by nothing: all that is free may be what the job is about to take.
    promised: Option<ByteSize>,
    /// What was the job's, the balloon's or free when the turn began. What is missing of that later, others have.
    outset: Option<ByteSize>,
    /// Whether the GPU is so full that the headroom has to be kept free.
    pub needs_headroom: bool,
    /// What was last kept free of what came free, and what has gone of that so far.
    kept: ByteSize,
    lost: ByteSize,
    failures: u32,
}

impl Following {
    /// Kept headroom that is no longer free was taken by the job, which then holds more and makes the balloon give way to it
    /// anew, or by others.
    fn see(&mut self, free: ByteSize) {
        self.lost = self.lost.saturating_add(self.kept.saturating_sub(free));
        self.kept = self.kept.min(free);
    }
}

/// What was freed for the job, and what of it is too much.
#[derive(Default)]
struct Way {
    freed: ByteSize,
    surplus: ByteSize,
}

impl<S: Space> Bench<'_, S> {
    /// The balloon's part of the reservation.
    pub(super) fn share(&self) -> ByteSize {
        let Following { job, promised, needs_headroom, .. } = &self.following;
        let headroom = if *needs_headroom { job.headroom } else { ByteSize::ZERO };
        self.reservation.saturating_sub(self.job_has().max(promised.unwrap_or_default())).saturating_sub(headroom)
    }

    /// What the job has of the reservation: its own memory and what it has borrowed.
    pub(super) fn job_has(&self) -> ByteSize {
        self.following.job.holds.saturating_add(self.balloon.lent())
    }

    /// What the job uses, whether or not that has changed: others may have.
    pub(super) fn follow_job(&mut self, job: JobUse) {
        let before = (self.following.job, self.balloon.target());
        self.following.job = job;
        self.look_for_headroom();
        self.balloon.set_target(self.share());
        if before != (job, self.balloon.target()) {
            self.following.failures = 0;
            self.head_for_share(HYSTERESIS);
        } else if matches!(self.task, Task::Idle) {
            // What others took before may have come free by now: one try.
            self.following.failures = TRIES;
            self.head_for_share(HYSTERESIS);
        }
    }

    /// A turn is over: what the job did not take after all is the balloon's again.
    pub(super) fn settle(&mut self, job: JobUse) {
        self.following.promised = None;
        self.following.outset = None;
        self.following.job = job;
        self.following.failures = 0;
        self.look_for_headroom();
        self.balloon.set_target(self.share());
        self.head_for_share(AFTER_TURN);
    }

    /// Frees as little as makes room for what is needed beside what is free, best fit first; at least one chunk, because what
    /// is free already was not enough. Tells `reply` as soon as it is freed, and takes back what was too much.
    ///
    /// What is missing goes in one go, since each chunk is up for grabs until the job has it all; and no more, whatever others
    /// take meanwhile. Nothing goes any more once others have taken too much of this turn.
    pub(super) fn give_way(&mut self, need: Need, reply: Reply<Yielded>) {
        let Some(way) = self.free_for(need) else { return reply(None) };
        let had = self.following.promised.unwrap_or_default().max(self.job_has());
        self.following.promised = Some(had.saturating_add(way.freed).saturating_sub(way.surplus));
        self.balloon.set_target(self.share());
        let yielded = Some(if way.freed.is_zero() { Yielded::Nothing } else { Yielded::Room });
        let needed = way.freed.saturating_sub(way.surplus);
        // Whatever is more goes first: both are up for grabs.
        if way.surplus > needed {
            self.take_back(way.surplus, needed);
            reply(yielded);
        } else {
            reply(yielded);
            self.take_back(way.surplus, needed);
        }
    }

    fn take_back(&mut self, surplus: ByteSize, needed: ByteSize) {
        if let Err(error) = self.balloon.take_back_in_pieces(surplus, needed) {
            tracing::warn!(%error, "balloon not inflated again");
        }
    }

    fn free_for(&mut self, need: Need) -> Option<Way> {
        let free = self.balloon.memory().ok()?.free;
        let mut way = Way::default();
        let (Need::Bytes(size) | Need::About(size)) = need;
        if need == Need::Bytes(size) && size > self.balloon.allocated().saturating_add(free) {
            // It cannot fit even in an empty balloon's place: freeing would only lose memory to others.
            return Some(way);
        }
        let missing = size.saturating_sub(free);
        let needed = match missing.round_up(GRANULARITY).unwrap_or(missing) {
            ByteSize::ZERO if need != Need::Bytes(size) => self.balloon.chunk_size().max(GUESS),
            needed => needed,
        };
        let lost = self.lost_in_turn(free);
        let at_stake = needed.max(self.balloon.best_fit(needed));
        if need == Need::Bytes(size) && !lost.is_zero() && lost.saturating_add(at_stake) > self.most_lost(size) {
            tracing::debug!(%size, %lost, "others take what is freed for the job");
            return Some(way);
        }
        loop {
            let wanted = match needed.saturating_sub(way.freed) {
                // Enough is free and still does not do: it lies in pieces, and a whole one is wanted.
                ByteSize::ZERO => size,
                missing => missing,
            };
            let chunk = self.balloon.give_way(wanted).ok()?;
            way.freed = way.freed.saturating_add(chunk);
            if way.freed >= needed || chunk.is_zero() {
                break;
            }
        }
        if !needed.is_zero() {
            way.surplus = way.freed.saturating_sub(needed);
        }
        Some(way)
    }

    /// What others have taken since the turn began.
    fn lost_in_turn(&mut self, free: ByteSize) -> ByteSize {
        let there = self.balloon.allocated().saturating_add(self.job_has()).saturating_add(free);
        self.following.outset.get_or_insert(there).saturating_sub(there)
    }

    /// What others may take before an allocation of this size is given up.
    fn most_lost(&self, size: ByteSize) -> ByteSize {
        let times = size.bytes().saturating_mul(LOST_TIMES);
        ByteSize::new(times.max(self.balloon.chunk_size().bytes().saturating_mul(LOST_CHUNKS)))
    }

    /// Headroom costs nothing as long as the GPU has free memory anyway. Once given it stays given until there is plenty, so
    /// that others who take it do not get ever more.
    fn look_for_headroom(&mut self) {
        let headroom = self.following.job.headroom;
        let Ok(memory) = self.balloon.memory() else { return };
        let enough = if self.following.needs_headroom { headroom.saturating_add(headroom) } else { headroom };
        self.following.needs_headroom = memory.free < enough.saturating_add(GRANULARITY);
        self.following.see(memory.free);
        if !self.following.needs_headroom && self.balloon.allocated() >= self.share() {
            // Others have left.
            self.following.lost = ByteSize::ZERO;
        }
    }

    /// What of this to leave free when the balloon takes back what it lacks.
    fn headroom_to_keep(&mut self, free: ByteSize) -> ByteSize {
        let following = &mut self.following;
        let headroom = following.job.headroom;
        following.see(free);
        if free >= self.balloon.missing().saturating_add(headroom) {
            return headroom;
        }
        let most = ByteSize::new(headroom.bytes().saturating_mul(HEADROOMS));
        let keep = headroom.min(most.saturating_sub(following.lost));
        following.kept = keep.min(free);
        keep
    }

    fn head_for_share(&mut self, patience: Duration) {
        if matches!(self.task, Task::Reserve { .. }) {
            return;
        }
        let (allocated, target) = (self.balloon.allocated(), self.balloon.target());
        self.task = if allocated > target {
            if let Err(error) = self.balloon.deflate_whole_chunks() {
                tracing::warn!(%error, "balloon not deflated");
            }
            Task::Follow { at: Instant::now() + QUIET }
        } else if allocated == target || self.following.promised.is_some() {
            Task::Idle
        } else {
            Task::Follow { at: Instant::now() + if self.is_contended() { Duration::ZERO } else { patience } }
        };
    }

    /// Whether little more is free than what the balloon is to take back.
    fn is_contended(&self) -> bool {
        let missing = self.balloon.missing();
        self.balloon.memory().is_ok_and(|memory| memory.free < missing.saturating_add(missing))
    }

    /// A step towards the share.
    pub(super) fn catch_up(&mut self) {
        self.task = Task::Idle;
        let outcome = if self.balloon.allocated() > self.balloon.target() { self.trim() } else { self.refill() };
        if let Err(error) = outcome {
            tracing::warn!(%error, "balloon not brought to its share");
        }
    }

    /// Down to the share. Where there is no room to split a chunk before it is freed, it is freed and the rest taken back.
    fn trim(&mut self) -> Result<(), CallError> {
        self.balloon.deflate()?;
        let excess = self.balloon.allocated().saturating_sub(self.balloon.target());
        if excess < GRANULARITY {
            return Ok(());
        }
        let freed = self.balloon.give_way(excess)?;
        self.balloon.take_back_in_pieces(freed.saturating_sub(excess), excess)
    }

    /// Up towards the share by a chunk, as far as the job's headroom stays free, unless others have taken that too often.
    fn refill(&mut self) -> Result<(), CallError> {
        if self.following.promised.is_some() {
            return Ok(());
        }
        let free = self.balloon.memory()?.free;
        let keep = self.headroom_to_keep(free);
        if keep < self.following.job.headroom {
            self.following.needs_headroom = true;
            self.balloon.set_target(self.share());
        }
        let missing = self.balloon.missing();
        let room = free.saturating_sub(keep).round_down(GRANULARITY);
        let size = missing.min(room).min(self.balloon.chunk_size());
        let grown = !size.is_zero() && self.balloon.take_back(size)?;
        if missing.is_zero() {
            return Ok(());
        }
        if grown {
            self.task = Task::Follow { at: Instant::now() };
        } else if self.following.failures < TRIES {
            let pause = FIRST_PAUSE * 2_u32.pow(self.following.failures);
            self.following.failures += 1;
            tracing::debug!(%missing, ?pause, "balloon not whole again yet");
            self.task = Task::Follow { at: Instant::now() + pause };
        } else {
            tracing::debug!(%missing, "balloon smaller than its share: others have it");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
