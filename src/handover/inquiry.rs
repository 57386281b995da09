//! Asking the desk of another holder what the reservation of its job lacks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::protocol::{Answer, Packet, Request, VIEW};
use crate::gpu::GpuUuid;
use crate::units::ByteSize;

/// What is missing of the reservation on each of these GPUs that is in it, with all that the job has freed by now: the balloon
/// is about to take it back, or cannot yet.
///
/// # Errors
/// Nobody listens at `path`, or there is no answer by then.
pub fn lacking(path: &Path, gpus: &[GpuUuid], deadline: Instant) -> io::Result<Vec<(GpuUuid, ByteSize)>> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(left(deadline)))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut lacking = Vec::new();
    for &gpu in gpus {
        let answer = ask(&socket, gpu, deadline)?;
        let missing = answer.reservation.saturating_sub(answer.balloon.saturating_add(answer.job));
        if answer.yes == 1 && missing > 0 {
            lacking.push((gpu, ByteSize::new(missing)));
        }
    }
    Ok(lacking)
}

fn ask(socket: &OwnedFd, gpu: GpuUuid, deadline: Instant) -> io::Result<Answer> {
    let request = Request::new(VIEW, gpu.0);
    rustix::net::send(socket, request.bytes(), SendFlags::NOSIGNAL)?;
    set_socket_timeout(socket, Timeout::Recv, Some(left(deadline)))?;
    let mut bytes = [0; size_of::<Answer>()];
    let (length, _) = rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty())?;
    let answer = if length == bytes.len() { Answer::from_bytes(&bytes) } else { None };
    answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Never zero, which a socket would take for "no limit".
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
