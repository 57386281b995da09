//! The processes that use the machine. Each library that a process loads is a client of its own.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::layout::MAX_CLIENTS;
use crate::map::State;
use crate::names::Function;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ClientKind {
    Cuda = 1,
    Nvml = 2,
    /// A test's stand-in for a process that it does not want to start.
    Stand = 3,
}

/// A place in the table of clients, held until the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(pub(crate) usize);

impl State {
    /// Enters this process into the table. Its place stays taken as long as it lives.
    pub fn join(&self, kind: ClientKind) -> io::Result<Client> {
        let _guard = self.registry.lock(|| ());
        let used = self.clients_used.load(Relaxed) as usize;
        // The dead keep their place while there are others: their counts of calls can still be read.
        let free = if used < MAX_CLIENTS { Some(used) } else { (0..used).find(|&client| !self.is_alive(client)) };
        let client = free.ok_or_else(|| io::Error::other("too many clients of the simulated driver"))?;
        self.hold_place(client)?;
        self.wipe(client);
        let slot = &self.clients[client];
        for calls in &slot.calls {
            if calls.load(Relaxed) != 0 {
                calls.store(0, Relaxed);
            }
        }
        slot.kind.store(kind as u32, Relaxed);
        slot.pid.store(std::process::id(), Release);
        self.clients_used.fetch_max(client as u32 + 1, AcqRel);
        self.changed();
        Ok(Client(client))
    }

    /// Counts a call.
    pub(crate) fn count(&self, client: Client, function: &Function) -> u32 {
        let number = function.number(self);
        self.clients[client.0].calls[number as usize].fetch_add(1, Relaxed);
        number
    }

    pub(crate) fn pid_of(&self, client: usize) -> u32 {
        self.clients[client].pid.load(Acquire)
    }

    pub(crate) fn clients_of(&self, pid: u32) -> impl Iterator<Item = usize> {
        let used = self.clients_used.load(Acquire) as usize;
        (0..used).filter(move |client| self.pid_of(*client) == pid)
    }

    /// How often the process `pid` has called `function`, also after its end.
    pub fn calls(&self, pid: u32, function: &str) -> u64 {
        let Some(number) = self.number_if_known(function) else { return 0 };
        self.clients_of(pid).map(|client| u64::from(self.clients[client].calls[number as usize].load(Relaxed))).sum()
    }

    /// Every function that the process has called, with how often.
    pub fn all_calls(&self, pid: u32) -> Vec<(String, u64)> {
        let names = (0..self.names_used.load(Acquire)).map(|number| self.names[number as usize].get());
        names.map(|name| (self.calls(pid, &name), name)).filter(|(n, _)| *n > 0).map(|(n, name)| (name, n)).collect()
    }

    /// The processes in the table that still run.
    pub fn live_pids(&self) -> Vec<u32> {
        let used = self.clients_used.load(Acquire) as usize;
        let mut pids: Vec<u32> = (0..used).filter(|c| self.is_alive(*c)).map(|c| self.pid_of(c)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether the client's process still holds its place. The kernel takes it at any end, before a parent has waited.
    pub(crate) fn is_alive(&self, client: usize) -> bool {
        // A process does not see its own record locks.
        self.pid_of(client) == std::process::id() || self.place(client, libc::F_GETLK).is_ok_and(|free| !free)
    }

    fn hold_place(&self, client: usize) -> io::Result<()> {
        self.place(client, libc::F_SETLK).map(|_| ())
    }

    /// `F_SETLK` takes the client's byte of the file, `F_GETLK` tells whether it is free.
    fn place(&self, client: usize, command: i32) -> io::Result<bool> {
        // SAFETY: all bytes zero is a valid `flock`.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        lock.l_start = client as libc::off_t;
        lock.l_len = 1;
        // SAFETY: the descriptor is open and the structure is live.
        match unsafe { libc::fcntl(self.places.as_raw_fd(), command, &raw mut lock) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(i32::from(lock.l_type) == libc::F_UNLCK),
        }
    }
}
