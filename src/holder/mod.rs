//! A holder: one running `hold` or `run`. Its loop alone decides about the balloon; a [`worker`] per GPU does the work.

mod bench;
mod describe;
mod events;
mod following;
mod for_job;
mod gauge;
mod grow;
mod in_line;
mod inflate;
mod lag;
mod lending;
mod orders;
mod plan;
mod reports;
mod requests;
mod resize;
mod seat;
mod spaces;
mod waiting;
mod worker;

use std::time::{Instant, SystemTime};

pub use events::{Event, Events, process};
pub use plan::{Backing, Cause, Gpus, HolderError, Manner, OnShort, Plan, Released, Shortfall, Waiting, Wanted};
pub use waiting::{Lack, Watched};

use crate::control::directory::RuntimeDirectory;
use crate::control::name::Name;
use crate::control::registry::{Registered, Registration, RegistryError};
use crate::control::server::{Asker, Server};
use crate::control::wire::{Answer, Request, State, rfc3339};
use crate::gpu::GpuUuid;
use crate::holder::in_line::InLine;
use crate::holder::orders::{Order, Report};
use crate::holder::reports::Reports;
use crate::holder::requests::{Requests, Wish};
use crate::holder::resize::Resize;
use crate::holder::seat::Seat;
use crate::job::Job;
use crate::signals::Signals;
use crate::units::ByteSize;

/// A holder with its GPUs.
pub struct Holder {
    plan: Plan,
    name: Name,
    seats: Vec<Seat>,
    reports: Reports,
    pub events: Events,
    registered: Option<Registered>,
    /// Until everything is held.
    in_line: Option<InLine>,
    state: State,
    started_at: SystemTime,
    ends: Option<(Instant, SystemTime)>,
    /// Who waits for the release.
    released_by: Vec<Asker>,
    requests: Requests,
}

/// What a watcher of the inflation sees of one GPU.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub ordinal: u32,
    pub held: ByteSize,
    pub target: ByteSize,
}

impl Holder {
    /// Registers the balloon and listens for requests. Takes no device memory yet.
    ///
    /// Without a usable runtime directory a balloon that was given no name holds all the same: it only cannot be managed
    /// from other shells.
    ///
    /// # Errors
    /// The name is taken, or cannot be registered.
    pub fn start(mut plan: Plan, signals: Signals) -> Result<Self, HolderError> {
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
        let outlived = plan.outlived.take();
        let seats = plan.gpus.chosen().iter().cloned().map(Seat::new).collect();
        Ok(Self {
            plan,
            name,
            seats,
            reports,
            events: Events::new(signals, inbox, server, outlived),
            registered,
            in_line: None,
            state: State::Inflating,
            started_at,
            ends: None,
            released_by: Vec::new(),
            requests: Requests::default(),
        })
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is held over all GPUs.
    pub fn held(&self) -> ByteSize {
        self.seats.iter().map(Seat::held).sum()
    }

    /// Its GPUs in the order of the request; of any, the chosen ones.
    pub fn gpus(&self) -> impl Iterator<Item = GpuUuid> + '_ {
        self.seats.iter().map(Seat::uuid)
    }

    /// Holds until something ends it. Signals do not while the job runs that they are passed on to.
    ///
    /// # Errors
    /// The system denies the holder its loop; the memory is still held.
    pub fn hold(&mut self) -> Result<Cause, HolderError> {
        loop {
            let ended = match self.next(self.ends.map(|(at, _)| at))? {
                Event::Signal(received) => Some(Cause::Signal(received)),
                Event::Exited => Some(Cause::Exited),
                Event::JobEnded => Some(Cause::JobEnded),
                Event::Deadline => Some(Cause::Timeout),
                Event::Request(asker, Request::Release { gpus: None }) => {
                    self.released_by.push(asker);
                    Some(Cause::Released)
                }
                Event::Request(asker, Request::Release { gpus: Some(gpus) }) => {
                    self.take_on(asker, Wish::ReleasePart(gpus))
                }
                Event::Request(asker, Request::Resize { changes, chunk_bytes }) => {
                    let resize = Resize { changes, chunk_size: chunk_bytes.map(ByteSize::new) };
                    self.take_on(asker, Wish::Resize(resize))
                }
                Event::Request(_, Request::Status) | Event::Woken(_) => None,
                Event::Report(index, report) => self.follow(index, report),
            };
            if let Some(cause) = ended {
                return Ok(cause);
            }
        }
    }

    /// What is left when the balloon is gone: the signals, and the job they go to.
    pub fn into_signals(self) -> (Signals, Option<Job>) {
        (self.events.signals, self.events.job)
    }

    /// Lets go of everything and says what that came to. A signal meanwhile ends it at once.
    ///
    /// # Errors
    /// The system denies the holder its loop; the driver frees the memory when the process ends.
    pub fn deflate(&mut self) -> Result<Released, HolderError> {
        self.state = State::Deflating;
        self.settle_requests();
        let all: Vec<usize> = (0..self.seats.len()).collect();
        let (released, _) = self.free_seats(&all, Seat::give_up)?;
        // The name is free before anyone is told that the memory is.
        self.registered = None;
        for asker in std::mem::take(&mut self.released_by) {
            self.events.answer(asker, Answer::Released { bytes: released.freed.bytes() });
        }
        Ok(released)
    }

    /// Frees everything on these seats, and ends their workers as `end` does. A signal meanwhile cuts it short. Also returns
    /// what happened meanwhile that ends a holder that does not hold yet.
    fn free_seats(
        &mut self,
        seats: &[usize],
        end: fn(&mut Seat),
    ) -> Result<(Released, Option<HolderError>), HolderError> {
        let mut released = Released { freed: ByteSize::ZERO, failures: Vec::new(), cut_short: None };
        let mut ended = None;
        let working = seats.iter().filter(|&&index| self.seats[index].worker.is_some());
        let mut left = working.inspect(|&&index| self.seats[index].tell(Order::Deflate)).count();
        while left > 0 {
            match self.next(None)? {
                Event::Report(index, Report::Deflated { freed, outcome }) => {
                    left -= 1;
                    released.freed = released.freed.saturating_add(freed);
                    let seat = &mut self.seats[index];
                    tracing::info!(gpu = seat.ordinal(), %freed, "deflated");
                    released.failures.extend(outcome.err().map(|error| (seat.ordinal(), error)));
                    end(seat);
                }
                Event::Signal(received) if self.events.signals.would_end_us(&received) => {
                    released.cut_short = Some(received);
                    ended = Some(HolderError::Signal(received));
                    break;
                }
                Event::Request(asker, Request::Release { .. }) => {
                    self.released_by.push(asker);
                    ended = Some(HolderError::Released);
                }
                Event::Request(asker, _) => {
                    let error = "the balloon is being released".to_owned();
                    self.events.answer(asker, Answer::Refused { error });
                }
                Event::Exited => ended = Some(HolderError::Exited),
                Event::Report(..) | Event::Signal(_) | Event::JobEnded | Event::Woken(_) | Event::Deadline => {}
            }
        }
        Ok((released, ended))
    }

    /// The next event; requests for the status are answered here, whatever the holder is doing.
    fn next(&mut self, deadline: Option<Instant>) -> Result<Event, HolderError> {
        loop {
            match self.events.next(deadline)? {
                Event::Request(asker, Request::Status) => {
                    let balloon = Box::new(self.describe());
                    self.events.answer(asker, Answer::Status { balloon });
                }
                event => return Ok(event),
            }
        }
    }
}

fn register(plan: &Plan, name: &Name, started_at: SystemTime) -> Result<(Registered, Server), HolderError> {
    let directory = RuntimeDirectory::open().map_err(RegistryError::from)?;
    let mut registered = Registered::claim(&directory, name)?;
    let server = Server::listen(&directory, &registered.socket_name())
        .map_err(|source| RegistryError::Io { directory: directory.path().display().to_string(), source })?;
    describe_in(&mut registered, plan, started_at, plan.gpus.chosen().iter().map(|wanted| wanted.device.uuid));
    Ok((registered, server))
}

/// Writes down what others should know when the holder does not answer.
fn describe_in(registered: &mut Registered, plan: &Plan, started_at: SystemTime, gpus: impl Iterator<Item = GpuUuid>) {
    let registration = Registration {
        pid: std::process::id(),
        command: Some(plan.command.clone()),
        reason: plan.reason.clone(),
        started_at: rfc3339(started_at).unwrap_or_default(),
        gpus: gpus.collect(),
        log: plan.log.clone(),
    };
    if let Err(error) = registered.describe(&registration) {
        tracing::debug!(%error, "the balloon's description cannot be written");
    }
}
