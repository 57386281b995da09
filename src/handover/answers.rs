//! What the desk says to the job's processes, as it goes over the socket.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::lane::{Pieces, View};
use super::protocol::{self, Answer, MOST_PIECES, Packet};

/// An answer owed. If whoever owes it goes away, the answer is no.
pub struct Owed {
    socket: Option<Arc<OwnedFd>>,
}

impl Owed {
    pub fn to(socket: &Arc<OwnedFd>) -> Self {
        Self { socket: Some(Arc::clone(socket)) }
    }

    pub fn give(mut self, answer: Answer) {
        if let Some(socket) = self.socket.take() {
            send(&socket, &answer);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            send(&socket, &Answer::default());
        }
    }
}

pub fn memory(view: &View) -> Answer {
    Answer {
        yes: 1,
        padding: 0,
        free: view.memory.free.bytes(),
        total: view.memory.total.bytes(),
        balloon: view.balloon.bytes(),
        job: view.job.bytes(),
        reservation: view.reservation.bytes(),
    }
}

/// A peer that does not read is no concern of ours.
pub fn send(socket: &OwnedFd, packet: &impl Packet) {
    let _ = rustix::net::send(socket, packet.bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Says whether it was sent.
pub fn send_with(socket: &OwnedFd, packet: &impl Packet, descriptors: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_PIECES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(packet.bytes())], &mut control, flags).is_ok()
}

/// None, where there are none or they cannot be sent: whoever asked is not left waiting.
pub fn send_pieces(socket: &OwnedFd, pieces: Option<Pieces>) {
    let Some(Pieces { size, descriptors }) = pieces else { return send(socket, &protocol::Pieces::default()) };
    let packet = protocol::Pieces { count: descriptors.len() as u32, padding: 0, size: size.bytes() };
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    if !send_with(socket, &packet, &descriptors) {
        send(socket, &protocol::Pieces::default());
    }
}
