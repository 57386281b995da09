//! `--detach`: the caller is told what the foreground would tell, and the holder keeps nothing of the caller's.

mod callers;
mod run;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gpu_sim::GB;
use rustix::process::Signal;

use crate::harness::{Background, CONTEXT, Machine, PROGRAM, Running};

/// A shell in a process group of its own, which runs `script` with the program as `$0`.
fn shell(machine: &Machine, script: &str) -> Running {
    use std::os::unix::process::CommandExt;
    let mut command = machine.command("sh");
    Running::start(command.args(["-c", script, PROGRAM]).process_group(0))
}

#[test]
fn the_ready_line_is_that_of_the_foreground() {
    let machine = Machine::new();
    let holder = machine.detach("--gpu 0,1 --reserve 2GB --name train");
    assert_eq!(holder.ready, format!("ready name=train pid={} gpus=0,1 held=4294967296\n", holder.pid()));
    assert_eq!(machine.used_by(1, holder.pid()), 2 * GB + CONTEXT);
    let said = machine.run("hold --detach --reserve 1GB --json").exits(0).stdout;
    let ready: serde_json::Value = serde_json::from_str(&said).unwrap();
    let pid = u32::try_from(ready["pid"].as_u64().unwrap()).unwrap();
    assert_eq!((ready["name"].clone(), ready["held"].clone()), (pid.to_string().into(), GB.into()));
    drop(Background::with(said, pid));
    machine.run("release train").exits(0);
    holder.wait();
}

#[test]
fn errors_and_exit_codes_are_those_of_the_foreground() {
    let machine = Machine::new();
    let _taken = machine.hold("--gpu 1 --reserve 20GB --name taken");
    let table = [
        ("--reserve 0", 2),
        ("--reserve 30GB", 2),
        ("--gpu 9 --reserve 1GB", 2),
        ("--gpu 0,1 --reserve 10GB", 3),
        ("--reserve 1GB --name taken", 1),
        ("--reserve 1GB --name a/b", 2),
        ("--reserve 1GB --until-exit 99999999", 2),
        ("--reserve 1GB --ready-fd 77", 2),
    ];
    for (options, code) in table {
        let foreground = machine.run(&format!("hold {options}")).exits(code);
        let detached = machine.run(&format!("hold --detach {options}")).exits(code);
        assert_eq!((detached.stdout, detached.stderr), (foreground.stdout, foreground.stderr), "{options}");
    }
    assert_eq!(machine.used(0), 0);
    let machine = Machine::with(|builder| builder.stub());
    machine.run("hold --detach --reserve 1GB").exits(4).says(&["CUDA_ERROR_STUB_LIBRARY", "hint:"]);
}

#[test]
fn what_is_said_of_a_best_effort_reaches_the_caller() {
    let machine = Machine::new();
    let _other = machine.occupy(0, 20 * GB);
    let caller = machine.run("hold --detach --best-effort --reserve 10GB").exits(0);
    let _holder = Background::of(&caller);
    caller.says(&["holding less than asked: GPU 0: 10.0 GB wanted"]);
}

#[test]
fn a_shell_can_catch_the_line_and_gets_its_terminal_back() {
    let machine = Machine::new();
    for redirection in ["", "2>&1"] {
        let mut shell =
            shell(&machine, &format!(r#"line=$("$0" hold --detach --reserve 1GB {redirection}); echo "$line""#));
        let holder = Background::of(&shell.wait().exits(0));
        assert_eq!(machine.used_by(0, holder.pid()), GB + CONTEXT);
        holder.signal(Signal::TERM);
        holder.wait();
    }
}

#[test]
fn it_keeps_no_stream_no_descriptor_and_no_directory_of_the_caller() {
    let machine = Machine::new();
    let script = r#"exec 7>kept.txt 8<kept.txt 9>&1; "$0" hold --detach --reserve 1GB --name train --ready-fd 9"#;
    let mut command = machine.command("sh");
    let caller = Running::start(command.args(["-c", script, PROGRAM]).current_dir(machine.runtime())).wait().exits(0);
    let holder = Background::of(&caller);
    assert_eq!(caller.stdout.lines().count(), 2, "once on standard output, once on --ready-fd");
    let log = machine.registry().join(format!("{}.log", holder.pid())).to_string_lossy().into_owned();
    let descriptors = holder.descriptors();
    let streams: Vec<&str> = descriptors[..3].iter().map(|(_, target)| target.as_str()).collect();
    assert_eq!(streams, ["/dev/null", &log, &log]);
    for (number, target) in &descriptors {
        let foreign = ["pipe:", "/dev/pts", "/dev/tty", "kept.txt"];
        assert!(!foreign.iter().any(|part| target.contains(part)), "{number} leads to {target}");
    }
    assert_eq!(fs::read_link(holder.proc("cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_to_string(holder.proc("comm")).unwrap(), "gpu-balloon\n");
    let command = fs::read_to_string(holder.proc("cmdline")).unwrap().replace('\0', " ");
    assert_eq!(command, format!("{PROGRAM} hold --detach --reserve 1GB --name train --ready-fd 9 "));
}

#[test]
fn it_survives_the_end_of_its_shell() {
    let machine = Machine::new();
    let mut shell = shell(&machine, r#""$0" hold --detach --reserve 1GB --name train; read line"#);
    let ready = shell.line();
    let pid = ready.split(' ').nth(2).and_then(|word| word.strip_prefix("pid=")).unwrap().parse().unwrap();
    let holder = Background::with(ready, pid);
    let stat = fs::read_to_string(holder.proc("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(&fields[2..5], [&*pid.to_string(), &pid.to_string(), "0"], "group and session of its own, no terminal");
    let group = rustix::process::Pid::from_raw(shell.pid().cast_signed()).unwrap();
    for signal in [Signal::HUP, Signal::INT, Signal::KILL] {
        let _ = rustix::process::kill_process_group(group, signal);
    }
    shell.wait();
    machine.run("resize train 2GB").exits(0);
    assert_eq!(machine.used_by(0, pid), 2 * GB + CONTEXT);
    machine.run("release train").exits(0);
    holder.wait();
}

#[test]
fn the_caller_never_calls_the_driver() {
    let machine = Machine::new();
    let mut caller = Running::start(&mut machine.program("hold --detach --reserve 1GB"));
    let pid = caller.pid();
    let holder = Background::of(&caller.wait().exits(0));
    assert_eq!(machine.all_calls(pid), []);
    assert_eq!(machine.calls(holder.pid(), "cuInit"), 1);
}

#[test]
fn it_ends_by_its_timeout_and_with_the_process_it_is_for() {
    let machine = Machine::new();
    let timed = machine.detach("--reserve 1GB --timeout 50ms");
    timed.wait();
    let mut other = Running::start(&mut machine.command("cat"));
    let bound = machine.detach(&format!("--reserve 1GB --until-exit {}", other.pid()));
    other.close_stdin();
    bound.wait();
    other.wait();
    assert_eq!(machine.used(0), 0);
    let log = fs::read_to_string(machine.registry().join(format!("{}.log", bound.pid()))).unwrap();
    assert_eq!(log, "gpu-balloon: released 1.0 GB: the process it was for has ended\n");
}

#[test]
fn its_log_is_private_named_by_status_and_kept_if_it_says_something() {
    let machine = Machine::new();
    let holder = machine.detach("--reserve 1GB --name train");
    let log = machine.registry().join(format!("{}.log", holder.pid()));
    let status = machine.run("status").exits(0).stdout;
    assert!(status.contains(&*log.to_string_lossy()), "{status}");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    machine.run("release train").exits(0);
    holder.wait();
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said, "gpu-balloon: released 1.0 GB: `gpu-balloon release` asked for it\n");
    let quiet = machine.detach("--reserve 1GB --quiet");
    let log = machine.registry().join(format!("{}.log", quiet.pid()));
    assert!(log.exists());
    quiet.signal(Signal::TERM);
    quiet.wait();
    assert!(!log.exists(), "an empty log was left");
    let killed = machine.detach("--reserve 1GB");
    let log = machine.registry().join(format!("{}.log", killed.pid()));
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(log.exists());
    machine.run("status").exits(0);
    assert!(!log.exists(), "an empty log of a killed holder was left");
}
