//! The holder's control socket: takes requests and answers them, within limits, without a thread.
//!
//! The holder's loop polls [`Server::watched`] and calls [`Server::turn`]. Connections that say nothing, half a message
//! or garbage cost one of [`MAX_CONNECTIONS`] places for at most [`PATIENCE`]; a newcomer takes the place of the oldest
//! that has not yet asked anything.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::control::directory::RuntimeDirectory;
use crate::control::wire::{Answer, Envelope, MAX_MESSAGE, Request, VERSION};

const MAX_CONNECTIONS: usize = 64;

/// How long a peer may take to send its request or to read its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which connection asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker(u64);

/// The listening socket and its connections.
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection>,
    next: u64,
}

struct Connection {
    asker: Asker,
    stream: UnixStream,
    state: State,
}

enum State {
    Asking {
        text: Vec<u8>,
        until: Instant,
    },
    /// The request is with the holder.
    Waiting,
    Answering {
        text: Vec<u8>,
        sent: usize,
        until: Instant,
    },
}

impl Server {
    /// Listens as `name` in the runtime directory.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub fn listen(directory: &RuntimeDirectory, name: &str) -> io::Result<Self> {
        let listener = UnixListener::bind(directory.short_path(name))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, connections: Vec::new(), next: 0 })
    }

    /// What to poll for: the listener first, then each connection.
    pub fn watched(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = (self.listener.as_fd(), PollFlags::IN);
        let connections =
            self.connections.iter().filter_map(|connection| Some((connection.stream.as_fd(), connection.wants()?)));
        std::iter::once(listener).chain(connections)
    }

    /// When the next connection runs out of time.
    pub fn deadline(&self) -> Option<Instant> {
        self.connections.iter().filter_map(Connection::deadline).min()
    }

    /// Accepts, reads and writes whatever can be done without waiting. Returns the requests that are complete.
    pub fn turn(&mut self) -> Vec<(Asker, Request)> {
        let now = Instant::now();
        let mut requests = Vec::new();
        self.connections.retain_mut(|connection| connection.keep(now, &mut requests));
        // However many are at the door, what else the holder has to do is looked at in between.
        for _ in 0..MAX_CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now, &mut requests),
                // No descriptor left: the oldest silent peer gives up its own, or poll(2) would report the listener for ever.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) && self.evict() => {}
                Err(_) => break,
            }
        }
        requests
    }

    /// Answers a request. A peer that has gone away loses its answer.
    pub fn answer(&mut self, asker: Asker, answer: Answer) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.asker == asker) {
            connection.answer(answer);
            if matches!(connection.turn(Instant::now()), Turn::Close) {
                self.connections.retain(|connection| connection.asker != asker);
            }
        }
    }

    /// Takes a newcomer in and reads what it has sent, so that whoever asks at once is heard before anyone newer comes.
    fn admit(&mut self, stream: UnixStream, now: Instant, requests: &mut Vec<(Asker, Request)>) {
        if !is_allowed(&stream) || stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() >= MAX_CONNECTIONS && !self.evict() {
            return;
        }
        let asker = Asker(self.next);
        self.next += 1;
        let state = State::Asking { text: Vec::new(), until: now + PATIENCE };
        let mut connection = Connection { asker, stream, state };
        if connection.keep(now, requests) {
            self.connections.push(connection);
        }
    }

    /// Drops the oldest connection that has not asked anything yet; says whether there was one.
    fn evict(&mut self) -> bool {
        let silent = self.connections.iter().position(|connection| matches!(connection.state, State::Asking { .. }));
        silent.map(|silent| self.connections.remove(silent)).is_some()
    }
}

/// Only the balloon's owner, or root, may ask: the directory's mode says so already, the socket says it again.
fn is_allowed(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

enum Turn {
    Keep,
    Close,
    Asked(Request),
}

impl Connection {
    /// Does what can be done now; says whether the connection is still of use.
    fn keep(&mut self, now: Instant, requests: &mut Vec<(Asker, Request)>) -> bool {
        match self.turn(now) {
            Turn::Keep => true,
            Turn::Close => false,
            Turn::Asked(request) => {
                requests.push((self.asker, request));
                true
            }
        }
    }

    /// `None` while the holder has the request: a hang-up, which poll(2) always reports, could not be acted on.
    fn wants(&self) -> Option<PollFlags> {
        match self.state {
            State::Asking { .. } => Some(PollFlags::IN),
            State::Waiting => None,
            State::Answering { .. } => Some(PollFlags::OUT),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Asking { until, .. } | State::Answering { until, .. } => Some(until),
            State::Waiting => None,
        }
    }

    fn turn(&mut self, now: Instant) -> Turn {
        match &mut self.state {
            State::Asking { until, .. } | State::Answering { until, .. } if *until <= now => Turn::Close,
            State::Waiting => Turn::Keep,
            State::Asking { text, .. } => match read_line(&mut self.stream, text) {
                Line::Partial => Turn::Keep,
                Line::Closed => Turn::Close,
                Line::Complete => match read_request(text) {
                    // Whoever asked has told its user by now that nothing has changed. A release is still what was wanted.
                    Ok(Request::Resize { .. }) if has_hung_up(&self.stream) => Turn::Close,
                    Ok(request) => {
                        self.state = State::Waiting;
                        Turn::Asked(request)
                    }
                    Err(answer) => {
                        self.answer(answer);
                        self.turn(now)
                    }
                },
            },
            State::Answering { text, sent, .. } => loop {
                match self.stream.write(&text[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Keep,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Turn::Close,
                }
                if *sent == text.len() {
                    return Turn::Close;
                }
            },
        }
    }

    fn answer(&mut self, answer: Answer) {
        let mut text = serde_json::to_vec(&Envelope::new(answer)).unwrap_or_default();
        text.push(b'\n');
        self.state = State::Answering { text, sent: 0, until: Instant::now() + PATIENCE };
    }
}

/// Whether the peer is gone, and has not only said all that it had to say.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

enum Line {
    Partial,
    Complete,
    Closed,
}

/// Reads up to a line feed, at most [`MAX_MESSAGE`] bytes in all.
fn read_line(stream: &mut UnixStream, text: &mut Vec<u8>) -> Line {
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Line::Closed,
            Ok(count) => {
                if let Some(end) = part[..count].iter().position(|&byte| byte == b'\n') {
                    text.extend_from_slice(&part[..end]);
                    return Line::Complete;
                }
                text.extend_from_slice(&part[..count]);
                if text.len() > MAX_MESSAGE {
                    return Line::Closed;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Line::Partial,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Line::Closed,
        }
    }
}

/// Decodes a request, or says what is to be answered instead.
fn read_request(text: &[u8]) -> Result<Request, Answer> {
    let refused = |error: serde_json::Error| Answer::Refused { error: format!("not a request: {error}") };
    let value: serde_json::Value = serde_json::from_slice(text).map_err(refused)?;
    if value.get("version").and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
        return Err(Answer::OtherVersion);
    }
    serde_json::from_value::<Envelope<Request>>(value).map(|envelope| envelope.message).map_err(refused)
}

#[cfg(test)]
mod tests;
