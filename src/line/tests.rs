use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::gpu::GpuUuid;
use crate::line::policy::{Request, Stage, Want, Wish};
use crate::units::ByteSize;

const GPU: GpuUuid = GpuUuid([7; 16]);

/// A line of its own.
pub struct Lane {
    place: TempDir,
    pub line: Line,
}

pub fn line() -> Lane {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("runtime");
    let directory = RuntimeDirectory::open_at(path, rustix::process::geteuid().as_raw()).unwrap();
    let line = Line::open(&directory).unwrap();
    Lane { place, line }
}

impl Lane {
    pub fn join(&self, name: &str) -> Place {
        let request = Request::These(vec![(GPU, Want::Bytes(ByteSize::new(5)))]);
        Place::last(&self.line, name, Wish { stage: Stage::Waiting, request, margin: ByteSize::ZERO }).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.line.standings().unwrap().into_iter().map(|standing| standing.name).collect()
    }

    /// The files of the line but the turnstile.
    fn files(&self) -> Vec<String> {
        let directory = self.place.path().join("runtime").join(DIRECTORY);
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != TURNSTILE).collect()
    }

    fn path(&self) -> &Path {
        self.place.path()
    }
}

#[test]
fn the_line_has_the_order_of_arrival() {
    let line = line();
    let first = line.join("first");
    let _second = line.join("second");
    assert_eq!(line.names(), ["first", "second"]);
    drop(first);
    let _third = line.join("third");
    assert_eq!(line.names(), ["second", "third"]);
}

#[test]
fn a_change_is_seen_and_an_empty_one_is_none() {
    let line = line();
    let mut place = line.join("one");
    place.amend(|ticket| ticket.claims.push((GPU, ByteSize::new(3)))).unwrap();
    place.amend(|_| ()).unwrap();
    let standings = line.line.standings().unwrap();
    assert_eq!((standings.len(), standings[0].revision), (1, 1));
    assert_eq!(standings[0].ticket.claim_on(GPU), ByteSize::new(3));
    drop(place);
    assert_eq!(line.files(), [""; 0], "nothing is left behind");
}

#[test]
fn tickets_of_the_dead_are_cleared() {
    let line = line();
    let place = line.join("alive");
    let directory = line.path().join("runtime").join(DIRECTORY);
    let ticket = fs::read(directory.join(format!("{}{TICKET}", place.ticket().number))).unwrap();
    for name in ["0.ticket", "99.ticket", "98.draft", "turnstile.1.draft"] {
        let mut file = File::create(directory.join(name)).unwrap();
        file.write_all(&ticket).unwrap();
        file.set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
    }
    fs::write(directory.join("97.draft"), "").unwrap();
    assert_eq!(line.names(), ["alive"]);
    let mut files = line.files();
    files.sort();
    assert_eq!(files, ["1.ticket", "97.draft"], "what is being written is left alone");
}

#[test]
fn a_ticket_that_was_removed_is_put_back_and_none_is_overwritten() {
    let line = line();
    let mut place = line.join("one");
    let directory = line.path().join("runtime").join(DIRECTORY);
    fs::remove_file(directory.join("1.ticket")).unwrap();
    assert_eq!(place.others().unwrap(), []);
    assert_eq!(line.names(), ["one"]);
    // Someone has put an old turnstile in place.
    fs::remove_file(directory.join(TURNSTILE)).unwrap();
    let file = File::create(directory.join("2.ticket")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    assert_eq!(line.join("two").ticket().number, 3);
}

#[test]
fn garbage_of_the_living_is_passed_over() {
    let line = line();
    let _place = line.join("one");
    let path = line.path().join("runtime").join(DIRECTORY).join("5.ticket");
    let file = File::create(&path).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    fs::write(&path, "{\"name\":").unwrap();
    assert_eq!(line.names(), ["one"]);
}

#[test]
fn decisions_are_made_one_after_the_other_and_see_each_other() {
    let line = line();
    let takers: Vec<_> = (0..8)
        .map(|number| {
            let mut place = line.join(&format!("taker-{number}"));
            std::thread::spawn(move || {
                let taken = place.amend_alone(|_, line, _| {
                    let nobody = line.iter().all(|standing| standing.ticket.claims.is_empty());
                    nobody.then_some(((), |ticket: &mut Ticket| ticket.claims.push((GPU, ByteSize::new(1)))))
                });
                (taken.unwrap(), place)
            })
        })
        .collect();
    let outcomes: Vec<_> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|(taken, _)| taken.is_some()).count(), 1);
}
