//! Puts together what NVML, the holders and `/proc` say: whose memory is whose, and which process is a balloon's.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::commands::inquiry::Heard;
use crate::commands::machine::{Machine, Reading};
use crate::control::client::ClientError;
use crate::control::registry::Entry;
use crate::control::wire::{self, State};
use crate::gpu::GpuUuid;
use crate::process::{Process, Processes};
use crate::report::{self, Balloon, Gpu, GpuMemory, Part, Snapshot};
use crate::units::ByteSize;

/// The name that the kernel knows a holder's process by.
const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// The machine as this user sees it.
pub struct View<'a> {
    machine: &'a Machine,
    /// What the system tells of the processes on the GPUs, registered holders left out.
    processes: BTreeMap<u32, Process>,
    look_up: &'a mut Processes,
}

impl<'a> View<'a> {
    pub fn new(machine: &'a Machine, look_up: &'a mut Processes) -> Self {
        Self { machine, processes: BTreeMap::new(), look_up }
    }

    /// The GPUs, and the balloons: first those that were heard of, then those that only NVML shows.
    pub fn of(mut self, heard: Vec<Heard>) -> Snapshot {
        let mut balloons: Vec<Balloon> = heard.into_iter().map(|heard| self.heard(heard)).collect();
        for pid in self.machine.pids() {
            if !balloons.iter().any(|balloon| balloon.pid == Some(pid)) {
                self.processes.insert(pid, self.look_up.look_up(pid));
            }
        }
        let is_holder = |process: &Process| process.program.as_deref() == Some(PROGRAM);
        let strangers = self.processes.iter().filter(|(_, process)| is_holder(process));
        balloons.extend(strangers.map(|(&pid, process)| self.stranger(pid, process)));
        let gpus = self.machine.gpus.iter().map(|gpu| self.gpu(gpu, &balloons)).collect();
        Snapshot { gpus, balloons }
    }

    fn heard(&mut self, heard: Heard) -> Balloon {
        let owner = heard.entry.directory.owner();
        let balloon = match heard.answer {
            Ok(balloon) => self.described(balloon),
            Err(why) => {
                // Of another version's holder no more is known than that it lives.
                let answers = matches!(why, ClientError::OtherVersion(_) | ClientError::Garbled(_));
                self.registered(heard.entry, (!answers).then_some(State::Unresponsive))
            }
        };
        Balloon { user: Some(self.look_up.user(owner)), is_own: owner == rustix::process::getuid().as_raw(), ..balloon }
    }

    fn described(&self, balloon: wire::Balloon) -> Balloon {
        let pid = balloon.pid;
        let parts = balloon.gpus.iter().map(|gpu| self.part(gpu, pid)).collect();
        Balloon {
            name: balloon.name,
            pid: Some(pid),
            user: balloon.user,
            command: balloon.command,
            reason: balloon.reason,
            state: Some(balloon.state),
            place_in_line: balloon.place_in_line,
            started_at: balloon.started_at.as_deref().and_then(time),
            ends_at: balloon.ends_at.as_deref().and_then(time),
            log: balloon.log,
            parts,
            is_own: true,
        }
    }

    /// A holder that tells nothing now: its registration tells who it is, NVML what it has.
    fn registered(&self, entry: Entry, state: Option<State>) -> Balloon {
        let known = entry.registration.as_ref();
        let pid = known.map(|known| known.pid);
        let gpus = known.map(|known| known.gpus.clone()).unwrap_or_default();
        Balloon {
            name: entry.name,
            pid,
            user: None,
            command: known.and_then(|known| known.command.clone()),
            reason: known.and_then(|known| known.reason.clone()),
            state,
            place_in_line: None,
            started_at: known.and_then(|known| time(&known.started_at)),
            ends_at: None,
            log: known.and_then(|known| known.log.clone()),
            parts: gpus.into_iter().map(|gpu| self.seen_part(gpu, pid)).collect(),
            is_own: true,
        }
    }

    /// A holder that is not registered here: another user's, or one with another runtime directory.
    fn stranger(&self, pid: u32, process: &Process) -> Balloon {
        Balloon {
            name: pid.to_string(),
            pid: Some(pid),
            user: process.user.clone(),
            command: process.command.clone(),
            reason: None,
            state: None,
            place_in_line: None,
            started_at: process.started_at,
            ends_at: None,
            log: None,
            parts: self.machine.gpus_of(pid).into_iter().map(|gpu| self.seen_part(gpu, Some(pid))).collect(),
            is_own: process.is_own,
        }
    }

    fn part(&self, part: &wire::BalloonGpu, pid: u32) -> Part {
        let allocated = ByteSize::new(part.allocated_bytes);
        // NVML counts what is lent for the holder.
        let borrowers: Vec<_> =
            part.borrowers.iter().map(|borrower| (borrower.pid, ByteSize::new(borrower.bytes))).collect();
        let lent = borrowers.iter().map(|(_, borrowed)| *borrowed).sum();
        let used = self.machine.used_by(pid, part.uuid).map(|used| used.saturating_sub(lent));
        Part {
            is_inflated: Some(part.is_inflated),
            target: part.target_bytes.map(ByteSize::new),
            allocated: Some(allocated),
            chunks: Some(part.num_chunks),
            chunk_size: Some(ByteSize::new(part.chunk_bytes)),
            overhead: used.map(|used| used.saturating_sub(allocated)),
            handed_over: Some(ByteSize::new(part.handed_over_bytes)),
            borrowers,
            ..self.bare_part(part.uuid)
        }
    }

    /// A part of which only NVML tells. Its size includes the holder's context.
    fn seen_part(&self, uuid: GpuUuid, pid: Option<u32>) -> Part {
        Part { allocated: pid.and_then(|pid| self.machine.used_by(pid, uuid)), ..self.bare_part(uuid) }
    }

    fn bare_part(&self, uuid: GpuUuid) -> Part {
        let gpu = self.machine.gpu(uuid);
        let memory = gpu.and_then(|gpu| gpu.memory);
        Part {
            ordinal: self.machine.ordinal(uuid),
            uuid: gpu.map_or_else(|| uuid.to_string(), |gpu| gpu.known.id()),
            is_inflated: None,
            target: None,
            allocated: None,
            chunks: None,
            chunk_size: None,
            overhead: None,
            handed_over: None,
            borrowers: Vec::new(),
            free: memory.map(|memory| memory.free),
            total: memory.map(|memory| memory.total),
        }
    }

    fn gpu(&self, gpu: &Reading, balloons: &[Balloon]) -> Gpu {
        let is_holder = |pid| balloons.iter().any(|balloon| balloon.pid == Some(pid));
        let rest = gpu.processes.iter().filter(|process| !is_holder(process.pid));
        let uuid = gpu.known.id();
        let parts = || balloons.iter().flat_map(|balloon| &balloon.parts).filter(|part| part.uuid == uuid);
        let borrowed = |by: u32| {
            let borrowers = parts().flat_map(|part| &part.borrowers);
            borrowers.filter(move |(pid, _)| *pid == by).map(|(_, borrowed)| *borrowed).sum::<ByteSize>()
        };
        let processes: Vec<report::Process> = rest
            .map(|process| {
                let known = self.processes.get(&process.pid);
                report::Process {
                    pid: process.pid,
                    user: known.and_then(|known| known.user.clone()),
                    command: known.and_then(|known| known.command.clone()),
                    used: process.used_bytes.map(|used| ByteSize::new(used).saturating_add(borrowed(process.pid))),
                    is_own: known.is_some_and(|known| known.is_own),
                }
            })
            .collect();
        Gpu {
            ordinal: self.machine.ordinal(gpu.known.uuid),
            index: gpu.index,
            pci_bus_id: gpu.pci_bus_id(),
            name: gpu.name.clone(),
            memory: gpu.memory.map(|memory| {
                let own = processes.iter().filter(|one| one.is_own).filter_map(|one| one.used);
                let parts = |own| {
                    let balloons = balloons.iter().filter(move |balloon| balloon.is_own == own);
                    balloons.flat_map(|balloon| &balloon.parts).filter(|part| part.uuid == uuid)
                };
                // Of another namespace, say.
                let is_listed = |pid: u32| processes.iter().any(|process| process.pid == pid);
                let unlisted = parts(true).flat_map(|part| &part.borrowers).filter(|(pid, _)| !is_listed(*pid));
                let unlisted = unlisted.map(|(_, borrowed)| *borrowed);
                GpuMemory {
                    total: memory.total,
                    used: memory.used,
                    free: memory.free,
                    own_balloons: parts(true).filter_map(|part| part.allocated).sum(),
                    overhead: parts(true).filter_map(|part| part.overhead).sum(),
                    foreign_balloons: parts(false).filter_map(|part| part.allocated).sum(),
                    own_processes: own.chain(unlisted).sum(),
                }
            }),
            utilization_percent: gpu.utilization_percent,
            compute_mode: gpu.compute_mode.map(|mode| mode.to_string()),
            processes,
            uuid,
        }
    }
}

fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}
