//! `gpu-balloon run`: inflate, start the command, hold beside it, end as it ended.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use tracing::{info, warn};

use crate::cli;
use crate::commands::announce::Announcement;
use crate::commands::blockers;
use crate::commands::detach::{self, Detached, Output};
use crate::commands::failure::Failure;
use crate::commands::handing::Handing;
use crate::commands::plan::{Planned, avoid_exclusive, chosen, plan};
use crate::commands::talk::{self, Show};
use crate::control::name::Name;
use crate::control::registry::RegistryError;
use crate::exit::Exit;
use crate::gpu::{VISIBLE_DEVICES, Visible, order_at_start};
use crate::handover::Lends;
use crate::holder::{Cause, Holder, HolderError, Released};
use crate::job::{Ended, Inherited, Job, Kin, Mark, SpawnError, Spec};
use crate::signals::{Purpose, Signals};

/// Tells the command who holds for it; any other verb takes it as a name. Its descendants are known by it, too.
const HOLDER: &str = "GPU_BALLOON_HOLDER";

/// Tells the command its GPUs as the ready line does.
const GPUS: &str = "GPU_BALLOON_GPUS";

/// Why no memory is held.
enum NotHeld {
    Failure(Failure),
    /// A signal came that ends a program without handlers.
    Signal(i32, Box<Signals>),
    /// Somebody holds under this name, which is as good.
    HeldAlready(Name),
}

impl<E: Into<Failure>> From<E> for NotHeld {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl cli::Run {
    /// Returns only if the command was not started, or has been in the background.
    pub fn run(self, quiet: bool) -> Result<ExitCode, Failure> {
        let options = &self.reservation;
        if options.detach && !detach::is_child().map_err(Failure::of_run)? {
            return detach::start(Output::Commands).map_err(Failure::of_run);
        }
        let mut inherited = Inherited::now();
        let child = options.detach.then(|| detach::child(&mut inherited, options.ready_fd)).transpose();
        let mut child = child.map_err(Failure::of_run)?;
        let keeper = Handing::post_keeper(self.handover);
        let signals = Signals::block(Purpose::Run).map_err(|error| Failure::new(Exit::RunFailed, error))?;
        let mut spec = self.spec(inherited, child.as_ref());
        let program = spec.look_up().map_err(not_started)?;
        let log = child.as_ref().map(|child| child.log.display().to_string());
        let show = if quiet { Show::Nothing } else { Show::Waiting };
        let (holder, ready) = match self.hold(&mut spec, log, signals, show) {
            Ok(held) => held,
            Err(NotHeld::Failure(failure)) => return Err(failure.of_run()),
            Err(NotHeld::Signal(signal, signals)) => Ended::Signal(signal).leave(*signals),
            Err(NotHeld::HeldAlready(name)) => {
                talk::say_unless(
                    quiet,
                    format_args!("a balloon named `{name}` holds already: the command is not started"),
                );
                return Ok(Exit::Done.into());
            }
        };
        let mut handing = Handing::prepare(&self, &holder, &program, keeper).map_err(Failure::of_run)?;
        spec.environment.extend(handing.environment());
        let has_started = || {
            if let Some(child) = &mut child {
                child.let_go(&ready);
            }
        };
        let (ended, signals) = beside(holder, &spec, &mut handing, has_started)?;
        if let Some(file) = &self.summary {
            handing.summarize(
                &talk::command_line(self.command.iter().cloned()),
                file.as_deref(),
                self.reservation.json,
            );
        }
        drop(handing);
        if child.is_some() && ended != Ended::Code(0) {
            talk::say_unless(quiet, format_args!("the command {ended}"));
        }
        drop(child);
        ended.leave(signals)
    }

    fn spec(&self, descriptors: Inherited, child: Option<&Detached>) -> Spec {
        let mut words = self.command.iter().cloned();
        let program = words.next().unwrap_or_default();
        let output = child.map(|child| child.output.clone());
        Spec { program, arguments: words.collect(), environment: Vec::new(), output, descriptors }
    }

    /// Takes the memory and says so to whoever waits for that. The command is to find the GPUs of the reservation.
    fn hold(
        &self,
        spec: &mut Spec,
        log: Option<String>,
        signals: Signals,
        show: Show,
    ) -> Result<(Holder, String), NotHeld> {
        let announcement = Announcement::silent(&self.reservation, &mut spec.descriptors)?;
        let Planned { mut plan, gpus } = plan(&self.reservation, talk::command_line(self.command.iter().cloned()))?;
        plan.backing.is_lendable = self.handover.lends() != Lends::Never;
        plan.log = log;
        avoid_exclusive(&mut plan)?;
        let mut holder = match Holder::start(plan, signals) {
            Err(HolderError::Registry(RegistryError::Taken(name))) if self.reservation.if_absent => {
                return Err(NotHeld::HeldAlready(name));
            }
            started => started?,
        };
        match talk::inflate(&mut holder, show) {
            Ok(shortfalls) => shortfalls.iter().for_each(|shortfall| info!(%shortfall, "holding less than asked")),
            Err(HolderError::Signal(received)) => {
                return Err(NotHeld::Signal(received.signal, Box::new(holder.into_signals().0)));
            }
            Err(error) => return Err(blockers::named(error).into()),
        }
        info!(name = %holder.name(), held = %holder.held(), "held");
        let gpus = chosen(&gpus, &holder);
        let ready = announcement.ready(&holder, &gpus);
        spec.environment = self.environment(&gpus);
        Ok((holder, ready))
    }

    /// What is changed for the command.
    fn environment(&self, gpus: &[Visible]) -> Vec<(OsString, Option<OsString>)> {
        let ordinals: Vec<String> = gpus.iter().map(|gpu| gpu.ordinal.to_string()).collect();
        let mark = mark();
        let mut changes = vec![
            (GPUS.into(), Some(ordinals.join(",").into())),
            (mark.name, Some(mark.value)),
            (detach::CALLER.into(), None),
        ];
        let (order, callers) = order_at_start();
        if self.keep_visible {
            changes.push((order.into(), callers));
        } else {
            // This process has the order already, and the command inherits it.
            changes.push((VISIBLE_DEVICES.into(), Some(Visible::variable(gpus).into())));
        }
        changes
    }
}

/// Starts the command beside the balloon and stays with it to its end, whatever becomes of the balloon.
fn beside(
    mut holder: Holder,
    spec: &Spec,
    handing: &mut Handing,
    has_started: impl FnOnce(),
) -> Result<(Ended, Signals), Failure> {
    let job = match Job::spawn(spec, &mut holder.events.signals) {
        Ok(job) => job,
        Err(error) => {
            tell(&holder.deflate());
            return Err(not_started(error));
        }
    };
    has_started();
    info!(pid = job.id(), "the command runs");
    handing.begin(Kin { root: job.id(), mark: mark() });
    holder.events.attend(job);
    match holder.hold() {
        Ok(Cause::JobEnded) => {
            // These two end while the memory is freed.
            handing.job_has_ended();
            holder.events.signals.job_has_ended();
        }
        Ok(cause) => info!("the reservation ends: {}", talk::because(&cause)),
        Err(error) => warn!(%error, "the reservation ends"),
    }
    handing.end();
    tell(&holder.deflate());
    let (mut signals, job) = holder.into_signals();
    let mut job = job.ok_or_else(|| Failure::new(Exit::RunFailed, anyhow::anyhow!("the command is lost")))?;
    let ended = job
        .wait(&mut signals)
        .map_err(|error| Failure::new(Exit::RunFailed, error).context("cannot wait for the command"))?;
    handing.job_has_ended();
    info!(?ended, "the command has ended");
    tell_of_those_left(&job);
    Ok((ended, signals))
}

fn mark() -> Mark {
    Mark { name: HOLDER.into(), value: std::process::id().to_string().into() }
}

fn not_started(error: SpawnError) -> Failure {
    let exit = match error {
        SpawnError::NotFound { ref program, .. } => {
            let hint = not_found_hint(program);
            let failure = Failure::new(Exit::RunNotFound, error);
            return match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            };
        }
        SpawnError::CannotExecute { .. } => Exit::RunCannotExecute,
        SpawnError::Failed { .. } => Exit::RunFailed,
    };
    Failure::new(exit, error)
}

fn not_found_hint(program: &OsStr) -> Option<String> {
    let is_line = program.to_string_lossy().contains(' ');
    let several = || "a command in one word needs a shell: write it without the quotes, or behind `sh -c`".to_owned();
    cli::stray(program).or_else(|| is_line.then(several))
}

fn tell(released: &Result<Released, HolderError>) {
    match released {
        Ok(released) => {
            info!(freed = %released.freed, "released");
            for (gpu, error) in &released.failures {
                talk::say(format_args!("GPU {gpu} was lost: {error}"));
            }
        }
        Err(error) => warn!(%error, "not released before the end"),
    }
}

/// Names the descendants that live on without the reservation.
fn tell_of_those_left(job: &Job) {
    if tracing::enabled!(tracing::Level::INFO) {
        for relative in job.family(&mark()) {
            info!(pid = relative.pid, name = relative.name, "lives on, no longer covered");
        }
    }
}
