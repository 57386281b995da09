//! `run`'s options for the handover, carried out; and what it came to.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tracing::info;

use crate::cli::{self, HandoverMode};
use crate::commands::failure::Failure;
use crate::commands::talk::say;
use crate::control::directory::RuntimeDirectory;
use crate::control::registry;
use crate::exit::Exit;
use crate::gpu::Nvml;
use crate::handover::{Handover, Keeper, Lends, Measure, NoLibrary, PRELOAD, Show, Usage};
use crate::holder::Holder;
use crate::job::{Kin, reach};
use crate::report::summary::{self, Gpu, Summary};
use crate::units::ByteSize;
use crate::untrusted::printable;

/// How long a job that only NVML tells of must have been looked at for its peak to be known.
const LONG: Duration = Duration::from_secs(1);

/// What the modes are made of.
impl HandoverMode {
    fn brings_library(self) -> bool {
        matches!(self, Self::Auto | Self::Preload | Self::Vmm)
    }

    fn asks_nvml(self) -> bool {
        matches!(self, Self::Auto | Self::Nvml | Self::Vmm)
    }

    pub fn lends(self) -> Lends {
        match self {
            Self::Vmm => Lends::First,
            Self::Auto | Self::Preload => Lends::AtNeed,
            Self::Nvml | Self::Off => Lends::Never,
        }
    }
}

/// The handover of one `run`.
pub struct Handing {
    mode: HandoverMode,
    measure: Measure,
    /// `None` with `--handover off`.
    handover: Option<Handover>,
    gpus: Vec<Reserved>,
    /// Whether the holder has contexts, so that NVML must list it.
    has_contexts: bool,
    usage: Vec<Usage>,
    /// Whether every process of the job tells what it has, as far as one can know.
    sees_all: bool,
    keeper: Option<Keeper>,
    /// CMD's pid, and since when it runs.
    job: Option<(u32, Instant)>,
}

/// A GPU as it was reserved.
struct Reserved {
    ordinal: u32,
    uuid: String,
    size: ByteSize,
}

impl Handing {
    /// The keeper of the library, if there is to be one. Comes before everything that starts threads.
    pub fn post_keeper(mode: HandoverMode) -> Option<Keeper> {
        let posted = mode.brings_library().then(|| Keeper::post(bury)).transpose();
        posted.inspect_err(|error| info!(%error, "nobody keeps the library")).ok().flatten()
    }

    /// Gets everything ready before CMD starts.
    ///
    /// # Errors
    /// What was asked for explicitly cannot be had.
    pub fn prepare(
        options: &cli::Run,
        holder: &Holder,
        program: &Path,
        keeper: Option<Keeper>,
    ) -> Result<Self, Failure> {
        let mode = options.handover;
        let failed = |error: io::Error| Failure::new(Exit::RunFailed, error).context("cannot hand memory over");
        let reserved = holder.lanes().iter().map(|lane| lane.reservation()).collect::<Vec<_>>();
        let gpus = holder.reserved_gpus().zip(reserved).map(|((ordinal, uuid), size)| Reserved { ordinal, uuid, size });
        // Without the audit nobody would answer.
        let measures = options.summary.is_some() && mode.brings_library() && mode.asks_nvml();
        let mut handing = Self {
            mode,
            measure: if measures { Measure::AtOnce } else { Measure::Soon },
            handover: None,
            gpus: gpus.collect(),
            has_contexts: holder.has_contexts(),
            usage: Vec::new(),
            sees_all: false,
            keeper,
            job: None,
        };
        if mode == HandoverMode::Off {
            return Ok(handing);
        }
        let mut handover = Handover::prepare(holder.lanes()).map_err(failed)?;
        let has_library = mode.brings_library() && handing.bring_library(&mut handover, options, holder)?;
        let reached = reach(program);
        if let (true, Err(why)) = (has_library, reached) {
            info!("the library does not get into the command: {why}");
        }
        handing.sees_all = has_library && reached.is_ok();
        if mode.asks_nvml() && (!has_library || reached.is_err()) {
            handing.expect_strangers(&handover, options.reservation.chunk_size)?;
        }
        handing.handover = Some(handover);
        Ok(handing)
    }

    /// Says whether the library goes into the job.
    fn bring_library(&self, handover: &mut Handover, options: &cli::Run, holder: &Holder) -> Result<bool, Failure> {
        let show = match options.view {
            cli::View::Shared => Show::Shared,
            cli::View::Capped => Show::Capped,
            cli::View::Raw => Show::Raw,
        };
        match handover.bring_library(show, self.mode.lends(), self.measure, holder.job_socket(), self.keeper.as_ref()) {
            Ok(()) => Ok(true),
            Err(error) if self.mode == HandoverMode::Preload => {
                Err(Failure::new(Exit::RunFailed, error).context("the library cannot go into the command"))
            }
            Err(error) => {
                tell_without_library(&error);
                Ok(false)
            }
        }
    }

    /// Only NVML will tell what the job has.
    fn expect_strangers(&self, handover: &Handover, chunk: ByteSize) -> Result<(), Failure> {
        match Nvml::open() {
            Ok(nvml) => {
                info!("following NVML");
                handover.expect_strangers(&nvml, chunk);
                Ok(())
            }
            Err(error) if self.mode == HandoverMode::Nvml => Err(Failure::new(Exit::RunFailed, error)
                .context("cannot follow NVML")
                .hint("--handover preload does without it")),
            Err(error) => {
                info!(%error, "nothing tells what the command holds: the balloon keeps its size beside it");
                Ok(())
            }
        }
    }

    /// What CMD's environment needs.
    pub fn environment(&self) -> Option<(OsString, Option<OsString>)> {
        let library = self.handover.as_ref()?.library()?;
        Some((PRELOAD.into(), Some(library.preload(std::env::var_os(PRELOAD).as_deref()))))
    }

    /// CMD runs.
    pub fn begin(&mut self, kin: Kin) {
        self.job = Some((kin.root, Instant::now()));
        let Some(handover) = self.handover.as_mut().filter(|_| self.mode.asks_nvml()) else { return };
        if let Err(error) = handover.audit(kin, self.has_contexts, self.measure) {
            info!(%error, "what contexts of the job take goes uncounted");
        }
    }

    /// The reservation ends. Comes before its release, so that what the job had is known; the rest ends while that is freed.
    pub fn end(&mut self) {
        if let Some(handover) = &mut self.handover {
            self.usage = handover.usage();
            handover.close();
        }
    }

    /// CMD has ended.
    pub fn job_has_ended(&self) {
        if let (Some(keeper), Some((job, start))) = (&self.keeper, self.job) {
            keeper.job_has_ended(job, start);
        }
    }

    /// Writes what the job came to.
    pub fn summarize(&self, command: &str, file: Option<&Path>, as_json: bool) {
        let usage = self.usage.iter().copied().chain(std::iter::repeat(Usage::default()));
        // Where a process is only seen while somebody looks, a few looks tell little.
        let is_known = |usage: &Usage| self.sees_all || usage.looked >= LONG;
        let gpus = self.gpus.iter().zip(usage).map(|(gpu, usage)| Gpu {
            ordinal: gpu.ordinal,
            uuid: gpu.uuid.clone(),
            reserved: gpu.size,
            peak: is_known(&usage).then(|| ByteSize::new(usage.peak)),
            is_estimated: usage.is_estimated,
            handed_over: ByteSize::new(usage.handed_over),
            retries: usage.retries,
        });
        let summary = Summary { command: command.to_owned(), gpus: gpus.collect() };
        let text = if as_json { summary::json(&summary) } else { summary::text(&summary) };
        let written = match file {
            Some(file) => fs::write(file, &text),
            None => io::stderr().write_all(text.as_bytes()),
        };
        if let (Err(error), Some(file)) = (written, file) {
            say(format_args!("cannot write the summary to {}: {error}", printable(&file.to_string_lossy())));
            // It took the whole job to get it.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

/// Clears away what a killed holder has left.
fn bury() {
    if let Ok(directory) = RuntimeDirectory::open() {
        let _ = registry::live(&directory);
    }
}

fn tell_without_library(error: &NoLibrary) {
    match std::error::Error::source(error) {
        Some(why) => info!("no library goes into the command: {error}: {why}"),
        None => info!("no library goes into the command: {error}"),
    }
}
