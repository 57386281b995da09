//! The directory in which holders are found: which one it is, and which ones are refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gpu_sim::GB;

use crate::harness::{CONTEXT, Ended, Machine, NOBODY, PROGRAM, Running, skipped};

/// Runs the program with these variables set, or taken away.
fn run(machine: &Machine, line: &str, variables: &[(&str, Option<&Path>)]) -> Running {
    let mut command = machine.program(line);
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Running::start(&mut command)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Holds and releases under these variables, and finds the holder registered in `place` meanwhile.
#[track_caller]
fn manages_in(machine: &Machine, place: &Path, variables: &[(&str, Option<&Path>)]) {
    let mut holder = run(machine, "hold --reserve 1GB --name train", variables);
    holder.line();
    assert!(place.join("train.sock").exists() && place.join("train.balloon").exists(), "not in {}", place.display());
    assert_eq!(mode(place), 0o700);
    run(machine, "release train", variables).wait().exits(0);
    holder.wait().exits(0);
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn it_is_in_the_runtime_directory_else_in_the_temporary_one() {
    let machine = Machine::new();
    let own = machine.runtime().join("run");
    let temporary = machine.runtime().join("tmp");
    fs::create_dir(&own).unwrap();
    fs::create_dir(&temporary).unwrap();
    let fallback = temporary.join(format!("gpu-balloon-{}", user()));
    let missing = machine.runtime().join("missing");
    let table = [
        (Some(own.as_path()), own.join("gpu-balloon")),
        (None, fallback.clone()),
        (Some(Path::new("")), fallback.clone()),
        (Some(Path::new("relative/run")), fallback.clone()),
        (Some(&missing), fallback),
    ];
    for (runtime, place) in table {
        manages_in(&machine, &place, &[("XDG_RUNTIME_DIR", runtime), ("TMPDIR", Some(&temporary))]);
    }
    assert!(!missing.exists());
}

#[test]
fn a_runtime_directory_of_somebody_else_is_not_used() {
    let machine = Machine::new();
    let theirs = machine.runtime().join("theirs");
    fs::create_dir(&theirs).unwrap();
    if std::os::unix::fs::chown(&theirs, Some(NOBODY), None).is_err() {
        return skipped("only root can give a directory away");
    }
    let place = machine.runtime().join(format!("gpu-balloon-{}", user()));
    manages_in(&machine, &place, &[("XDG_RUNTIME_DIR", Some(&theirs))]);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
}

/// What the program says of a registry that it must not trust; its holders can do without, unless they have a name.
#[track_caller]
fn refuses(machine: &Machine, says: &str) {
    let named: Ended = machine.run("hold --reserve 1GB --name train").exits(1).says(&[says]);
    assert_eq!((named.stdout.as_str(), machine.peak(0)), ("", 0));
    machine.run("release train").exits(1).says(&[says]);
    machine.run("resize train 1GB").exits(1).says(&[says]);
    machine.run("status").exits(0).says(&[says]);
    let mut nameless = machine.hold("--gpu 1 --reserve 1GB");
    assert_eq!(machine.used(1), GB + CONTEXT);
    nameless.signal(rustix::process::Signal::TERM);
    nameless.wait().exits(0).says(&["this balloon cannot be managed from other shells", says]);
}

#[test]
fn one_that_others_may_enter_is_refused() {
    let machine = Machine::new();
    let registry = machine.registry();
    fs::create_dir(&registry).unwrap();
    for bits in [0o755, 0o777, 0o710, 0o1702] {
        fs::set_permissions(&registry, fs::Permissions::from_mode(bits)).unwrap();
        refuses(&machine, &format!("is open to others (mode {bits:o}); `chmod 700 {}` closes it", registry.display()));
        assert_eq!(fs::read_dir(&registry).unwrap().count(), 0);
    }
    fs::set_permissions(&registry, fs::Permissions::from_mode(0o700)).unwrap();
    machine.hold("--reserve 1GB --name train");
}

#[test]
fn a_symlink_is_refused_wherever_it_leads() {
    let machine = Machine::new();
    let elsewhere = machine.runtime().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&elsewhere, machine.registry()).unwrap();
    refuses(&machine, "is not a directory");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(machine.registry()).unwrap();
    symlink(machine.runtime().join("nowhere"), machine.registry()).unwrap();
    refuses(&machine, "is not a directory");
    fs::remove_file(machine.registry()).unwrap();
    fs::write(machine.registry(), "").unwrap();
    refuses(&machine, "is not a directory");
}

#[test]
fn one_of_another_owner_is_refused() {
    let machine = Machine::new();
    fs::create_dir(machine.registry()).unwrap();
    fs::set_permissions(machine.registry(), fs::Permissions::from_mode(0o700)).unwrap();
    if std::os::unix::fs::chown(machine.registry(), Some(NOBODY), None).is_err() {
        return skipped("only root can give a directory away");
    }
    refuses(&machine, &format!("belongs to uid {NOBODY}, not to uid {}", user()));
    assert_eq!(fs::metadata(machine.registry()).unwrap().uid(), NOBODY);
}

#[test]
fn a_path_longer_than_a_socket_address_works() {
    let machine = Machine::new();
    let deep = machine.runtime().join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    manages_in(&machine, &deep.join("gpu-balloon"), &[("XDG_RUNTIME_DIR", Some(&deep))]);
    let long = format!("--name={}", "x".repeat(64));
    let mut command = machine.command(PROGRAM);
    let mut holder = Running::start(command.args(["hold", "--reserve", "1GB", &long]).env("XDG_RUNTIME_DIR", &deep));
    holder.line();
    run(&machine, "resize x 2GB", &[("XDG_RUNTIME_DIR", Some(&deep))]).wait().exits(0);
    assert_eq!(machine.used(0), 2 * GB + CONTEXT);
    run(&machine, "release x", &[("XDG_RUNTIME_DIR", Some(&deep))]).wait().exits(0);
}

#[test]
fn a_temporary_directory_that_is_missing_is_not_asked_for() {
    let machine = Machine::new();
    let missing = machine.runtime().join("missing");
    let mut doctor = run(&machine, "doctor --json", &[("XDG_RUNTIME_DIR", None), ("TMPDIR", Some(&missing))]);
    let said = doctor.wait().exits(0).stdout;
    assert!(said.contains(&format!("\"runtime_directory\":\"/tmp/gpu-balloon-{}\"", user())), "{said}");
}
