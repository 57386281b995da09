//! `gpu-balloon run`: inflate, start CMD, let the balloon give way to it, end as CMD ends.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use crate::cli::{self, HandoverMode};
use crate::commands::announce::Announcement;
use crate::commands::failure::Failure;
use crate::commands::plan::{Planned, chosen, plan};
use crate::commands::{blockers, talk};
use crate::exit::Exit;
use crate::gpu::{BY_PCI_BUS, ComputeMode, GpuUuid, Nvml, ORDER, VISIBLE_DEVICES, Visible, callers_order};
use crate::handover::{Handover, PRELOAD, Show, Usage};
use crate::holder::worker::Backing;
use crate::holder::{Cause, Holder, HolderError, Plan};
use crate::job::{Ended, Inherited, Job, Kin, Mark, SpawnError, Spec, reach};
use crate::report::summary::{self, Summary};
use crate::signals::{Purpose, Reach, Received, Signals};
use crate::units::ByteSize;

/// Marks everything that descends from this job.
const MARK: &str = "GPU_BALLOON_JOB";

impl cli::Run {
    /// Returns only if CMD was not started; else the process ends as CMD did.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let inherited = Inherited::now();
        let announcement = Announcement::silent(&self.reservation, &inherited)?;
        let signals = Signals::block(Purpose::Run).map_err(|error| Failure::new(Exit::Failed, error))?;
        let command_line = talk::command_line(self.command.iter().cloned());
        let Planned { plan, gpus } = plan(&self.reservation, command_line.clone())?;
        refuse_exclusive(&plan)?;
        let contexts = plan.backing == Backing::Context;
        let mut holder = Holder::start(plan, signals)?;
        let is_watched = tracing::enabled!(tracing::Level::INFO) && io::stderr().is_terminal();
        match talk::inflate(&mut holder, !is_watched) {
            Ok(shortfalls) => shortfalls.iter().for_each(|short| tracing::warn!("holding less than asked: {short}")),
            Err(HolderError::Signal(received)) => Ended::Signal(received.signal).leave(holder.into_signals()),
            Err(error) => return Err(blockers::named(error)),
        }
        let gpus = chosen(&gpus, &holder);
        announcement.ready(&holder, &gpus);
        let reserved: Vec<ByteSize> = holder.lanes().iter().map(|lane| lane.reservation()).collect();
        let mut handover = self.handover(&holder)?;
        let mark = Mark { name: MARK.into(), value: mark().into() };
        let spec = self.spec(&gpus, handover.as_ref(), &mark, inherited);
        let job = match Job::spawn(&spec, &mut holder.events.signals) {
            Ok(job) => job,
            Err(error) => {
                drop(handover);
                holder.deflate()?;
                return Err(not_started(error));
            }
        };
        let kin = Kin { root: job.id(), mark: mark.clone() };
        if let Some(handover) = &mut handover {
            self.audit(handover, kin, contexts);
        }
        let ended = see_through(&mut holder, job, &mark)?;
        let usage = handover.as_ref().map(Handover::usage).unwrap_or_default();
        // First the job's side, so that no order comes for a balloon that is gone.
        drop(handover);
        // What the group was told was for CMD too, and has been obeyed.
        holder.release(&mut |received| received.reach == Reach::Group)?;
        self.summarize(&command_line, &gpus, &reserved, &usage);
        ended.leave(holder.into_signals())
    }

    /// What hands the memory over, with the library for CMD if it is to go there and can.
    fn handover(&self, holder: &Holder) -> Result<Option<Handover>, Failure> {
        if self.handover == HandoverMode::Off {
            return Ok(None);
        }
        let failed = |error: io::Error| Failure::new(Exit::Failed, error).context("cannot hand memory over");
        let mut handover = Handover::prepare(holder.lanes()).map_err(failed)?;
        let program = self.command.first().map_or(Ok(()), |program| reach(program));
        let brought = match self.handover {
            HandoverMode::Nvml => false,
            _ => match handover.bring_library(self.show(), holder.job_socket()) {
                Ok(()) => true,
                Err(error) if self.handover == HandoverMode::Preload => {
                    return Err(Failure::new(Exit::Failed, error).context("the library cannot go into the command"));
                }
                Err(error) => {
                    let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                    tracing::info!("without the library, following NVML: {error}{why}");
                    false
                }
            },
        };
        if let (true, Err(why)) = (brought, program) {
            tracing::info!("the library does not get into the command, following NVML: {why}");
        }
        if (!brought || program.is_err()) && self.handover != HandoverMode::Preload {
            self.expect_strangers(&handover)?;
        }
        Ok(Some(handover))
    }

    /// Only NVML tells what the job has.
    fn expect_strangers(&self, handover: &Handover) -> Result<(), Failure> {
        match Nvml::open() {
            Ok(nvml) => {
                handover.expect_strangers(&nvml, self.reservation.chunk_size);
                Ok(())
            }
            Err(error) if self.handover == HandoverMode::Nvml => {
                Err(Failure::new(Exit::Failed, error).context("cannot follow NVML").hint("use --handover preload"))
            }
            Err(error) => {
                tracing::info!(%error, "nothing tells what the command holds: the balloon keeps its size beside it");
                Ok(())
            }
        }
    }

    /// Starts to follow NVML, unless told to do without.
    fn audit(&self, handover: &mut Handover, kin: Kin, contexts: bool) {
        if self.handover == HandoverMode::Preload {
            return;
        }
        let kept = match Nvml::open() {
            Ok(nvml) => handover.audit(nvml, kin, contexts).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = kept {
            tracing::info!(%error, "contexts of the job go uncounted");
        }
    }

    fn show(&self) -> Show {
        match self.view {
            cli::View::Shared => Show::Shared,
            cli::View::Capped => Show::Capped,
            cli::View::Raw => Show::Raw,
        }
    }

    fn spec(&self, gpus: &[Visible], handover: Option<&Handover>, mark: &Mark, descriptors: Inherited) -> Spec {
        let mut environment = vec![(mark.name.clone(), Some(mark.value.clone()))];
        if self.keep_visible {
            // Ours was changed at the start.
            environment.push((ORDER.into(), callers_order()));
        } else {
            environment.push((VISIBLE_DEVICES.into(), Some(Visible::variable(gpus).into())));
            environment.push((ORDER.into(), Some(BY_PCI_BUS.into())));
        }
        if let Some(library) = handover.and_then(Handover::library) {
            let preload = library.preload(std::env::var_os(PRELOAD).as_deref());
            environment.push((PRELOAD.into(), Some(preload)));
        }
        let mut words = self.command.iter().cloned();
        let program = words.next().unwrap_or_default();
        Spec { program, arguments: words.collect::<Vec<OsString>>(), environment, descriptors }
    }

    fn summarize(&self, command: &str, gpus: &[Visible], reserved: &[ByteSize], usage: &[(GpuUuid, Usage)]) {
        let Some(file) = &self.summary else { return };
        let gpus = gpus.iter().zip(reserved).map(|(gpu, reserved)| {
            let of_gpu = usage.iter().find(|(uuid, _)| *uuid == gpu.known.uuid);
            let usage = of_gpu.map(|(_, usage)| *usage).unwrap_or_default();
            summary::Gpu {
                ordinal: gpu.ordinal,
                uuid: gpu.known.id(),
                reserved: *reserved,
                peak: ByteSize::new(usage.peak),
                handed_over: ByteSize::new(usage.handed_over),
                retries: usage.retries,
            }
        });
        let summary = Summary { command: command.to_owned(), gpus: gpus.collect() };
        let text = if self.reservation.json { summary::json(&summary) } else { summary::text(&summary) };
        let written = match file {
            Some(file) => fs::write(file, text),
            None => io::stderr().write_all(text.as_bytes()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the summary cannot be written");
        }
    }
}

/// Waits for CMD's end, with the balloon as long as that lasts.
fn see_through(holder: &mut Holder, mut job: Job, mark: &Mark) -> Result<Ended, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, error).context("cannot watch the command");
    holder.events.watch(job.as_fd().try_clone_to_owned().map_err(failed)?);
    let mut pass_on = |received: &Received| match job.pass_on(received) {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(signal = received.signal, %error, "a signal does not reach the command");
            true
        }
    };
    let cause = holder.hold(&mut pass_on)?;
    if !matches!(cause, Cause::Exited) {
        tracing::info!("the reservation ends, the command goes on: {}", talk::because(&cause));
        holder.release(&mut pass_on)?;
        holder.outlive_balloon(&mut pass_on)?;
    }
    let ended = loop {
        match job.ended().map_err(failed)? {
            Some(ended) => break ended,
            // The descriptor is readable a moment before the status can be had.
            None => std::thread::yield_now(),
        }
    };
    for relative in job.family(mark) {
        tracing::info!(pid = relative.pid, name = relative.name, "lives on, and is no longer covered");
    }
    Ok(ended)
}

/// The holder's context would lock CMD out.
fn refuse_exclusive(plan: &Plan) -> Result<(), Failure> {
    let is_exclusive = |mode| mode == ComputeMode::ExclusiveProcess;
    let locked = plan.gpus.all().find(|wanted| wanted.device.compute_mode().is_ok_and(is_exclusive));
    match locked {
        Some(wanted) if plan.backing == Backing::Context => {
            let ordinal = wanted.device.ordinal;
            Err(Failure::new(
                Exit::Failed,
                anyhow::anyhow!(
                    "GPU {ordinal} takes one process only, and that would be the balloon's, not the command's"
                ),
            )
            .hint("add --contextless, or have root change the compute mode: nvidia-smi -c DEFAULT"))
        }
        _ => Ok(()),
    }
}

/// A text that no other job has: this process, and when it started.
fn mark() -> String {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}:{}", std::process::id(), started.as_nanos())
}

fn not_started(error: SpawnError) -> Failure {
    let exit = match &error {
        SpawnError::NotFound { .. } => Exit::RunNotFound,
        SpawnError::CannotExecute { .. } => Exit::RunCannotExecute,
        SpawnError::Failed { .. } => Exit::RunFailed,
    };
    Failure::new(exit, error)
}
