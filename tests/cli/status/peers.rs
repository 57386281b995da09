//! Holders that are stopped, dead, of another version, or that talk nonsense.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use gpu_sim::GB;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::{CONTEXT, Status, status};
use crate::harness::{Machine, Running};

/// Several times what all silent holders together may cost, and less than they would cost one after the other.
const SOON: Duration = Duration::from_millis(1500);

/// Something that has registered as a holder, and answers as it likes. It never hangs up.
struct Impostor {
    _lock: File,
}

impl Impostor {
    fn new(machine: &Machine, name: &str, answer: impl Fn(&mut UnixStream) + Send + 'static) -> Self {
        let directory = machine.registry();
        let _ = fs::DirBuilder::new().mode(0o700).create(&directory);
        let lock = File::create(directory.join(format!("{name}.balloon"))).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let listener = UnixListener::bind(directory.join(format!("{name}.sock"))).unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = String::new();
                let _ = BufReader::new(&stream).read_line(&mut request);
                answer(&mut stream);
                open.push(stream);
            }
        });
        Self { _lock: lock }
    }

    fn saying(machine: &Machine, name: &str, answer: &'static [u8]) -> Self {
        Self::new(machine, name, move |stream| drop(stream.write_all(answer)))
    }
}

#[test]
fn stopped_holders_cost_no_more_together_than_one() {
    let machine = Machine::new();
    let stopped: Vec<Running> = (0..5).map(|_| machine.hold("--gpu 0 --reserve 1GB")).collect();
    let _awake = machine.hold("--gpu 1 --reserve 2GB --name awake");
    stopped.iter().for_each(|holder| holder.signal(Signal::STOP));
    let start = Instant::now();
    let mut said = machine.run("status --json").exits(0);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let status = Status::read(&said.stdout);
    for holder in &stopped {
        said = said.says(&[&format!("(pid {})", holder.pid()), &format!("kill -CONT {}", holder.pid())]);
        let balloon = status.balloons.iter().find(|balloon| balloon.pid == Some(holder.pid())).unwrap();
        assert_eq!(balloon.state.as_deref(), Some("unresponsive"));
        assert!(balloon.started_at.is_some() && balloon.command.is_some());
        let part = &balloon.gpus[0];
        assert_eq!((part.gpu_id, part.allocated_bytes, part.target_bytes), (Some(0), Some(GB + CONTEXT), None));
    }
    let awake = status.balloons.iter().find(|balloon| balloon.name == "awake").unwrap();
    assert_eq!((awake.state.as_deref(), awake.gpus[0].allocated_bytes), (Some("holding"), Some(2 * GB)));
    stopped.iter().for_each(|holder| holder.signal(Signal::CONT));
}

#[test]
fn a_killed_holder_is_gone_and_its_files_are_cleared() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB --name train");
    assert_eq!(machine.registered().len(), 2);
    holder.signal(Signal::KILL);
    holder.wait();
    let status = status(&machine, "");
    assert_eq!((status.balloons.len(), status.gpus[0].used_bytes), (0, 0));
    assert_eq!(machine.registered().len(), 0);
    machine.run("status train").exits(5);
}

#[test]
fn a_holder_of_another_version_is_named() {
    let machine = Machine::new();
    let _newer = Impostor::saying(&machine, "newer", b"{\"version\":2,\"answer\":\"something_new\"}\n");
    let said = machine.run("status --json").exits(0).says(&["balloon `newer`", "version 2", "version 1"]);
    let status = Status::read(&said.stdout);
    assert_eq!((status.balloons[0].name.as_str(), status.balloons[0].state.as_deref()), ("newer", None));
    assert_eq!(machine.run("status -q").exits(0).stderr, "", "nothing but errors");
}

#[test]
fn nonsense_and_silence_break_nothing() {
    let machine = Machine::new();
    let answers: [(&str, &[u8]); 4] = [
        ("nonsense", b"\xff\xfe{}\n"),
        ("half", b"{\"version\":1,"),
        ("silent", b""),
        ("wrong", b"{\"version\":1,\"answer\":\"released\",\"bytes\":1}\n"),
    ];
    let _impostors = answers.map(|(name, answer)| Impostor::saying(&machine, name, answer));
    let _holder = machine.hold("--reserve 1GB --name train");
    let start = Instant::now();
    let said =
        machine.run("status --json").exits(0).says(&["balloon `nonsense`", "balloon `half`", "balloon `silent`"]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let status = Status::read(&said.stdout);
    let train = status.balloons.iter().find(|balloon| balloon.name == "train").unwrap();
    assert_eq!(train.state.as_deref(), Some("holding"));
}

#[test]
fn an_answer_without_end_is_given_up() {
    let machine = Machine::new();
    let _endless = Impostor::saying(&machine, "endless", &[b'x'; 1 << 20]);
    let _slow = Impostor::new(&machine, "slow", |stream| {
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let start = Instant::now();
    machine.run("status --json").exits(0).says(&["balloon `endless`", "balloon `slow`"]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
