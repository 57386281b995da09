//! Several users on one machine: each has balloons of its own, and root may manage all.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

use gpu_sim::GB;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Uid;

use crate::harness::{CONTEXT, DEADLINE, Machine, NOBODY, Running, skipped};

const WHY: &str = "only root can be several users, and the program must be within the reach of all";

#[test]
fn a_name_is_unique_among_one_users_balloons_only() {
    let machine = Machine::new();
    let Some(nobody) = machine.unprivileged() else { return skipped(WHY) };
    let mut theirs = Running::start(&mut nobody.program("hold --reserve 1GB --name train"));
    theirs.line();
    let ours = machine.hold("--reserve 2GB --name train");
    assert!(machine.runtime().join(format!("gpu-balloon-{NOBODY}")).join("train.sock").exists());
    // Each finds its own; to root the name is of two.
    Running::start(&mut nobody.program("resize train 3GB")).wait().exits(0);
    assert_eq!((machine.balloon(0, &theirs), machine.balloon(0, &ours)), (3 * GB, 2 * GB));
    let ambiguous = format!("pid {}", theirs.pid());
    machine.run("release train").exits(2).says(&["`train` fits several balloons", &ambiguous]);
    machine.run(&format!("release {}", theirs.pid())).exits(0);
    theirs.wait().exits(0);
    machine.run("release train").exits(0);
}

#[test]
fn root_releases_anybodys_and_nobody_only_its_own() {
    let machine = Machine::new();
    let Some(nobody) = machine.unprivileged() else { return skipped(WHY) };
    let ours = machine.hold("--reserve 2GB --name ours");
    let mut theirs = Running::start(&mut nobody.program("hold --reserve 1GB --name theirs"));
    theirs.line();
    for line in ["release ours", &format!("release {}", ours.pid()), "resize ours 1GB"] {
        Running::start(&mut nobody.program(line)).wait().exits(5).says(&["no balloon is named"]);
    }
    machine.run("resize theirs 2GB").exits(0);
    assert_eq!(machine.balloon(0, &theirs), 2 * GB);
    machine.run("release theirs").exits(0).says(&["released 2.0 GB of balloon `theirs`"]);
    theirs.wait().exits(0);
    let mut again = Running::start(&mut nobody.program("hold --reserve 1GB --name theirs"));
    again.line();
    Running::start(&mut nobody.program("release --all")).wait().exits(0);
    again.wait().exits(0);
    assert_eq!(machine.used(0), 2 * GB + CONTEXT, "root's is still there");
    let mut last = Running::start(&mut nobody.program("hold --reserve 1GB"));
    last.line();
    machine.run("release --all").exits(0);
    last.wait().exits(0);
    assert_eq!(machine.used(0), 0);
}

/// The directory keeps others out; should it ever be opened to them, the socket does.
#[test]
fn a_peer_of_another_user_is_hung_up_on() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can speak as another user");
    }
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    let socket = machine.registry().join("train.sock");
    for (path, mode) in [(machine.runtime(), 0o711), (&machine.registry(), 0o711), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let answer = std::thread::spawn(move || {
        // Of this thread alone.
        rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
        let mut peer = UnixStream::connect(socket).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answer = Vec::new();
        // It may have hung up before this was said.
        let _ = std::io::Write::write_all(&mut peer, b"{\"version\":1,\"request\":\"release\",\"gpus\":null}\n");
        let _ = peer.read_to_end(&mut answer);
        answer
    });
    assert_eq!(answer.join().unwrap(), b"");
    assert_eq!(machine.used(0), GB + CONTEXT);
}

/// Root looks into the directories of others, and must not trust what lies there.
#[test]
fn what_another_user_plants_neither_holds_root_up_nor_leads_it_astray() {
    let machine = Machine::new();
    let Some(_) = machine.unprivileged() else { return skipped(WHY) };
    let ours = machine.hold("--reserve 1GB --name ours");
    let theirs = machine.runtime().join(format!("gpu-balloon-{NOBODY}"));
    std::fs::create_dir(&theirs).unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&theirs, Some(NOBODY), None).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(theirs.join("pipe.balloon")).status().unwrap();
    assert!(pipe.success());
    symlink("/dev/zero", theirs.join("endless.balloon")).unwrap();
    symlink(machine.registry().join("ours.balloon"), theirs.join("link.balloon")).unwrap();
    let lure = File::create(theirs.join("lure.balloon")).unwrap();
    flock(&lure, FlockOperation::LockExclusive).unwrap();
    symlink(machine.registry().join("ours.sock"), theirs.join("lure.sock")).unwrap();

    let balloons = machine.status()["balloons"].take();
    let names: Vec<_> = balloons.as_array().unwrap().iter().map(|balloon| balloon["name"].clone()).collect();
    assert!(names.contains(&"ours".into()) && !names.iter().any(|name| name == "link"), "{names:?}");
    machine.run("release lure").exits(1).says(&["balloon `lure`: the holder cannot be reached"]);
    assert_eq!(machine.balloon(0, &ours), GB);
    assert!(machine.registry().join("ours.balloon").exists());
}
