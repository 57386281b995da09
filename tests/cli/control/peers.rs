//! Peers that speak to the socket themselves: in good order, in another version, or not at all.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use gpu_sim::{Family, GB};

use crate::harness::{CONTEXT, DEADLINE, Machine, Running};

/// Twice what a holder gives a peer to say something.
const SOON: Duration = Duration::from_secs(4);

fn connect(machine: &Machine) -> UnixStream {
    UnixStream::connect(machine.registry().join("train.sock")).unwrap()
}

/// What the holder answers to these bytes, until it hangs up.
fn answer_to(machine: &Machine, request: &[u8]) -> String {
    let mut peer = connect(machine);
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.write_all(request).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    answer
}

/// Resident memory in KiB.
fn resident(holder: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", holder.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_request_is_one_line_and_so_is_its_answer() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 1GB --name train");
    let answer = answer_to(&machine, b"{\"version\":1,\"request\":\"status\"}\n");
    assert_eq!(answer.lines().count(), 1);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["version"], &answer["answer"]), (&1.into(), &"status".into()));
    assert_eq!(answer["balloon"]["pid"], holder.pid());
}

#[test]
fn another_version_is_told_ours_and_changes_nothing() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    let requests =
        [r#"{"version":2,"request":"release","gpus":null}"#, r#"{"request":"release"}"#, r#"{"version":"1"}"#];
    for request in requests {
        let answer = answer_to(&machine, format!("{request}\n").as_bytes());
        assert_eq!(answer, "{\"version\":1,\"answer\":\"other_version\"}\n", "{request}");
    }
    assert_eq!(machine.used(0), GB + CONTEXT);
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 1GB --name train");
    let table: [&[u8]; 7] = [
        b"\n",
        b"hello\n",
        b"\0\xff\xfe\n",
        b"{\"version\":1}\n",
        b"{\"version\":1,\"request\":\"dance\"}\n",
        b"{\"version\":1,\"request\":\"resize\",\"changes\":[[\"GPU-1\",\"2GB\"]]}\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
    ];
    for request in table {
        let answer = answer_to(&machine, request);
        assert!(answer.contains("\"refused\"") || answer.contains("\"other_version\""), "{request:?}: {answer}");
    }
    let uuid = machine.uuid_text(0);
    for (change, kind) in [("0", "misfit"), ("-1GB", "misfit"), ("\u{1b}", "misfit"), ("24100MB", "not_available")] {
        let request = serde_json::json!({
            "version": 1, "request": "resize", "changes": [[uuid, change]], "chunk_bytes": null,
        });
        let answer = answer_to(&machine, format!("{request}\n").as_bytes());
        assert!(answer.contains(kind), "{change:?}: {answer}");
    }
    assert_eq!(machine.balloon(0, &holder), GB);
}

#[test]
fn a_thousand_bad_peers_neither_wedge_the_holder_nor_grow_it() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 1GB --name train");
    let half = vec![b'x'; 60 << 10];
    let round = || {
        let mut peers = Vec::new();
        for index in 0..1000 {
            let mut peer = connect(&machine);
            // A holder that drops a peer may be faster than the peer's words.
            let _ = match index % 4 {
                0 => Ok(()),
                1 => peer.write_all(b"{\"version\":1,"),
                2 => peer.set_nonblocking(true).and_then(|()| peer.write_all(&half)),
                _ => peer.write_all(b"\x16\x03\x01garbage\n"),
            };
            peers.push(peer);
        }
        let answer = answer_to(&machine, b"{\"version\":1,\"request\":\"status\"}\n");
        assert!(answer.contains("\"train\""), "{answer}");
        peers
    };
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", holder.pid())).unwrap().count();
    let at_rest = descriptors();
    // What a thousand peers leave behind when they have gone; the first thousand may find the heap small.
    let left_by_a_thousand = || {
        drop(round());
        // Each answer is a turn of the holder, in which it sees who has gone.
        let deadline = Instant::now() + DEADLINE;
        while descriptors() > at_rest {
            assert!(Instant::now() < deadline, "it has not hung up on all of them");
            answer_to(&machine, b"{\"version\":1,\"request\":\"status\"}\n");
        }
        resident(&holder)
    };
    let before = left_by_a_thousand();
    let after = (0..3).map(|_| left_by_a_thousand()).min().unwrap();
    assert!(after < before + 512, "from {before} to {after} KiB");
    let peers = round();
    let meanwhile = resident(&holder);
    assert!(meanwhile < before + (6 << 10), "{meanwhile} KiB for 64 peers with 64 KiB each, {before} at rest");
    drop(peers);
    machine.run("resize train 2GB").exits(0);
    assert_eq!(machine.balloon(0, &holder), 2 * GB);
}

#[test]
fn who_says_nothing_is_hung_up_on() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    let start = Instant::now();
    let mut silent = connect(&machine);
    let mut half = connect(&machine);
    half.write_all(b"{\"version\":1,").unwrap();
    for peer in [&mut silent, &mut half] {
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(peer.read(&mut [0; 16]).unwrap(), 0);
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn who_does_not_read_its_answer_keeps_nobody_waiting() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    let mut deaf = Vec::new();
    for _ in 0..200 {
        let mut peer = connect(&machine);
        let _ = peer.write_all(b"{\"version\":1,\"request\":\"status\"}\n");
        deaf.push(peer);
    }
    machine.run("release train").exits(0);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn it_answers_at_once_while_it_inflates_64_gb() {
    let machine = Machine::with(|builder| builder.memory(80 * GB).delay(Family::Alloc, Duration::from_millis(2)));
    let mut holder = Running::start(&mut machine.program("hold --reserve 64GB --chunk-size 64MB --name train"));
    machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    while machine.used(0) < CONTEXT + 60 * GB {
        let start = Instant::now();
        let answer = answer_to(&machine, b"{\"version\":1,\"request\":\"status\"}\n");
        slowest = slowest.max(start.elapsed());
        assert!(answer.contains("\"inflating\""), "{answer}");
        asked += 1;
    }
    // The promise is 20 ms; a machine that runs many tests at once may take longer to run either side.
    assert!(asked > 10 && slowest < Duration::from_millis(250), "{slowest:?} of {asked}");
    assert!(holder.line().ends_with("held=68719476736"));
}
