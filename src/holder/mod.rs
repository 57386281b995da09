//! A holder: one running `hold` or `run`. Its loop alone decides about the balloon; a [`worker`] per GPU does the work.

mod describe;
mod events;
mod following;
mod plan;
mod reports;
mod resize;
mod spaces;
pub mod worker;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

pub use events::{Event, Events, process};
pub use plan::{Cause, HolderError, Plan, Released, Shortfall, Wanted};

use crate::control::directory::RuntimeDirectory;
use crate::control::name::Name;
use crate::control::registry::{Registered, Registration};
use crate::control::server::{Asker, Server};
use crate::control::wire::{Answer, Request, State};
use crate::gpu::{GRANULARITY, GpuUuid, Memory};
use crate::holder::reports::Reports;
use crate::holder::worker::{OnShort, Order, Report, Worker};
use crate::signals::{Received, Signals};
use crate::units::{self, ByteSize};

/// How often a watcher of the inflation is told.
const PROGRESS: Duration = Duration::from_millis(100);

/// A holder with its GPUs.
pub struct Holder {
    plan: Plan,
    name: Name,
    seats: Vec<Seat>,
    reports: Reports,
    pub events: Events,
    registered: Option<Registered>,
    state: State,
    started_at: SystemTime,
    ends: Option<(Instant, SystemTime)>,
    /// Who waits for the release.
    released_by: Vec<Asker>,
    resizes: resize::Queue,
}

/// One GPU of the holder. It keeps its place, by which its worker reports, also when its part is released.
struct Seat {
    wanted: Wanted,
    worker: Option<Worker>,
    is_released: bool,
}

/// What a watcher of the inflation sees of one GPU.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub ordinal: u32,
    pub held: ByteSize,
    pub target: ByteSize,
}

impl Seat {
    fn ordinal(&self) -> u32 {
        self.wanted.device.ordinal
    }

    fn uuid(&self) -> GpuUuid {
        self.wanted.device.uuid
    }

    fn held(&self) -> ByteSize {
        self.worker
            .as_ref()
            .map_or(ByteSize::ZERO, |worker| ByteSize::new(worker.gauge.allocated.load(Ordering::Relaxed)))
    }

    fn target(&self) -> ByteSize {
        self.worker.as_ref().map_or(ByteSize::ZERO, |worker| ByteSize::new(worker.gauge.target.load(Ordering::Relaxed)))
    }

    fn handed_over(&self) -> ByteSize {
        self.worker.as_ref().map_or(ByteSize::ZERO, |worker| ByteSize::new(worker.gauge.job.load(Ordering::Relaxed)))
    }

    fn has_part_on(&self, gpu: GpuUuid) -> bool {
        self.uuid() == gpu && !self.is_released
    }

    fn tell(&self, order: Order) {
        if let Some(worker) = &self.worker {
            worker.tell(order);
        }
    }

    /// Ends the worker, which has reported that everything is freed.
    fn give_up(&mut self) {
        self.is_released = true;
        if let Some(worker) = self.worker.take() {
            worker.join();
        }
    }
}

impl Holder {
    /// Registers the balloon and listens for requests. Takes no device memory yet.
    ///
    /// Without a usable runtime directory a balloon that was given no name holds all the same: it only cannot be managed
    /// from other shells.
    ///
    /// # Errors
    /// The name is taken, or cannot be registered.
    pub fn start(plan: Plan, signals: Signals) -> Result<Self, HolderError> {
        let started_at = SystemTime::now();
        let name = plan.name.clone().unwrap_or_else(|| Name::of_pid(std::process::id()));
        let (reports, inbox) = reports::channel()?;
        let (registered, server) = match register(&plan, &name, started_at) {
            Ok((registered, server)) => (Some(registered), Some(server)),
            Err(error) if plan.name.is_some() => return Err(error),
            Err(error) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                tracing::warn!("this balloon cannot be managed from other shells: {error}{why}");
                (None, None)
            }
        };
        let seats =
            plan.gpus.iter().map(|wanted| Seat { wanted: wanted.clone(), worker: None, is_released: false }).collect();
        Ok(Self {
            plan,
            name,
            seats,
            reports,
            events: Events::new(signals, inbox, server),
            registered,
            state: State::Inflating,
            started_at,
            ends: None,
            released_by: Vec::new(),
            resizes: resize::Queue::default(),
        })
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is held over all GPUs.
    pub fn held(&self) -> ByteSize {
        self.seats.iter().fold(ByteSize::ZERO, |sum, seat| sum.saturating_add(seat.held()))
    }

    /// The ordinals of its GPUs.
    pub fn ordinals(&self) -> Vec<u32> {
        self.seats.iter().map(Seat::ordinal).collect()
    }

    /// Inflates on all GPUs at the same time: everything, or, unless the plan keeps what fits, nothing. Tells `watch` how
    /// far it is, ten times a second, if there is one.
    ///
    /// # Errors
    /// The memory is not available, a driver call failed, or the holder was told to stop. Everything was given back.
    pub fn inflate(&mut self, watch: Option<&mut dyn FnMut(&[Progress])>) -> Result<Vec<Shortfall>, HolderError> {
        match self.try_inflate(watch) {
            Ok(shortfalls) => {
                self.state = State::Holding;
                self.ends = self.plan.timeout.and_then(|timeout| {
                    Some((Instant::now().checked_add(timeout)?, SystemTime::now().checked_add(timeout)?))
                });
                Ok(shortfalls)
            }
            Err(error) => {
                self.let_go()?;
                Err(error)
            }
        }
    }

    fn try_inflate(&mut self, mut watch: Option<&mut dyn FnMut(&[Progress])>) -> Result<Vec<Shortfall>, HolderError> {
        let memory = self.open()?;
        let mut targets = Vec::new();
        for (seat, memory) in self.seats.iter().zip(&memory) {
            let memory = units::Memory { free: memory.free, total: memory.total, held: ByteSize::ZERO };
            let resolved = seat.wanted.amount.resolve(&memory, seat.wanted.utilization, GRANULARITY);
            targets.push(match resolved {
                Ok(target) => target,
                Err(error) if error.is_shortage() => GRANULARITY,
                Err(error) => return Err(HolderError::Size(error)),
            });
        }
        let shortfalls: Vec<Shortfall> = (0..self.seats.len())
            .filter(|&index| targets[index] > memory[index].free)
            .map(|index| self.shortfall(index, targets[index], memory[index].free))
            .collect();
        if !shortfalls.is_empty() && self.plan.on_short == OnShort::GiveBack {
            return Err(HolderError::NotAvailable(shortfalls));
        }
        for (seat, &target) in self.seats.iter().zip(&targets) {
            seat.tell(Order::Reserve { target, chunk_size: self.plan.chunk_size, on_short: self.plan.on_short });
        }
        let mut shortfalls = Vec::new();
        let mut left = self.seats.len();
        while left > 0 {
            let deadline = watch.is_some().then(|| Instant::now() + PROGRESS);
            match self.next(deadline)? {
                Event::Report(_, Report::Held) => left -= 1,
                Event::Report(index, Report::Short { free, missing }) => {
                    left -= 1;
                    let shortfall = Shortfall { missing, ..self.shortfall(index, targets[index], free) };
                    if self.plan.on_short == OnShort::GiveBack {
                        return Err(HolderError::NotAvailable(vec![shortfall]));
                    }
                    shortfalls.push(shortfall);
                }
                event => self.unless_it_ends(event)?,
            }
            if let Some(watch) = &mut watch {
                watch(&self.progress());
            }
        }
        Ok(shortfalls)
    }

    /// Opens a context on every GPU and returns the memory of each.
    fn open(&mut self) -> Result<Vec<Memory>, HolderError> {
        for (index, seat) in self.seats.iter_mut().enumerate() {
            seat.worker =
                Some(Worker::start(index, seat.wanted.device.clone(), self.plan.backing, self.reports.clone())?);
        }
        let mut memory = vec![None; self.seats.len()];
        while memory.contains(&None) {
            match self.next(None)? {
                Event::Report(index, Report::Opened(opened)) => memory[index] = Some(opened),
                event => self.unless_it_ends(event)?,
            }
        }
        Ok(memory.into_iter().flatten().collect())
    }

    /// Turns an event during inflation into the error that ends it, where it does.
    fn unless_it_ends(&mut self, event: Event) -> Result<(), HolderError> {
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
                Err(HolderError::Gpu { ordinal: seat.ordinal(), uuid: seat.uuid(), source })
            }
            Event::Report(..) | Event::Signal(_) | Event::Deadline => Ok(()),
        }
    }

    /// Holds until something ends it. Signals for which `keep` says so are dealt with there and do not.
    ///
    /// # Errors
    /// The system denies the holder its loop; the memory is still held.
    pub fn hold(&mut self, mut keep: impl FnMut(&Received) -> bool) -> Result<Cause, HolderError> {
        loop {
            match self.next(self.ends.map(|(at, _)| at))? {
                Event::Signal(received) if keep(&received) => {}
                Event::Signal(received) => return Ok(Cause::Signal(received)),
                Event::Exited => return Ok(Cause::Exited),
                Event::Deadline => return Ok(Cause::Timeout),
                Event::Request(asker, Request::Release { gpus: None }) => {
                    self.released_by.push(asker);
                    return Ok(Cause::Released);
                }
                Event::Request(asker, Request::Release { gpus: Some(gpus) }) => {
                    if self.release_part(asker, &gpus) {
                        return Ok(Cause::Released);
                    }
                }
                Event::Request(asker, Request::Resize { changes, chunk_bytes }) => {
                    self.request_resize(asker, changes, chunk_bytes);
                }
                Event::Request(_, Request::Status) => {}
                Event::Report(index, report) => {
                    if self.follow(index, report) {
                        return Ok(Cause::Lost);
                    }
                }
            }
        }
    }

    /// Lets go of everything and says what that came to. A signal meanwhile ends it at once.
    ///
    /// # Errors
    /// The system denies the holder its loop; the driver frees the memory when the process ends.
    pub fn deflate(mut self) -> Result<Released, HolderError> {
        let released = self.let_go()?;
        for asker in std::mem::take(&mut self.released_by) {
            self.events.answer(asker, Answer::Released { bytes: released.freed.bytes() });
        }
        Ok(released)
    }

    fn let_go(&mut self) -> Result<Released, HolderError> {
        self.state = State::Deflating;
        let mut released = Released { freed: ByteSize::ZERO, failures: Vec::new(), cut_short: None };
        let mut left = 0;
        for seat in &self.seats {
            if let Some(worker) = &seat.worker {
                worker.tell(Order::Deflate);
                left += 1;
            }
        }
        while left > 0 {
            match self.next(None)? {
                Event::Report(index, Report::Deflated { freed, outcome }) => {
                    left -= 1;
                    released.freed = released.freed.saturating_add(freed);
                    let seat = &mut self.seats[index];
                    released.failures.extend(outcome.err().map(|error| (seat.ordinal(), error)));
                    seat.give_up();
                }
                Event::Signal(received) if self.events.signals.would_end_us(&received) => {
                    released.cut_short = Some(received);
                    break;
                }
                Event::Request(asker, Request::Release { .. }) => self.released_by.push(asker),
                Event::Request(asker, _) => {
                    let error = "the balloon is being released".to_owned();
                    self.events.answer(asker, Answer::Refused { error });
                }
                Event::Report(..) | Event::Signal(_) | Event::Exited | Event::Deadline => {}
            }
        }
        // The name is free before anyone is told that the memory is.
        self.registered = None;
        Ok(released)
    }

    /// The next event; requests for the status are answered here, whatever the holder is doing.
    fn next(&mut self, deadline: Option<Instant>) -> Result<Event, HolderError> {
        loop {
            match self.events.next(deadline)? {
                Event::Request(asker, Request::Status) => {
                    let balloon = self.describe();
                    self.events.answer(asker, Answer::Status { balloon });
                }
                event => return Ok(event),
            }
        }
    }

    fn shortfall(&self, index: usize, wanted: ByteSize, free: ByteSize) -> Shortfall {
        let seat = &self.seats[index];
        let missing = wanted.saturating_sub(free);
        Shortfall { ordinal: seat.ordinal(), uuid: seat.uuid(), wanted, free, missing }
    }

    fn progress(&self) -> Vec<Progress> {
        let progress = |seat: &Seat| Progress { ordinal: seat.ordinal(), held: seat.held(), target: seat.target() };
        self.seats.iter().map(progress).collect()
    }
}

fn register(plan: &Plan, name: &Name, started_at: SystemTime) -> Result<(Registered, Server), HolderError> {
    let unusable = |directory: String, source| {
        HolderError::Registry(crate::control::registry::RegistryError::Io { directory, source })
    };
    let directory = RuntimeDirectory::open()
        .map_err(|error| unusable("the runtime directory".to_owned(), std::io::Error::other(error)))?;
    let mut registered = Registered::claim(&directory, name)?;
    let server = Server::listen(&directory, &registered.socket_name())
        .map_err(|source| unusable(directory.path().display().to_string(), source))?;
    let registration = Registration {
        pid: std::process::id(),
        command: Some(plan.command.clone()),
        reason: plan.reason.clone(),
        started_at: humantime::format_rfc3339_seconds(started_at).to_string(),
        gpus: plan.gpus.iter().map(|wanted| wanted.device.uuid).collect(),
        log: plan.log.clone(),
    };
    if let Err(error) = registered.describe(&registration) {
        tracing::debug!(%error, "the balloon's description cannot be written");
    }
    Ok((registered, server))
}
