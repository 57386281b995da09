//! NVML's account of the job: what the library cannot count, such as contexts and code, and the processes where it cannot
//! be. Looked at when the library reports news of that kind, then less and less often, at last once a second.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::desk::locked;
use super::ledger::{Ledger, Reading};
use crate::gpu::{GpuUuid, Nvml};
use crate::job::Kin;

/// Pauses after news. NVML may lag behind, so it is looked at several times.
const AFTER_NEWS: [Duration; 4] =
    [Duration::from_millis(15), Duration::from_millis(30), Duration::from_millis(100), Duration::from_millis(300)];
const CALM: Duration = Duration::from_secs(1);
/// With processes that only NVML tells of.
const AMONG_STRANGERS: Duration = Duration::from_millis(50);

/// How long a process may be on a GPU before it is said to be without the library.
const SHY: Duration = Duration::from_secs(1);

/// Who the audit is for.
pub struct Subjects {
    pub kin: Kin,
    /// Whether every process is to be found by NVML: there is no library.
    pub all_are_strangers: bool,
    /// Whether it takes news, or a while, for NVML to be worth a look.
    pub waits_for_news: bool,
    /// Whether NVML must list this process on each GPU, because it has contexts there: if it does not, the pids that it
    /// lists are another namespace's.
    pub lists_us: bool,
}

/// Looks at NVML until nobody is left to send `news`. A short job without CUDA ends before NVML is even loaded, which takes
/// longer than such a job.
pub fn keep(subjects: &Subjects, ledger: &Arc<Mutex<Ledger>>, news: &Receiver<Ring>) {
    let mut waiting = Vec::new();
    if subjects.waits_for_news {
        match news.recv_timeout(CALM) {
            Ok(ring) => waiting.extend(ring),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
    match Nvml::open() {
        Ok(nvml) => look_again_and_again(&nvml, subjects, ledger, news, waiting),
        Err(error) => tracing::info!(%error, "what contexts of the job take goes uncounted"),
    }
}

/// `waiting` are those who are to be told of the first look.
fn look_again_and_again(
    nvml: &Nvml,
    subjects: &Subjects,
    ledger: &Arc<Mutex<Ledger>>,
    news: &Receiver<Ring>,
    mut waiting: Vec<Told>,
) {
    let gpus: Vec<GpuUuid> = locked(ledger).gpus().collect();
    let mut audits: Vec<Audit> = gpus.iter().map(|gpu| Audit::new(*gpu)).collect();
    let mut looks = 0;
    loop {
        let mut strangers = false;
        for (number, audit) in audits.iter_mut().enumerate() {
            strangers |= audit.look(nvml, subjects, ledger, number);
        }
        waiting.drain(..).for_each(|told| told());
        let calm = if strangers || subjects.all_are_strangers { AMONG_STRANGERS } else { CALM };
        let pause = AFTER_NEWS.get(looks).copied().unwrap_or(CALM).min(calm);
        looks += 1;
        match news.recv_timeout(pause) {
            Ok(ring) => {
                waiting.extend(ring);
                waiting.extend(news.try_iter().flatten());
                looks = 0;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The audit of one GPU.
struct Audit {
    gpu: GpuUuid,
    /// What NVML showed beyond the counts last time. Of two looks the lesser counts: memory just freed shows for a while.
    before: BTreeMap<u32, u64>,
    /// The others on the GPU, by whether they belong to the job. Looked up once.
    others: BTreeMap<u32, bool>,
    /// Since when there are strangers.
    since: Option<Instant>,
    warned: bool,
}

impl Audit {
    fn new(gpu: GpuUuid) -> Self {
        Self { gpu, before: BTreeMap::new(), others: BTreeMap::new(), since: None, warned: false }
    }

    /// Reads NVML and enters what it shows. Says whether there are strangers.
    fn look(&mut self, nvml: &Nvml, subjects: &Subjects, ledger: &Arc<Mutex<Ledger>>, number: usize) -> bool {
        let before = locked(ledger).counts(number);
        let processes = match nvml.processes(self.gpu) {
            Ok(processes) => processes,
            Err(error) => {
                tracing::debug!(gpu = %self.gpu, %error, "NVML does not list the processes");
                return false;
            }
        };
        // What was allocated or freed meanwhile may or may not show: the larger count leaves it out of the rest.
        let mut counts = locked(ledger).counts(number);
        for (pid, count) in &mut counts {
            *count = (*count).max(before.get(pid).copied().unwrap_or(0));
        }
        let own = std::process::id();
        if subjects.lists_us && !processes.iter().any(|process| process.pid == own) {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::info!(gpu = %self.gpu, "NVML lists the pids of another namespace: contexts go uncounted");
            }
            return false;
        }
        let mut reading = Reading::default();
        let mut beyond = BTreeMap::new();
        let mut strangers = Vec::new();
        self.others.retain(|pid, _| processes.iter().any(|process| process.pid == *pid));
        for process in processes.iter().filter(|process| process.pid != own) {
            let shown = process.used_bytes.unwrap_or(0);
            if let Some(count) = counts.get(&process.pid) {
                beyond.insert(process.pid, shown.saturating_sub(*count));
            } else if *self.others.entry(process.pid).or_insert_with(|| subjects.kin.includes(process.pid)) {
                reading.strangers = reading.strangers.saturating_add(shown);
                strangers.push(process.pid);
            }
        }
        reading.glimpsed = beyond.clone();
        reading.members =
            beyond.iter().map(|(pid, now)| (*pid, (*now).min(self.before.get(pid).copied().unwrap_or(0)))).collect();
        self.before = beyond;
        locked(ledger).audited(number, reading);
        self.tell(&strangers, subjects);
        !strangers.is_empty()
    }

    /// Says once that there are processes without the library, where that is no surprise.
    fn tell(&mut self, strangers: &[u32], subjects: &Subjects) {
        if strangers.is_empty() || subjects.all_are_strangers {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > SHY && !std::mem::replace(&mut self.warned, true) {
            tracing::info!(pids = ?strangers, gpu = %self.gpu, "processes without the library: following NVML for them");
        }
    }
}

/// Called when a look is over; dropped where there is none.
pub type Told = Box<dyn FnOnce() + Send>;

/// News for the audit, and who is to be told when it has looked.
pub type Ring = Option<Told>;

/// Rings for the audit; one that has ended needs no more.
#[derive(Clone)]
pub struct News(pub Sender<Ring>);

impl News {
    pub fn ring(&self) {
        let _ = self.0.send(None);
    }

    pub fn ring_and_tell(&self, told: Told) {
        let _ = self.0.send(Some(told));
    }
}
