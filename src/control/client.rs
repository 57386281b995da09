//! The commands' side of the control socket: asks a holder, with a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::control::directory::RuntimeDirectory;
use crate::control::registry;
use crate::control::wire::{Answer, Envelope, MAX_MESSAGE, Request, VERSION};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the holder does not answer")]
    Silent,
    #[error("the holder cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error("the holder ended before it answered")]
    Ended,
    #[error("the holder speaks version {0} of the protocol, this program version {VERSION}")]
    OtherVersion(u64),
    #[error("the holder's answer is not understood")]
    Garbled(#[source] serde_json::Error),
}

/// A question on its way; several can be under way at once.
pub struct Pending {
    stream: UnixStream,
    /// What has come of the answer.
    text: Vec<u8>,
}

/// Sends `request` to the holder registered as `name`. A stopped holder is noticed when the answer is awaited.
///
/// # Errors
/// Nobody listens, or the holder takes no connection before the deadline.
pub fn ask(
    directory: &RuntimeDirectory,
    name: &str,
    request: &Request,
    deadline: Instant,
) -> Result<Pending, ClientError> {
    let mut stream = connect(directory, name, deadline)?;
    let mut text = serde_json::to_vec(&Envelope::new(request)).map_err(ClientError::Garbled)?;
    text.push(b'\n');
    stream.write_all(&text).map_err(failure)?;
    Ok(Pending { stream, text: Vec::new() })
}

impl Pending {
    /// Waits for the answer until `deadline`.
    ///
    /// # Errors
    /// The holder is silent, gone, or of another version.
    pub fn answer(mut self, deadline: Instant) -> Result<Answer, ClientError> {
        self.read(deadline)?;
        self.decode()
    }

    /// Waits for the answer to a request that takes the holder as long as it takes. Every `interval` without one asks
    /// `lives`, and gives up on the first no.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn answer_while(mut self, interval: Duration, mut lives: impl FnMut() -> bool) -> Result<Answer, ClientError> {
        loop {
            match self.read(Instant::now() + interval) {
                Err(ClientError::Silent) if lives() => {}
                Err(error) => return Err(error),
                Ok(()) => return self.decode(),
            }
        }
    }

    fn read(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let mut part = [0; 4096];
        while self.text.last() != Some(&b'\n') && self.text.len() <= MAX_MESSAGE {
            match deadline.saturating_duration_since(Instant::now()) {
                // What has come by now counts, but a holder that goes on word by word is not waited for.
                Duration::ZERO => self.stream.set_nonblocking(true).map_err(failure)?,
                left => {
                    self.stream.set_nonblocking(false).map_err(failure)?;
                    self.stream.set_read_timeout(Some(left)).map_err(failure)?;
                }
            }
            match self.stream.read(&mut part) {
                Ok(0) => return Err(ClientError::Ended),
                Ok(count) => self.text.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(())
    }

    fn decode(&self) -> Result<Answer, ClientError> {
        // Of another version's answer nothing but the version is understood.
        let answer: serde_json::Value = serde_json::from_slice(&self.text).map_err(ClientError::Garbled)?;
        match answer.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version != u64::from(VERSION) => Err(ClientError::OtherVersion(version)),
            _ => serde_json::from_value(answer)
                .map(|answer: Envelope<Answer>| answer.message)
                .map_err(ClientError::Garbled),
        }
    }
}

fn connect(directory: &RuntimeDirectory, name: &str, deadline: Instant) -> Result<UnixStream, ClientError> {
    let address = SocketAddrUnix::new(directory.short_path(&registry::socket_name(name)))
        .map_err(|error| failure(error.into()))?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| failure(error.into()))?;
    // Bounds connect(2) too: it waits while the queue of a stopped holder is full.
    set_socket_timeout(&socket, Timeout::Send, Some(remaining(deadline))).map_err(|error| failure(error.into()))?;
    rustix::net::connect(&socket, &address).map_err(|error| failure(error.into()))?;
    // In another user's directory, root could be led to the socket of a third one.
    let holder = rustix::net::sockopt::socket_peercred(&socket).map_err(|error| failure(error.into()))?;
    if holder.uid.as_raw() != directory.owner() {
        return Err(ClientError::Unreachable(ErrorKind::PermissionDenied.into()));
    }
    Ok(UnixStream::from(socket))
}

/// The time to `deadline`, never zero, which a socket would take for "no limit".
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn failure(error: io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ClientError::Ended,
        _ => ClientError::Unreachable(error),
    }
}
