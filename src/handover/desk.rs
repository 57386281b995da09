//! Where the job's processes ask: a thread that admits them, gives way to them, lends to them, and tells them the memory.
//!
//! On each GPU one process is served at a time, first come, first served: its turn lasts from the driver's refusal until
//! it has allocated what way was given to, so that two ranks never take it from each other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::answers::{Owed, memory, send, send_pieces, send_with};
use super::audit::News;
use super::lane::{Need, Pieces, View, Yielded};
use super::ledger::Ledger;
use super::page::Shared;
use super::protocol::{
    Answer, BEGINS, HELLO, LEND, LEND_ONE, LOOK, MAX_GPUS, NEED, PATIENT, Packet, REACH, READY, RETURN, Request, VIEW,
    Welcome,
};
use super::turns::{Id, Turns};
use crate::balloon::{Loan, Wanted};
use crate::gpu::GpuUuid;
use crate::units::ByteSize;

/// Connections that nobody has been answered on yet. More wait in the kernel's queue.
const BACKLOG: i32 = 512;
/// How often those who wait are told to be patient; well within their own patience.
const REASSURANCE: Duration = Duration::from_millis(500);

struct Connection {
    id: Id,
    socket: Arc<OwnedFd>,
    pid: u32,
    /// What it needs and has not been given way to yet.
    needs: Option<Need>,
}

impl Connection {
    fn loan(&self, request: Request) -> Loan {
        Loan { pid: self.pid, number: request.loan }
    }
}

/// The desk's own state, on its thread.
pub struct Desk {
    ledger: Arc<Mutex<Ledger>>,
    shared: Arc<Shared>,
    listener: OwnedFd,
    /// Whether somebody waits there for whom no descriptor is left.
    is_deaf: bool,
    /// Readable when the desk is to close.
    closing: OwnedFd,
    connections: Vec<Connection>,
    next: Id,
    /// By the GPU's number.
    turns: Vec<Turns>,
    /// The processes with a slot; each becomes readable when the process has ended.
    members: Vec<(u32, OwnedFd)>,
    reassure: Instant,
    news: News,
}

impl Desk {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub fn open(
        path: &Path,
        ledger: Arc<Mutex<Ledger>>,
        shared: Arc<Shared>,
        closing: OwnedFd,
        news: News,
    ) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let turns = locked(&ledger).gpus().map(|_| Turns::default()).collect();
        let (connections, members) = (Vec::new(), Vec::new());
        let reassure = Instant::now();
        let (is_deaf, next) = (false, 0);
        Ok(Self { ledger, shared, listener, is_deaf, closing, connections, next, turns, members, reassure, news })
    }

    /// Serves until told to close.
    pub fn serve(mut self) {
        while self.wait() {
            self.bury();
            self.accept();
            self.listen();
            self.end_overdue_turns();
            self.call_next();
            self.reassure();
        }
    }

    /// Waits for something to do. Says whether the desk stays open.
    fn wait(&self) -> bool {
        let in_flight = self.turns.iter().any(|turns| turns.current().is_some());
        let timeout =
            (in_flight || self.is_deaf).then(|| Timespec { tv_sec: 0, tv_nsec: REASSURANCE.subsec_nanos().into() });
        let mut polled = vec![PollFd::new(&self.closing, PollFlags::IN)];
        polled.extend((!self.is_deaf).then(|| PollFd::new(&self.listener, PollFlags::IN)));
        polled.extend(self.members.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
        polled.extend(self.connections.iter().map(|one| PollFd::new(&*one.socket, PollFlags::IN)));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => polled[0].revents().is_empty(),
            Err(error) => error == Errno::INTR,
        }
    }

    /// Processes that have ended hold nothing.
    fn bury(&mut self) {
        let (ended, alive) = std::mem::take(&mut self.members).into_iter().partition(|(_, pidfd)| is_readable(pidfd));
        self.members = alive;
        for (pid, _) in ended {
            locked(&self.ledger).dismiss(pid);
            self.news.ring();
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let accepted = rustix::net::accept_with(&self.listener, flags);
            self.is_deaf = matches!(accepted, Err(Errno::MFILE | Errno::NFILE));
            let Ok(socket) = accepted else { break };
            let Ok(peer) = getsockopt(&socket, PeerCredentials) else { continue };
            let user = rustix::process::geteuid();
            let is_ours = peer.uid() == user.as_raw() || peer.uid() == 0;
            if let (true, Ok(pid @ 1..)) = (is_ours, u32::try_from(peer.pid())) {
                self.next += 1;
                self.connections.push(Connection { id: self.next, socket: Arc::new(socket), pid, needs: None });
            }
        }
    }

    fn listen(&mut self) {
        for id in self.connections.iter().map(|connection| connection.id).collect::<Vec<_>>() {
            while let Some(request) = self.receive(id) {
                self.answer(id, request);
            }
        }
    }

    /// The next request on a connection. One that is closed, or says what nobody understands, is forgotten.
    fn receive(&mut self, id: Id) -> Option<Request> {
        let connection = self.connection(id)?;
        let mut bytes = [0; size_of::<Request>()];
        match rustix::net::recv(&connection.socket, &mut bytes[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((length, _)) if length == bytes.len() => Request::from_bytes(&bytes),
            Err(Errno::AGAIN | Errno::INTR) => None,
            // Closed before our last answer was read (unix(7)). What was said before that is still to come, such as a RETURN.
            Err(Errno::CONNRESET) => self.receive(id),
            Ok(_) | Err(_) => {
                self.forget(id);
                None
            }
        }
    }

    fn answer(&mut self, id: Id, request: Request) {
        let gpu = locked(&self.ledger).number(GpuUuid(request.gpu));
        match (request.kind, gpu) {
            (HELLO, _) => self.welcome(id),
            (LOOK, _) => self.look(id),
            (NEED, Some(gpu)) => self.queue(id, request, gpu),
            (READY, Some(gpu)) => self.give_way(id, gpu),
            (VIEW, Some(gpu)) => self.tell_memory(id, gpu),
            (LEND, Some(gpu)) => self.lend(id, request, Wanted::AtLeast(ByteSize::new(request.size)), gpu),
            (LEND_ONE, Some(gpu)) => self.lend(id, request, Wanted::One(ByteSize::new(request.size)), gpu),
            (REACH, Some(gpu)) => self.reach(id, request, gpu),
            (RETURN, Some(gpu)) => self.take_home(id, request, gpu),
            _ => {
                if let Some(connection) = self.connection(id) {
                    send(&connection.socket, &Answer::default());
                }
            }
        }
    }

    fn connection(&self, id: Id) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    fn connection_mut(&mut self, id: Id) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn welcome(&mut self, id: Id) {
        let Some(connection) = self.connection(id) else { return };
        let pid = connection.pid;
        let Some(Ok(pidfd)) = Pid::from_raw(pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            return;
        };
        let mut ledger = locked(&self.ledger);
        let slot = ledger.admit(pid);
        let mut uuids = [[0; 16]; MAX_GPUS];
        let count = uuids.iter_mut().zip(ledger.gpus()).map(|(place, uuid)| *place = uuid.0).count();
        let slot_number = slot.and_then(|slot| u32::try_from(slot).ok()).unwrap_or(u32::MAX);
        let welcome = Welcome { slot: slot_number, count: count as u32, uuids };
        let sent = send_with(&connection.socket, &welcome, &[self.shared.as_fd()]);
        if slot.is_none() || !sent {
            tracing::info!(pid, "a process of the job goes uncounted");
            ledger.dismiss(pid);
            return;
        }
        tracing::debug!(pid, "a process of the job uses CUDA");
        drop(ledger);
        self.members.retain(|(known, _)| *known != pid);
        self.members.push((pid, pidfd));
        self.news.ring();
    }

    fn look(&self, id: Id) {
        let Some(connection) = self.connection(id) else { return };
        let owed = Owed::to(&connection.socket);
        self.news.ring_and_tell(Box::new(move || owed.give(Answer { yes: 1, ..Answer::default() })));
    }

    fn tell_memory(&self, id: Id, gpu: usize) {
        let Some(connection) = self.connection(id) else { return };
        let owed = Owed::to(&connection.socket);
        let mut ledger = locked(&self.ledger);
        // Up to date, so that what the job has just allocated is known before its memory is told.
        ledger.read();
        let tell = |view: Option<View>| owed.give(view.map(|view| memory(&view)).unwrap_or_default());
        ledger.lane(gpu).view(Box::new(tell));
    }

    fn lend(&self, id: Id, request: Request, wanted: Wanted, gpu: usize) {
        let Some(connection) = self.connection(id) else { return };
        let (loan, owed) = (connection.loan(request), Owed::to(&connection.socket));
        // The end of others would go unnoticed, and their loans would never come home.
        if !self.members.iter().any(|(pid, _)| *pid == loan.pid) {
            return;
        }
        let tell = |lent: Option<ByteSize>| {
            let lent = lent.unwrap_or_default();
            owed.give(Answer { yes: u32::from(!lent.is_zero()), balloon: lent.bytes(), ..Answer::default() });
        };
        locked(&self.ledger).lane(gpu).lend(loan, wanted, Box::new(tell));
    }

    fn reach(&self, id: Id, request: Request, gpu: usize) {
        let Some(connection) = self.connection(id) else { return };
        let (loan, socket) = (connection.loan(request), Arc::clone(&connection.socket));
        let tell = move |pieces: Option<Pieces>| send_pieces(&socket, pieces);
        locked(&self.ledger).lane(gpu).reach(loan, request.place as usize, Box::new(tell));
    }

    fn take_home(&self, id: Id, request: Request, gpu: usize) {
        if let Some(connection) = self.connection(id) {
            let loan = connection.loan(request);
            let from = request.place as usize;
            let count = usize::try_from(request.size).unwrap_or(usize::MAX);
            locked(&self.ledger).lane(gpu).take_home(loan, from..from.saturating_add(count));
        }
    }

    fn queue(&mut self, id: Id, request: Request, gpu: usize) {
        let Some(connection) = self.connection_mut(id) else { return };
        let size = ByteSize::new(request.size);
        connection.needs = Some(if request.is_guess == 0 { Need::Bytes(size) } else { Need::About(size) });
        if self.turns[gpu].ask(id) {
            self.begin(id);
        }
    }

    /// The turn begins; nothing is freed before its owner is there to take it.
    fn begin(&self, id: Id) {
        if let Some(connection) = self.connection(id) {
            send(&connection.socket, &Answer { yes: BEGINS, ..Answer::default() });
        }
    }

    fn give_way(&mut self, id: Id, gpu: usize) {
        let is_its_turn = self.turns[gpu].current() == Some(id);
        let Some(connection) = self.connection_mut(id).filter(|connection| connection.needs.is_some()) else { return };
        let Some(need) = connection.needs.take_if(|_| is_its_turn) else {
            // Its turn was over before it was there, because it had been stopped, say. It gets another.
            self.turns[gpu].ask(id);
            return;
        };
        let owed = Owed::to(&connection.socket);
        let ledger = locked(&self.ledger);
        let retries = ledger.retries(gpu);
        let yielded = move |yielded: Option<Yielded>| {
            let is_worth_a_try = yielded == Some(Yielded::Room);
            retries.fetch_add(is_worth_a_try.into(), Relaxed);
            owed.give(Answer { yes: is_worth_a_try.into(), ..Answer::default() });
        };
        ledger.lane(gpu).give_way(need, Box::new(yielded));
    }

    /// Whoever is next gets the turn where it is nobody's.
    fn call_next(&mut self) {
        for gpu in 0..self.turns.len() {
            if let Some(id) = self.turns[gpu].begin() {
                self.begin(id);
            }
        }
    }

    /// The connection is closed: its turn, or its place in the queue, is given up.
    fn forget(&mut self, id: Id) {
        self.connections.retain(|connection| connection.id != id);
        self.end_turns(|turns| turns.leave(id));
    }

    fn end_overdue_turns(&mut self) {
        let now = Instant::now();
        self.end_turns(|turns| turns.end_overdue(now));
    }

    /// `end` says whether it has ended a turn on a GPU.
    fn end_turns(&mut self, end: impl Fn(&mut Turns) -> bool) {
        for (gpu, turns) in self.turns.iter_mut().enumerate() {
            if end(turns) {
                locked(&self.ledger).settle(gpu);
            }
        }
    }

    fn reassure(&mut self) {
        let now = Instant::now();
        if now < self.reassure {
            return;
        }
        self.reassure = now + REASSURANCE;
        let waiting: Vec<Id> = self.turns.iter().flat_map(Turns::everybody).collect();
        for connection in self.connections.iter().filter(|connection| waiting.contains(&connection.id)) {
            send(&connection.socket, &Answer { yes: PATIENT, ..Answer::default() });
        }
    }
}

fn is_readable(descriptor: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// The ledger, also when a thread that had it panicked: its numbers are read anew each time.
pub fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
