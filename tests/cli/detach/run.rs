//! `run --detach`: the caller waits until the command has started, and no longer.

use std::fs;
use std::process::Stdio;

use gpu_sim::{Family, GB};
use rustix::process::Signal;

use crate::harness::{Background, CONTEXT, Machine, Running};

/// Says who it is on both streams, and then lives until it is told to end.
const COMMAND: &str = "trap 'echo told; exit 7' TERM; echo out $$ $PWD; echo err >&2; cat; env >&2; sleep 60 & wait";

/// A detached wrapper around [`COMMAND`], and the command that starts it.
fn command(machine: &Machine) -> std::process::Command {
    let mut command = machine.wrap("--detach --reserve 1GB --name train", &["sh", "-c", COMMAND]);
    command.current_dir(machine.runtime());
    command
}

fn log(machine: &Machine, holder: &Background) -> String {
    fs::read_to_string(machine.registry().join(format!("{}.log", holder.pid()))).unwrap_or_default()
}

#[test]
fn the_command_goes_on_in_the_background_and_the_log_tells_of_it() {
    let machine = Machine::new();
    let caller = Running::start(&mut command(&machine)).wait().exits(0).says_nothing();
    let holder = Background::of(&caller);
    assert_eq!(caller.stdout, format!("ready name=train pid={} gpus=0 held={GB}\n", holder.pid()));
    assert_eq!(machine.used_by(0, holder.pid()), GB + CONTEXT);
    let status = machine.run("status train").exits(0).stdout;
    assert!(status.contains(&format!("{}.log", holder.pid())), "{status}");
    machine.wait_for("it has said all", |_| log(&machine, &holder).contains("GPU_BALLOON_HOLDER="));
    holder.signal(Signal::TERM);
    holder.wait();
    let said = log(&machine, &holder);
    let place = format!("{}\nerr\n", machine.runtime().display());
    assert!(said.starts_with("out ") && said.contains(&place), "its directory is the caller's: {said}");
    assert!(said.ends_with("told\ngpu-balloon: the command ended with exit code 7\n"), "{said}");
    assert!(!said.contains("GPU_BALLOON_DETACHED_FROM"), "{said}");
    assert_eq!(machine.used(0), 0);
}

#[test]
fn what_is_redirected_to_files_goes_there_and_to_nobody_else() {
    let machine = Machine::new();
    let place = |name: &str| machine.runtime().join(name);
    let file = |name: &str| Stdio::from(fs::File::create(place(name)).unwrap());
    let mut wrapper = machine.wrap("--detach --reserve 1GB --ready-fd 2", &["sh", "-c", "echo out; echo err >&2"]);
    assert!(wrapper.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).status().unwrap().success());
    machine.wait_for("it ends", |machine| machine.peak(0) > 0 && machine.used(0) == 0);
    let [out, err] = ["out", "err"].map(|name| fs::read_to_string(place(name)).unwrap());
    assert_eq!(out, "out\n", "the ready line is none of the command's output");
    assert!(err.starts_with("ready name=") && err.ends_with("\nerr\n"), "{err}");
    machine.wait_for("the log goes", |_| machine.registered().is_empty());
}

#[test]
fn a_shell_that_catches_its_output_does_not_wait_for_the_command() {
    let machine = Machine::new();
    let mut shell = machine.command("sh");
    let script = r#"line=$("$0" run --detach --reserve 1GB -- sleep 60 2>&1); echo "$line""#;
    let holder = Background::of(&Running::start(shell.args(["-c", script, crate::harness::PROGRAM])).wait().exits(0));
    assert_eq!(machine.used_by(0, holder.pid()), GB + CONTEXT);
    holder.signal(Signal::TERM);
    holder.wait();
    assert_eq!(log(&machine, &holder), "gpu-balloon: the command was killed by signal 15\n");
}

#[test]
fn errors_and_exit_codes_of_a_command_that_does_not_start_are_those_of_the_foreground() {
    let machine = Machine::new();
    let _taken = machine.hold("--gpu 1 --reserve 20GB --name taken");
    let script = machine.runtime().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let table = [
        ("--reserve 0", "true", 125),
        ("--gpu 0,1 --reserve 10GB", "true", 124),
        ("--reserve 1GB --name taken", "true", 125),
        ("--reserve 1GB --name taken --if-absent", "true", 0),
        ("--reserve 1GB", "gpu-balloon-no-such-program", 127),
        ("--reserve 1GB", "/", 126),
        // What is found out when the memory is held.
        ("--reserve 1GB", script, 127),
    ];
    for (options, command, code) in table {
        let foreground = Running::start(&mut machine.wrap(options, &[command])).wait().exits(code);
        let detached = Running::start(&mut machine.wrap(&format!("--detach {options}"), &[command])).wait().exits(code);
        assert_eq!((detached.stdout, detached.stderr), (foreground.stdout, foreground.stderr), "{options}");
    }
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_caller_that_ends_before_the_command_has_started_takes_everything_along() {
    for (signal, code) in [(Signal::INT, 130), (Signal::KILL, 137)] {
        let machine = Machine::with(|builder| builder.delay(Family::Alloc, std::time::Duration::from_millis(20)));
        let mut caller = Running::start(&mut machine.wrap("--detach --reserve 20GB", &["echo", "started"]));
        machine.wait_for("it inflates", |state| state.used(0) > CONTEXT + GB);
        caller.signal(signal);
        let said = caller.wait();
        assert_eq!((said.stdout.as_str(), said.code()), ("", code), "{}", said.stderr);
        machine.wait_for("the holder is gone", |state| state.used(0) == 0 && state.live_pids().is_empty());
    }
}
