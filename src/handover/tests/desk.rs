//! The desk, with a lane that does what the test tells it.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::balloon::{Loan, Wanted};
use crate::gpu::GpuUuid;
use crate::handover::audit::News;
use crate::handover::desk::Desk;
use crate::handover::ledger::Ledger;
use crate::handover::page::Shared;
use crate::handover::protocol::{HELLO, LEND, Packet, RETURN, Request, Welcome};
use crate::handover::{JobUse, Lane, Need, Pieces, Reply, View, Yielded};
use crate::units::ByteSize;

const GPU: GpuUuid = GpuUuid([7; 16]);

/// Lends what is asked for, and then keeps the desk busy until told.
struct Lender {
    goes_on: Receiver<()>,
    home: Sender<(u64, Range<usize>)>,
}

impl Lane for Lender {
    fn gpu(&self) -> GpuUuid {
        GPU
    }

    fn held(&self) -> ByteSize {
        ByteSize::ZERO
    }

    fn reservation(&self) -> ByteSize {
        ByteSize::ZERO
    }

    fn chunk_size(&self) -> ByteSize {
        ByteSize::new(1 << 20)
    }

    fn is_full(&self) -> bool {
        false
    }

    fn follow(&self, _job: JobUse) {}

    fn give_way(&self, _need: Need, _reply: Reply<Yielded>) {}

    fn settle(&self, _job: JobUse) {}

    fn lend(&self, _loan: Loan, wanted: Wanted, reply: Reply<ByteSize>) {
        let (Wanted::AtLeast(size) | Wanted::One(size)) = wanted;
        reply(Some(size));
        self.goes_on.recv().unwrap();
    }

    fn reach(&self, _loan: Loan, _from: usize, _reply: Reply<Pieces>) {}

    fn take_home(&self, loan: Loan, places: Range<usize>) {
        self.home.send((loan.number, places)).unwrap();
    }

    fn take_home_all_of(&self, _pid: u32) {}

    fn most_lent(&self) -> ByteSize {
        ByteSize::ZERO
    }

    fn view(&self, _reply: Reply<View>) {}
}

#[test]
fn what_was_said_before_a_connection_was_closed_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let address = SocketAddrUnix::new(directory.path().join("desk")).unwrap();
    let (goes_on, told) = channel();
    let (home, came_home) = channel();
    let shared = Arc::new(Shared::new().unwrap());
    let ledger = Ledger::new(Arc::clone(&shared), vec![Box::new(Lender { goes_on: told, home })]);
    let closing = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let (ring, _audit) = channel();
    let path = directory.path().join("desk");
    let desk =
        Desk::open(&path, Arc::new(Mutex::new(ledger)), shared, closing.try_clone().unwrap(), News(ring)).unwrap();
    let desk = std::thread::spawn(move || desk.serve());
    let connect = || {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let socket = socket.unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        socket
    };
    let hello = connect();
    rustix::net::send(&hello, Request::new(HELLO, [0; 16]).bytes(), SendFlags::empty()).unwrap();
    rustix::net::recv(&hello, &mut [0; size_of::<Welcome>()][..], RecvFlags::empty()).unwrap();
    let socket = connect();
    let lend = Request { size: 1 << 20, loan: 5, ..Request::new(LEND, GPU.0) };
    rustix::net::send(&socket, lend.bytes(), SendFlags::empty()).unwrap();
    poll(&mut [PollFd::new(&socket, PollFlags::IN)], None).unwrap();
    // Nobody waits for the answer any more, which came all the same.
    let back = Request { kind: RETURN, size: u64::MAX, ..lend };
    rustix::net::send(&socket, back.bytes(), SendFlags::empty()).unwrap();
    drop(socket);
    goes_on.send(()).unwrap();
    assert_eq!(came_home.recv_timeout(Duration::from_secs(20)), Ok((5, 0..usize::MAX)));
    rustix::io::write(&closing, &1_u64.to_ne_bytes()).unwrap();
    desk.join().unwrap();
}
