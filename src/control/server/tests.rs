//! The server among peers that are silent, slow, hostile, or in a hurry.

use std::io::{Read, Write};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::gpu::GpuUuid;

struct Bench {
    server: Server,
    socket: std::path::PathBuf,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let runtime = RuntimeDirectory::open_at(directory.path().join("gpu-balloon"), user).unwrap();
        let server = Server::listen(&runtime, "x.sock").unwrap();
        Self { server, socket: runtime.join("x.sock"), _directory: directory }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// Turns until there is a request, as the holder's loop does.
    fn next_request(&mut self) -> (Asker, Request) {
        loop {
            if let Some(request) = self.server.turn().into_iter().next() {
                return request;
            }
            let watched: Vec<_> = self.server.watched().collect();
            let mut polled: Vec<_> = watched.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
            let ready = poll(&mut polled, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
            assert!(ready > 0, "nothing came in");
        }
    }
}

fn line(request: &Request) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Envelope::new(request)).unwrap();
    line.push(b'\n');
    line
}

#[test]
fn a_request_is_answered_once() {
    let mut bench = Bench::new();
    let mut peer = bench.connect();
    peer.write_all(&line(&Request::Status)).unwrap();
    let (asker, request) = bench.next_request();
    assert_eq!(request, Request::Status);
    bench.server.answer(asker, Answer::Released { bytes: 7 });
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"version\":1,\"answer\":\"released\",\"bytes\":7}\n");
    assert!(bench.server.connections.is_empty());
}

#[test]
fn a_thousand_silent_peers_take_a_bounded_number_of_places() {
    let mut bench = Bench::new();
    // More than the backlog holds, so the server has to turn in between.
    let silent: Vec<UnixStream> = (0..1000)
        .map(|index| {
            let peer = bench.connect();
            if index % 50 == 49 {
                assert!(bench.server.turn().is_empty());
            }
            peer
        })
        .collect();
    let mut peer = bench.connect();
    peer.write_all(&line(&Request::Status)).unwrap();
    assert_eq!(bench.next_request().1, Request::Status);
    assert!(bench.server.connections.len() <= MAX_CONNECTIONS);
    drop(silent);
}

#[test]
fn half_a_message_is_waited_for_until_the_deadline_and_no_longer() {
    let mut bench = Bench::new();
    let mut peer = bench.connect();
    peer.write_all(b"{\"version\":1,").unwrap();
    assert!(bench.server.turn().is_empty());
    let until = bench.server.deadline().expect("it is being waited for");
    let connection = &mut bench.server.connections[0];
    assert!(matches!(connection.turn(until - Duration::from_millis(1)), Turn::Keep));
    assert!(matches!(connection.turn(until), Turn::Close));
}

#[test]
fn a_message_without_end_is_cut_off() {
    let mut bench = Bench::new();
    let mut peer = bench.connect();
    peer.set_nonblocking(true).unwrap();
    let part = [b'x'; 4096];
    let mut sent = 0;
    while sent < 64 * MAX_MESSAGE && peer.write(&part).map(|count| sent += count).is_ok() {
        assert!(bench.server.turn().is_empty());
    }
    assert!(sent < 2 * MAX_MESSAGE, "{sent} bytes were taken");
    assert!(bench.server.connections.is_empty());
}

#[test]
fn another_version_is_told_ours() {
    assert_eq!(read_request(b"{\"version\":2,\"request\":\"dance\"}"), Err(Answer::OtherVersion));
    assert_eq!(read_request(b"{\"request\":\"status\"}"), Err(Answer::OtherVersion));
}

fn requests() -> impl Strategy<Value = Request> {
    let uuid = any::<[u8; 16]>().prop_map(GpuUuid);
    prop_oneof![
        Just(Request::Status),
        proptest::option::of(proptest::collection::vec(uuid.clone(), 0..4)).prop_map(|gpus| Request::Release { gpus }),
        (proptest::collection::vec((uuid, ".*"), 0..4), any::<Option<u64>>())
            .prop_map(|(changes, chunk_bytes)| Request::Resize { changes, chunk_bytes }),
    ]
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_read(request in requests()) {
        let sent = line(&request);
        prop_assert_eq!(sent.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
        prop_assert_eq!(read_request(&sent), Ok(request));
    }

    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read_request(&bytes).is_err());
    }

    #[test]
    fn a_damaged_request_is_refused_or_another_request(request in requests(), at in any::<usize>(), byte in any::<u8>()) {
        let mut sent = line(&request);
        let at = at % sent.len();
        sent[at] = byte;
        // Whatever comes out, it comes out without a panic, and a request reads back as itself.
        if let Ok(read) = read_request(&sent) {
            prop_assert_eq!(read_request(&line(&read)), Ok(read));
        }
    }
}
