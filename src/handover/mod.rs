//! Handing the balloon over to the job: the library that goes into its processes, and what the holder has for it.
//!
//! The processes count what they allocate on a page that they share with the holder; a thread hears of changes. What needs
//! an answer goes over a socket, at which another thread sits. A third looks at NVML for what the library cannot count.
//!
//! What it cannot do:
//! - On a full GPU memory is free for an instant before the job has it. Who spins on the driver gets a part of it; then the
//!   job needs more from the balloon, and so the reservation shrinks. So a race that is lost is the last for a while: the job
//!   then borrows, which is to say that the library maps the balloon's memory, and the balloon keeps it, too. Borrowed memory
//!   has no legacy IPC handle. Arrays, pitched memory, `cuMemCreate` with special wishes, and what the driver takes by itself,
//!   such as a context, go on racing.
//! - What the job frees of its own is anybody's until the balloon has it back, except for this user's holders that wait. Below
//!   a chunk, that is when something else happens, or on a full GPU at once.
//! - Where the library does not get (static and setuid programs, `RTLD_DEEPBIND`, `dlmopen`, a cleared `LD_PRELOAD`, another
//!   pid namespace) the balloon follows NVML: 50 ms late, and on a full GPU a job can take at once no more than a context
//!   and a chunk.
//! - Where NVML lists other pids than ours, or no memory by process, contexts and code go uncounted.
//! - A program that is linked against a sanitizer which insists on being the first library refuses to start.

mod answers;
mod audit;
mod desk;
mod inquiry;
mod keeper;
mod lane;
mod ledger;
mod library;
mod page;
#[path = "preload/protocol.rs"]
#[expect(unsafe_code, reason = "values that travel as they lie in memory")]
#[allow(dead_code, reason = "the library uses the rest")]
mod protocol;
#[cfg(test)]
mod tests;
mod turns;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::futex;

use crate::gpu::{GpuUuid, Nvml};
use crate::job::Kin;
use crate::units::ByteSize;
use audit::{News, Ring, Subjects};
use desk::{Desk, locked};
pub use inquiry::lacking;
pub use keeper::Keeper;
pub use lane::{JobUse, Lane, Need, Pieces, Reply, View, Yielded};
use ledger::Ledger;
pub use ledger::Usage;
use library::Library;
pub use library::VARIABLE as PRELOAD;
use page::Shared;
pub use protocol::MOST_PIECES;
use protocol::{Config, MAGIC, PATH};

/// What a job's context costs at least. The holder's own, by which one might guess, is trimmed.
const TYPICAL_CONTEXT: ByteSize = ByteSize::new(protocol::CONTEXT);

/// What the job is shown of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Shared,
    Capped,
    Raw,
}

/// Whether the job borrows the balloon's own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lends {
    Never,
    /// Where others are faster to take what is freed for it.
    AtNeed,
    /// Before the driver is asked.
    First,
}

/// When the contexts of the job, which take memory that only NVML can tell the size of, are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Soon: as far as the balloon is concerned, a job that is gone by then does not matter.
    Soon,
    /// At once, and from the job's beginning on, for which it waits: its peak is wanted.
    AtOnce,
}

/// Why the library cannot go into the job.
#[derive(Debug, thiserror::Error)]
pub enum NoLibrary {
    #[error("there is no place for its socket")]
    NoSocket,
    #[error("the system does not let it be loaded")]
    Forbidden(#[source] io::Error),
    #[error("the holder cannot listen to it")]
    Deaf(#[source] io::Error),
}

/// The handover of one job. Dropping it leaves the job to itself.
pub struct Handover {
    shared: Arc<Shared>,
    ledger: Arc<Mutex<Ledger>>,
    library: Option<Library>,
    news: Option<News>,
    audit: Option<Receiver<Ring>>,
    is_closing: Arc<AtomicBool>,
    closing: OwnedFd,
    threads: Vec<JoinHandle<()>>,
}

impl Handover {
    /// Prepares to follow a job on these GPUs.
    ///
    /// # Errors
    /// The system has no descriptor, memory or thread left.
    pub fn prepare(lanes: Vec<Box<dyn Lane>>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new()?);
        let ledger = Arc::new(Mutex::new(Ledger::new(Arc::clone(&shared), lanes)));
        let (ring, audit) = channel();
        Ok(Self {
            shared,
            ledger,
            library: None,
            news: Some(News(ring)),
            audit: Some(audit),
            is_closing: Arc::new(AtomicBool::new(false)),
            closing: eventfd(0, EventfdFlags::CLOEXEC)?,
            threads: Vec::new(),
        })
    }

    /// Prepares the library, told to show memory as `show` says, when to borrow, and whether to wait until its contexts are
    /// measured, and listens to it. `socket` is the path for this process and the one for the job's.
    ///
    /// # Errors
    /// The library cannot go into the job; the rest works without.
    pub fn bring_library(
        &mut self,
        show: Show,
        lends: Lends,
        measure: Measure,
        socket: Option<(PathBuf, PathBuf)>,
        keeper: Option<&Keeper>,
    ) -> Result<(), NoLibrary> {
        let (own, others) = socket.ok_or(NoLibrary::NoSocket)?;
        let config = config(show, lends, measure);
        let library = Library::new(config, &others, keeper).map_err(NoLibrary::Forbidden)?;
        locked(&self.ledger).keeps_headroom = lends != Lends::First;
        self.listen(&own).map_err(NoLibrary::Deaf)?;
        self.library = Some(library);
        Ok(())
    }

    fn listen(&mut self, path: &Path) -> io::Result<()> {
        let Some(news) = self.news.clone() else { return Ok(()) };
        let (ledger, shared) = (Arc::clone(&self.ledger), Arc::clone(&self.shared));
        let desk = Desk::open(path, ledger, shared, self.closing.try_clone()?, news.clone())?;
        let builder = |name: &str| std::thread::Builder::new().name(name.to_owned());
        self.threads.push(builder("desk").spawn(move || desk.serve())?);
        let (ledger, shared) = (Arc::clone(&self.ledger), Arc::clone(&self.shared));
        let is_closing = Arc::clone(&self.is_closing);
        self.threads.push(builder("ear").spawn(move || hear(&shared, &ledger, &news, &is_closing))?);
        Ok(())
    }

    /// The library, if it goes into the job.
    pub fn library(&self) -> Option<&Library> {
        self.library.as_ref()
    }

    /// Keeps room on each GPU for processes without the library: for a context and the next allocation.
    pub fn expect_strangers(&self, nvml: &Nvml, chunk: ByteSize) {
        let mut ledger = locked(&self.ledger);
        let own = std::process::id();
        let context = |gpu: GpuUuid| {
            let used = nvml.processes(gpu).ok()?.iter().find(|process| process.pid == own)?.used_bytes?;
            Some(ByteSize::new(used))
        };
        let contexts: Vec<_> = ledger.lanes().map(|lane| (lane.held(), context(lane.gpu()))).collect();
        let largest = contexts.into_iter().map(|(held, used)| match used {
            Some(used) if used > held => used.saturating_sub(held),
            _ => TYPICAL_CONTEXT,
        });
        let context = largest.max().unwrap_or(TYPICAL_CONTEXT).max(TYPICAL_CONTEXT);
        ledger.expect_strangers(context.saturating_add(chunk));
    }

    /// Follows NVML's account of the job that has been started.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn audit(&mut self, kin: Kin, lists_us: bool, measure: Measure) -> io::Result<()> {
        let Some(news) = self.audit.take() else { return Ok(()) };
        let ledger = Arc::clone(&self.ledger);
        let waits_for_news = measure == Measure::Soon && !locked(&ledger).expects_strangers();
        let subjects = Subjects { kin, all_are_strangers: self.library.is_none(), lists_us, waits_for_news };
        let keep = move || audit::keep(&subjects, &ledger, &news);
        self.threads.push(std::thread::Builder::new().name("audit".to_owned()).spawn(keep)?);
        Ok(())
    }

    /// What the job has had of each GPU, in the order of the lanes.
    pub fn usage(&self) -> Vec<Usage> {
        locked(&self.ledger).usage()
    }

    /// Ends it without waiting for that: a balloon that is being let go of gives way to nobody.
    pub fn close(&mut self) {
        self.is_closing.store(true, Release);
        let bell = &self.shared.page().bell;
        bell.fetch_add(1, Release);
        let _ = futex::wake(bell, futex::Flags::empty(), 1);
        let _ = rustix::io::write(&self.closing, &1_u64.to_ne_bytes());
        // The audit ends when nobody can ring for it: the other two have ended, and this is the last.
        self.news = None;
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// As the library is told it; where the socket is comes later.
fn config(show: Show, lends: Lends, measure: Measure) -> Config {
    Config {
        magic: MAGIC,
        view: match show {
            Show::Raw => protocol::VIEW_RAW,
            Show::Shared => protocol::VIEW_SHARED,
            Show::Capped => protocol::VIEW_CAPPED,
        },
        lends: match lends {
            Lends::Never => protocol::LENDS_NEVER,
            Lends::AtNeed => protocol::LENDS_AT_NEED,
            Lends::First => protocol::LENDS_FIRST,
        },
        measures: u32::from(measure == Measure::AtOnce),
        socket: [0; PATH],
    }
}

/// Reads the counts whenever a process rings.
fn hear(shared: &Shared, ledger: &Mutex<Ledger>, news: &News, is_closing: &AtomicBool) {
    let page = shared.page();
    let mut heard = 0;
    while !is_closing.load(Acquire) {
        let bell = page.bell.load(Acquire);
        locked(ledger).read();
        let unsized_news = page.unsized_news.load(Relaxed);
        if unsized_news != std::mem::replace(&mut heard, unsized_news) {
            news.ring();
        }
        if !is_closing.load(Acquire) {
            let _ = futex::wait(&page.bell, futex::Flags::empty(), bell, None);
        }
    }
}
