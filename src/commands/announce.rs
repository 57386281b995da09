//! Readiness, announced wherever the caller listens: standard output, `--ready-fd`, and systemd.

use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use serde::Serialize;

use crate::cli::Reservation;
use crate::commands::failure::Failure;
use crate::gpu::Visible;
use crate::holder::Holder;
use crate::job::Inherited;

/// How long a service manager that does not read may keep a holder from its work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where and how to announce.
pub struct Announcement {
    json: bool,
    ready_fd: Option<File>,
    /// `run` leaves standard output to the command, and a detached holder tells its caller last.
    on_stdout: bool,
}

/// The ready line as JSON.
#[derive(Serialize)]
struct Ready<'a> {
    name: &'a str,
    pid: u32,
    gpus: Vec<u32>,
    uuids: Vec<String>,
    /// Bytes over all GPUs.
    held: u64,
}

impl Announcement {
    /// For a `hold` in the foreground, which announces on standard output as well.
    ///
    /// # Errors
    /// `--ready-fd` names a descriptor that the caller did not hand over.
    pub fn prepare(options: &Reservation, inherited: &mut Inherited) -> Result<Self, Failure> {
        let ready_fd = options.ready_fd.map(|number| {
            inherited.take(number).map(File::from).ok_or_else(|| {
                Failure::usage(anyhow::anyhow!("--ready-fd {number}: no such descriptor is open"))
                    .hint(format!("open it in the shell, such as `{number}>ready.txt`"))
            })
        });
        Ok(Self { json: options.json, ready_fd: ready_fd.transpose()?, on_stdout: true })
    }

    /// For a holder whose standard output is not for this.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn silent(options: &Reservation, inherited: &mut Inherited) -> Result<Self, Failure> {
        Ok(Self { on_stdout: false, ..Self::prepare(options, inherited)? })
    }

    /// Announces, and returns the ready line. A listener that has gone away, or a full disk, does not harm the balloon.
    pub fn ready(mut self, holder: &Holder, gpus: &[Visible]) -> String {
        let line = self.line(holder, gpus);
        if self.on_stdout {
            told(io::stdout().lock().write_all(line.as_bytes()).and_then(|()| io::stdout().flush()), "standard output");
        }
        if let Some(ready_fd) = &mut self.ready_fd {
            told(ready_fd.write_all(line.as_bytes()), "--ready-fd");
        }
        if let Err(error) = notify() {
            // The variable outlives its socket in many a container.
            tracing::info!(%error, "readiness not announced on NOTIFY_SOCKET");
        }
        line
    }

    fn line(&self, holder: &Holder, gpus: &[Visible]) -> String {
        let (name, pid, held) = (holder.name(), std::process::id(), holder.held().bytes());
        let ordinals: Vec<u32> = gpus.iter().map(|gpu| gpu.ordinal).collect();
        if self.json {
            let uuids = gpus.iter().map(|gpu| gpu.known.id()).collect();
            let ready = Ready { name: name.as_str(), pid, gpus: ordinals, uuids, held };
            return serde_json::to_string(&ready).unwrap_or_default() + "\n";
        }
        let gpus = ordinals.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        format!("ready name={name} pid={pid} gpus={gpus} held={held}\n")
    }
}

/// Tells the service manager that listens on `NOTIFY_SOCKET`, if there is one. For the protocol see sd_notify(3).
fn notify() -> io::Result<()> {
    let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
    let Some(address) = address else { return Ok(()) };
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(b"READY=1\n", &address).map(drop)
}

/// A reader that has gone wants to hear no more; one that still waits, for a line that found no room, must not wait
/// without a word.
fn told(outcome: io::Result<()>, listener: &str) {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::warn!("the ready line cannot be written to {listener}: {error}");
        }
        _ => {}
    }
}
