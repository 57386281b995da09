//! Names: unique per user, found by name, pid or prefix, and never of two holders at once.

use gpu_sim::GB;
use rustix::process::Signal;

use crate::harness::{CONTEXT, Ended, Machine, Running};

/// `hold` under a name that a line of words could not carry.
fn hold_named(machine: &Machine, name: &str) -> Ended {
    Running::start(machine.program("hold --reserve 1GB --name").arg(name)).wait()
}

/// The pid of the one process on GPU 0, once it holds 1 GB.
fn the_one_holder(machine: &Machine) -> u32 {
    machine.wait_for("somebody holds", |state| state.used(0) == GB + CONTEXT);
    *machine.processes(0).keys().next().unwrap()
}

#[test]
fn a_second_balloon_of_a_name_is_refused_before_it_takes_memory() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    machine.refuses(1, &["--reserve", "1GB", "--name", "train"], &[]).says(&["a balloon named `train` exists already"]);
    machine.hold("--reserve 1GB --name train-2");
}

#[test]
fn a_balloon_is_found_by_name_pid_and_unique_prefix() {
    let machine = Machine::new();
    let mut train = machine.hold("--reserve 1GB --name train-a");
    let mut eval = machine.hold("--reserve 1GB --name eval");
    let mut nameless = machine.hold("--reserve 1GB");
    let pid = train.pid();
    for name in ["train-a", "tr", "t", &pid.to_string()] {
        let status = machine.run(&format!("status {name} --json")).exits(0).stdout;
        assert!(status.contains("\"train-a\"") && !status.contains("\"eval\""), "{name}: {status}");
        let resized = machine.run(&format!("resize {name} 1GB")).exits(0).stdout;
        assert!(resized.starts_with("resized name=train-a "), "{name}: {resized}");
    }
    machine.run("release e").exits(0);
    eval.wait().exits(0);
    machine.run(&format!("release {pid}")).exits(0);
    train.wait().exits(0);
    machine.run(&format!("release {}", nameless.pid())).exits(0);
    nameless.wait().exits(0);
}

#[test]
fn without_a_name_it_is_the_pid() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB");
    let pid = holder.pid();
    assert_eq!(machine.status()["balloons"][0]["name"], pid.to_string());
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(0);
    assert!(said.stdout.starts_with(&format!("ready name={pid} pid={pid} ")), "{}", said.stdout);
}

#[test]
fn the_beginning_of_a_pid_names_nothing() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 1GB");
    let pid = holder.pid().to_string();
    machine.run(&format!("release {}", &pid[..pid.len() - 1])).exits(5);
    assert_eq!(machine.used(0), GB + CONTEXT);
}

#[test]
fn a_prefix_of_several_names_them_and_changes_nothing() {
    let machine = Machine::new();
    let _holders = ["train-a", "train-b"].map(|name| machine.hold(&format!("--reserve 1GB --name {name}")));
    for line in ["release tr", "resize train- 2GB", "release train-a tr", "status tr"] {
        machine.run(line).exits(2).says(&["`tr", "fits several balloons: train-a, train-b"]);
    }
    assert_eq!(machine.used(0), 2 * (GB + CONTEXT));
    machine.run("release train-a").exits(0);
}

#[test]
fn a_name_that_is_not_there_is_exit_5() {
    let machine = Machine::new();
    let _holder = machine.hold("--reserve 1GB --name train");
    for line in ["release eval", "resize eval 2GB", "status eval", "release trainer", "resize 1 2GB"] {
        machine.run(line).exits(5).says(&["no balloon is named `", "`gpu-balloon status` lists the balloons"]);
    }
    machine.run("release eval --if-exists").exits(0);
    assert_eq!(machine.used(0), GB + CONTEXT);
}

#[test]
fn the_reason_is_shown_and_harms_no_terminal() {
    let machine = Machine::new();
    let reason = "night run \u{1b}[2J\u{7}of ünï";
    let _holder = machine.hold_with(&["--reserve", "1GB", "--reason", reason], &[]);
    assert_eq!(machine.status()["balloons"][0]["reason"], reason);
    let text = machine.run("status").exits(0).stdout;
    assert!(text.contains("night run [2Jof ünï") && !text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn hostile_names_are_refused_before_anything_is_touched() {
    let machine = Machine::new();
    let long = "x".repeat(65);
    let hostile = ["a/b", "../x", "..", ".x", "-x", "a b", "a\nb", "a\u{1b}[2Jb", "a\tb", "42", "a\u{202e}b", &long];
    for name in hostile {
        let refused = machine.refuses(2, &["--reserve", "1GB", &format!("--name={name}")], &[]);
        assert!(!refused.stderr.trim_end().contains(['\u{1b}', '\u{202e}', '\t']), "{:?}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{:?}", refused.stderr);
    }
    assert!(std::fs::read_dir(machine.registry()).is_err(), "a registry was made for a name that was refused");
    hold_named(&machine, "").exits(2).says(&["must not be empty"]);
    machine.hold_with(&["--reserve", "1GB", &format!("--name={}", &long[1..])], &[]);
}

#[test]
fn if_absent_leaves_a_balloon_alone_and_succeeds() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB --name train --if-absent");
    let (before, pid) = (machine.traced(0), holder.pid());
    let said = machine.run("hold --reserve 2GB --name train --if-absent").exits(0);
    assert_eq!(said.stdout, "");
    said.says(&["a balloon named `train` holds already"]);
    let said = machine.run("hold --reserve 2GB --name train --if-absent --detach").exits(0);
    assert_eq!(said.stdout, "");
    assert_eq!((machine.traced(0), machine.used_by(0, pid)), (before, GB + CONTEXT));
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    machine.run("hold --if-absent --reserve 1GB").exits(2).says(&["--name"]);
}

#[test]
fn of_ten_started_at_once_with_one_name_exactly_one_holds() {
    for (options, code) in [("", 1), ("--if-absent", 0)] {
        let machine = Machine::new();
        let line = format!("hold --reserve 1GB --name train {options}");
        let mut all: Vec<Running> = (0..10).map(|_| Running::start(&mut machine.program(&line))).collect();
        let winner = the_one_holder(&machine);
        for loser in all.iter_mut().filter(|holder| holder.pid() != winner) {
            assert_eq!(loser.wait().exits(code).stdout, "");
        }
        assert_eq!(machine.peak(0), GB + CONTEXT, "another one held too");
        let winner = all.iter_mut().find(|holder| holder.pid() == winner).unwrap();
        assert!(winner.line().starts_with("ready name=train "));
        winner.signal(Signal::TERM);
        winner.wait().exits(0);
    }
}

#[test]
fn a_name_is_free_at_once_however_its_holder_ended() {
    let machine = Machine::new();
    for _ in 0..5 {
        let mut holder = machine.hold("--reserve 1GB --name train");
        machine.run("release train").exits(0);
        // The holder of before may still be on its way out.
        let mut next = machine.hold("--reserve 1GB --name train");
        holder.wait().exits(0);
        next.signal(Signal::KILL);
        next.wait();
    }
    let mut holder = machine.hold("--reserve 1GB --name train");
    holder.signal(Signal::INT);
    holder.wait().exits(0);
}
