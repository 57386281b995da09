//! What a worker's thread does: carries out its orders on one GPU's balloon, and frees everything at its end.
//!
//! It looks at its orders between two chunks, so that a stop or a request never waits behind a long inflation, and
//! sleeps in `recv` when there is nothing to do.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use crate::balloon::{Balloon, Space, Step};
use crate::gpu::{CallError, Context, Contextless, Device, GpuUuid, Sharing};
use crate::handover::{JobUse, View};
use crate::holder::following::Following;
use crate::holder::gauge::{Figures, Gauge};
use crate::holder::lag;
use crate::holder::orders::{Order, Report};
use crate::holder::plan::{Backing, OnShort};
use crate::holder::reports::Reports;
use crate::holder::spaces::InContext;
use crate::units::ByteSize;

/// What a driver may report as free and yet give to nobody: 2 MB on an H100. What more than this is missing, someone took.
pub const GIVEN_TO_NOBODY: ByteSize = ByteSize::new(32 << 20);

/// Opens `device` and works there until told to deflate, or until the holder is gone.
pub fn work(
    index: usize,
    device: &Device,
    backing: Backing,
    orders: &Receiver<Order>,
    reports: &Reports,
    gauge: &Gauge,
) {
    let ties = Ties { index, uuid: device.uuid, orders, reports, gauge };
    let Emptied { freed, outcome, lag } = match backing {
        Backing { has_context: true, is_lendable } => {
            ties.serve(Context::open(device).map(|context| InContext::new(context, is_lendable)))
        }
        Backing { has_context: false, is_lendable } => {
            let sharing = if is_lendable { device.sharing() } else { Sharing::Never };
            ties.serve(Contextless::open(device, sharing))
        }
    };
    // The driver shows the context's own memory as late as it did the balloon's; there is no context left to ask it in.
    std::thread::sleep(lag);
    reports.send(index, Report::Deflated { freed, outcome });
}

/// What the end of a balloon came to.
struct Emptied {
    freed: ByteSize,
    outcome: Result<(), CallError>,
    /// How long the driver went on showing freed memory as used.
    lag: Duration,
}

/// The worker's ties to its holder.
pub(super) struct Ties<'a> {
    pub index: usize,
    pub uuid: GpuUuid,
    pub orders: &'a Receiver<Order>,
    pub reports: &'a Reports,
    pub gauge: &'a Gauge,
}

impl Ties<'_> {
    /// Works on an opened space until told to end; everything, the space too, is given up when it returns.
    fn serve<S: Space>(&self, opened: Result<S, CallError>) -> Emptied {
        match opened.and_then(|space| Ok((space.memory()?, space))) {
            Ok((memory, space)) => {
                self.reports.send(self.index, Report::Opened(memory));
                Bench::new(self, space).obey_all(self.orders)
            }
            Err(error) => {
                self.reports.send(self.index, Report::Failed(error));
                Emptied { freed: ByteSize::ZERO, outcome: Ok(()), lag: Duration::ZERO }
            }
        }
    }
}

/// What the worker does when it has no orders.
pub(super) enum Task {
    Idle,
    /// Grow to the target.
    Reserve {
        on_short: OnShort,
    },
    /// Bring the balloon to its share, which the job changes, once `at` has come.
    Follow {
        at: Instant,
    },
}

/// What the last growth changed, so that it can be undone.
#[derive(Default)]
struct Growth {
    reservation_before: ByteSize,
    chunk_size_before: ByteSize,
    job_before: JobUse,
    chunks: Vec<ByteSize>,
}

pub(super) struct Bench<'a, S: Space> {
    index: usize,
    pub(super) uuid: GpuUuid,
    reports: &'a Reports,
    gauge: &'a Gauge,
    pub(super) balloon: Balloon<S>,
    pub(super) reservation: ByteSize,
    pub(super) following: Following,
    pub(super) task: Task,
    /// Whether the driver has refused to let a chunk be lent.
    pub(super) has_refused: bool,
    growth: Growth,
}

impl<'a, S: Space> Bench<'a, S> {
    pub(super) fn new(ties: &Ties<'a>, space: S) -> Self {
        Self {
            index: ties.index,
            uuid: ties.uuid,
            reports: ties.reports,
            gauge: ties.gauge,
            balloon: Balloon::new(space),
            reservation: ByteSize::ZERO,
            following: Following::default(),
            task: Task::Idle,
            has_refused: false,
            growth: Growth::default(),
        }
    }

    /// Works until told to deflate, or until the holder is gone; then frees everything.
    fn obey_all(&mut self, orders: &Receiver<Order>) -> Emptied {
        loop {
            let order = match self.task {
                Task::Idle => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Task::Reserve { .. } => orders.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
                Task::Follow { at } => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Order::Deflate) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => match self.task {
                    Task::Reserve { on_short } => self.grow(on_short),
                    Task::Follow { .. } | Task::Idle => self.catch_up(),
                },
            }
            self.show();
        }
        self.empty()
    }

    fn empty(&mut self) -> Emptied {
        let (before, stuck) = (self.balloon.allocated(), self.balloon.stuck());
        let memory = self.balloon.memory();
        self.balloon.set_target(ByteSize::ZERO);
        let outcome = self.balloon.deflate_whole_chunks();
        self.show();
        let freed = before.saturating_sub(self.balloon.stuck().saturating_sub(stuck));
        let shown = |free: ByteSize| lag::wait(free.saturating_add(freed), self.uuid, || self.balloon.memory());
        match memory {
            Ok(memory) => Emptied { freed, outcome, lag: shown(memory.free) },
            // The driver may take memory back of which it knows nothing any more.
            Err(lost) => Emptied { freed, outcome: outcome.and(Err(lost)), lag: Duration::ZERO },
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reserve { target, chunk_size, on_short } => {
                self.growth = Growth {
                    reservation_before: self.reservation,
                    chunk_size_before: self.balloon.chunk_size(),
                    job_before: self.following.job,
                    chunks: Vec::new(),
                };
                self.balloon.set_chunk_size(chunk_size);
                self.aim(target);
                if self.balloon.target() >= self.balloon.allocated() {
                    self.task = Task::Reserve { on_short };
                } else {
                    self.task = Task::Idle;
                    let outcome = self.balloon.deflate();
                    self.report(outcome.map_or_else(Report::Failed, |()| Report::Held));
                }
            }
            Order::Undo => {
                self.undo();
                self.report(Report::Held);
            }
            Order::JobHolds(job) => self.follow_job(job),
            Order::GiveWay { need, reply } => self.give_way(need, reply),
            Order::Settled(job) => self.settle(job),
            Order::Lend { loan, wanted, reply } => self.lend(loan, wanted, reply),
            Order::Reach { loan, from, reply } => self.reach(loan, from, reply),
            Order::TakeHome { loan, places } => {
                self.balloon.take_home(loan, places);
                self.loans_changed();
            }
            Order::TakeHomeAllOf { pid } => {
                self.balloon.take_home_all_of(pid);
                self.loans_changed();
            }
            Order::View { reply } => {
                let view = self.balloon.memory().ok().map(|memory| View {
                    memory,
                    balloon: self.balloon.allocated(),
                    job: self.job_has(),
                    reservation: self.reservation,
                });
                reply(view);
            }
            Order::Deflate => {}
        }
    }

    /// One chunk towards the reservation.
    fn grow(&mut self, on_short: OnShort) {
        let before = self.balloon.allocated();
        match self.balloon.inflate_step() {
            Ok(Step::Grew) => self.growth.chunks.push(self.balloon.allocated().saturating_sub(before)),
            Ok(Step::Full) => {
                self.task = Task::Idle;
                self.report(Report::Held);
            }
            Ok(Step::Short(missing)) if on_short == OnShort::Settle && self.may_settle(missing) => {
                self.task = Task::Idle;
                self.aim(self.balloon.allocated().saturating_add(self.job_has()));
                self.report(Report::Held);
            }
            Ok(Step::Short(missing)) => {
                let free = self.balloon.memory().map_or(ByteSize::ZERO, |memory| memory.free);
                self.end_short(on_short);
                self.report(Report::Short { missing, free });
            }
            Err(error) => {
                self.end_short(on_short);
                self.report(Report::Failed(error));
            }
        }
    }

    fn may_settle(&self, missing: ByteSize) -> bool {
        missing <= GIVEN_TO_NOBODY && !self.balloon.allocated().is_zero()
    }

    fn end_short(&mut self, on_short: OnShort) {
        match on_short {
            OnShort::GiveBack | OnShort::Settle => self.undo(),
            OnShort::Keep => self.task = Task::Idle,
        }
    }

    /// Frees the very chunks that the last growth took: those before it stay as they are.
    fn undo(&mut self) {
        let growth = std::mem::take(&mut self.growth);
        self.task = Task::Idle;
        self.balloon.set_chunk_size(growth.chunk_size_before);
        self.aim(growth.reservation_before);
        if let Err(error) = self.balloon.free_all(&growth.chunks) {
            tracing::warn!(%error, "not everything was given back");
        }
        if self.following.job != growth.job_before {
            self.follow_job(self.following.job);
        }
    }

    fn aim(&mut self, reservation: ByteSize) {
        self.reservation = reservation;
        self.balloon.set_target(self.share());
    }

    /// Reports, the gauge being up to date before anyone reads it.
    fn report(&self, report: Report) {
        self.show();
        self.reports.send(self.index, report);
    }

    pub(super) fn show(&self) {
        self.gauge.show_full(self.following.needs_headroom);
        self.gauge.show(Figures {
            allocated: self.balloon.allocated(),
            num_chunks: self.balloon.count() as u64,
            target: self.reservation,
            chunk_size: self.balloon.chunk_size(),
            job: self.job_has(),
            lent: self.balloon.lent(),
            most_lent: self.balloon.most_lent(),
        });
    }
}
