//! `run`: when the command starts, and how it ends.

mod reservation;

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use gpu_sim::{ComputeMode, Family, GB};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{CONTEXT, Machine, PROGRAM, Running, skipped};

/// Says its pid and does what it reads, line by line, until there is nothing to read.
const SHELL: &str = "echo $$; while read line; do eval \"$line\"; done";

/// A shell under `run`, and its pid.
#[track_caller]
fn start(machine: &Machine, options: &str) -> (Running, Pid) {
    let mut wrapper = Running::start(&mut machine.wrap(options, &["bash", "-c", SHELL]));
    let pid = wrapper.line().parse().ok().and_then(Pid::from_raw).expect("its pid");
    (wrapper, pid)
}

#[test]
fn the_memory_is_held_while_the_command_runs() {
    let machine = Machine::new();
    let (mut wrapper, _) = start(&machine, "--gpu 0,1 --reserve 2GB,1GB");
    for (gpu, size) in [(0, 2 * GB), (1, GB)] {
        assert_eq!(machine.used_by(gpu, wrapper.pid()), size + CONTEXT);
    }
    wrapper.say("exit 0");
    wrapper.wait().exits(0).says_nothing();
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
}

#[test]
fn the_command_starts_once_everything_is_held() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(5)));
    let mut wrapped = machine.wrap("--gpu 0,1 --reserve 3GB", &[gpu_sim::program().to_str().unwrap(), "client"]);
    let mut job = Running::start(&mut wrapped);
    job.say("pid");
    job.line();
    for gpu in [0, 1] {
        assert_eq!(machine.used_by(gpu, job.pid()), 3 * GB + CONTEXT);
    }
}

#[test]
fn it_ends_with_the_code_of_its_command() {
    let machine = Machine::new();
    for code in [0, 1, 2, 7, 124, 125, 126, 127, 128, 130, 137, 255] {
        let ended = Running::start(&mut machine.wrap("--reserve 10MB", &["sh", "-c", &format!("exit {code}")])).wait();
        assert_eq!(ended.status.code(), Some(code));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    }
}

#[test]
fn a_command_that_cannot_run_takes_no_memory() {
    let machine = Machine::new();
    let text = machine.runtime().join("text");
    std::fs::write(&text, "").unwrap();
    for (command, code, word) in [
        ("gpu-balloon-no-such-program", 127, "not found"),
        ("/no/such/program", 127, "not found"),
        ("", 127, "not found"),
        (text.to_str().unwrap(), 126, "Permission denied"),
        ("/", 126, "Permission denied"),
    ] {
        let mut wrapper = Running::start(&mut machine.wrap("--reserve 10MB", &[command]));
        let said = wrapper.wait().exits(code).says(&["gpu-balloon: ", word]);
        assert_eq!(said.stdout, "");
    }
    assert_eq!(machine.peak(0), 0);
    // What only the kernel finds out.
    let script = machine.runtime().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    machine.run(&format!("run --reserve 10MB -- {}", script.display())).exits(127).says(&["not found"]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_failure_of_its_own_is_125() {
    let machine = Machine::new();
    for (line, words) in [
        ("run --reserve 0 -- true", ["`0` is nothing", "hint:"]),
        ("run --reserve 1GB --gpu 7 -- true", ["GPU 7", "visible are 0,1"]),
        ("run --reserve 25GB -- true", ["more than the GPU's 24.0 GB", "GPU 0"]),
        ("run --reserve 1GB --ready-fd 77 -- true", ["--ready-fd 77", "hint:"]),
        ("run --reserve 1GB --frobnicate -- true", ["--frobnicate", "hint:"]),
        ("run --reserve 1GB", ["CMD", "usage:"]),
    ] {
        let said = machine.run(line).exits(125).says(&words);
        assert_eq!(said.stdout, "");
    }
    Machine::with(|builder| builder.without_cuda()).run("run -- true").exits(125).says(&["libcuda.so.1", "hint:"]);
    let (mut holder, _) = start(&machine, "--reserve 10MB --name taken");
    machine.run("run --reserve 10MB --name taken -- true").exits(125).says(&["`taken` exists already"]);
    holder.close_stdin();
    holder.wait().exits(0);
}

#[test]
fn with_if_absent_it_does_nothing_beside_a_balloon_of_that_name() {
    let machine = Machine::new();
    let run = "run --reserve 1GB --name train --if-absent -- echo started";
    assert_eq!(machine.run(run).exits(0).says_nothing().stdout, "started\n");
    let (mut first, _) = start(&machine, "--reserve 1GB --name train --if-absent");
    let said = machine.run(run).exits(0).says(&["a balloon named `train` holds already: the command is not started"]);
    assert_eq!(said.stdout, "");
    machine.run(&format!("-q {run}")).exits(0).says_nothing();
    first.say("exit 3");
    first.wait().exits(3);
}

#[test]
fn memory_that_is_not_there_is_124() {
    let machine = Machine::new();
    let other = machine.hold("--gpu 1 --reserve 20GB");
    let in_the_way = format!("GPU 1: pid {} holds 20.5 GB", other.pid());
    for options in ["", "--wait=10ms"] {
        let said = machine.run(&format!("run --gpu 0,1 --reserve 10GB {options} -- echo started")).exits(124);
        assert_eq!(said.stdout, "");
        said.says(&["GPU 1: 10.0 GB wanted", " missing", &in_the_way, "hint:"]);
    }
    assert_eq!((machine.used(0), machine.used(1)), (0, 20 * GB + CONTEXT));
}

#[test]
fn it_waits_for_the_memory() {
    let machine = Machine::new();
    let other = machine.hold("--reserve 20GB");
    let mut waiting = Running::start(&mut machine.wrap("--reserve 10GB --wait", &["sh", "-c", "echo started; exit 3"]));
    assert!(waiting.is_silent());
    other.signal(Signal::TERM);
    assert_eq!(waiting.line(), "started");
    waiting.wait().exits(3).says_nothing();
}

#[test]
fn a_gpu_for_one_process_is_refused() {
    let machine = Machine::with(|builder| builder.compute_mode_each([ComputeMode::ExclusiveProcess]));
    let refused = machine.run("run --reserve 1GB -- true").exits(125);
    refused.says(&["GPU 0", "exclusive-process", "hint:", "--contextless"]);
    assert_eq!(machine.peak(0), 0);
    let client = gpu_sim::program();
    let options = "--reserve 1GB --contextless";
    let mut job = Running::start(&mut machine.wrap(options, &[client.to_str().unwrap(), "client"]));
    job.say("ctx 0");
    assert_eq!(job.line().trim_end(), "ok");
    job.close_stdin();
    job.wait().exits(0);
}

#[test]
fn it_says_when_it_holds_where_it_is_asked_to() {
    let machine = Machine::new();
    let mut shell = machine.command("bash");
    let line = format!("exec 5>&1; exec {} run --name train --reserve 1GB --ready-fd 5 -- \"$@\"", PROGRAM);
    // Its own copy of the descriptor is the wrapper's business.
    let command = ["sh", "-c", "[ -e /proc/$$/fd/5 ] || echo closed; exit 4"];
    let mut wrapper = Running::start(shell.args(["-c", &line, "launcher"]).args(command));
    let pid = wrapper.pid();
    assert_eq!(wrapper.line(), format!("ready name=train pid={pid} gpus=0 held={GB}"));
    assert_eq!(wrapper.line(), "closed");
    wrapper.wait().exits(4);
    // A standard stream stays the command's too.
    let said = machine.run("run --name train --reserve 1GB --ready-fd 1 --json -- echo hello").exits(0).stdout;
    let (ready, hello) = said.split_once('\n').unwrap();
    assert!(ready.starts_with("{\"name\":\"train\""), "{ready}");
    assert_eq!(hello, "hello\n");
}

#[test]
fn systemd_is_told() {
    let machine = Machine::new();
    let socket = machine.runtime().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(crate::harness::DEADLINE)).unwrap();
    let mut command = machine.wrap("--reserve 10MB", &["sh", "-c", "echo $NOTIFY_SOCKET"]);
    let said = Running::start(command.env("NOTIFY_SOCKET", &socket)).wait().exits(0).stdout;
    assert_eq!(said.trim_end(), socket.to_str().unwrap());
    let mut message = [0; 64];
    let length = listener.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1"));
}

#[test]
fn a_command_that_closes_its_streams_closes_them_for_the_other_end() {
    let machine = Machine::new();
    let mut wrapper =
        machine.wrap("--reserve 10MB", &["sh", "-c", "trap 'exit 5' USR1; exec <&- >&-; while :; do sleep 0.01; done"]);
    let mut child = wrapper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Ends although the command has not.
    assert_eq!(child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap(), 0);
    kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn what_is_piped_in_and_out_is_untouched() {
    let machine = Machine::new();
    let mut shell = machine.command("bash");
    let line = "head -c 3000000 /dev/urandom >in; \"$@\" <in | cmp - in && \"$@\" <in | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}";
    shell.current_dir(machine.runtime()).args(["-c", line, "launcher"]);
    shell.args([PROGRAM, "run", "--reserve", "10MB", "--", "cat"]);
    // 128 + SIGPIPE, as for `cat` alone.
    assert_eq!(Running::start(&mut shell).wait().exits(0).says_nothing().stdout, "141\n");
}

#[test]
fn a_command_may_go_to_the_background_or_become_another() {
    let machine = Machine::new();
    let said = Running::start(&mut machine.wrap("--reserve 10MB", &["sh", "-c", "exec sh -c 'exec sh -c \"exit 6\"'"]));
    { said }.wait().exits(6);
    // A daemon: the wrapper ends with what was started, the daemon does not.
    let machine = Machine::new();
    // A shell gives what it starts in the background /dev/null to read.
    let command = "exec 3<&0; setsid sh -c 'read go <&3; echo $go late' & exit 8";
    let mut wrapper = Running::start(&mut machine.wrap("--reserve 10MB", &["sh", "-c", command]));
    machine.wait_for("the wrapper has ended", |machine| machine.peak(0) > 0 && machine.used(0) == 0);
    wrapper.say("but");
    assert_eq!(wrapper.line(), "but late");
    wrapper.wait().exits(8).says_nothing();
}

#[test]
fn it_works_where_commands_are_wrapped_by_others() {
    let machine = Machine::new();
    let run = format!("{} run --reserve 10MB --", PROGRAM);
    let makefile = format!("all: a b c\n%:\n\t@{run} sh -c 'echo $@; [ $@ != b ]'\n");
    std::fs::write(machine.runtime().join("Makefile"), makefile).unwrap();
    for (line, code, said) in [
        (format!("bash -ec '{run} false; echo not reached'"), 1, ""),
        (format!("bash -ec '{run} true; echo reached'"), 0, "reached\n"),
        ("make -sj2 a c 2>&1 | sort; exit ${PIPESTATUS[0]}".to_owned(), 0, "a\nc\n"),
        ("make -sj2 b 2>/dev/null".to_owned(), 2, "b\n"),
        (format!("printf '%s\\n' 1 2 3 4 | xargs -P2 -I% {run} echo % | sort"), 0, "1\n2\n3\n4\n"),
        (format!("echo 1 | xargs {run} sh -c 'exit 255' 2>/dev/null"), 124, ""),
        (format!("nohup {run} sh -c 'kill -HUP $PPID; kill -HUP $$; echo alive' 2>/dev/null"), 0, "alive\n"),
        (format!("timeout 0.3 {run} sh -c 'echo waits; exec sleep 60'"), 124, "waits\n"),
        (
            format!(
                "timeout -s INT 0.3 {run} sh -c 'trap \"echo told; exit 3\" INT; echo waits; while :; do sleep 0.01; done'"
            ),
            124,
            "waits\ntold\n",
        ),
        (
            format!("timeout --preserve-status 0.3 {run} sh -c 'trap \"exit 3\" TERM; while :; do sleep 0.01; done'"),
            3,
            "",
        ),
        (format!("timeout --foreground -s KILL 0.3 {run} sh -c 'exec sleep 60' ; true"), 0, ""),
        (format!("setsid --wait {run} sh -c 'exit 4' </dev/null"), 4, ""),
        (
            format!(
                "env -i LD_LIBRARY_PATH=$LD_LIBRARY_PATH GPU_SIM_DIR=$GPU_SIM_DIR XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR {run} /bin/sh -c 'exit 4'"
            ),
            4,
            "",
        ),
        (format!("x=$({run} echo captured); echo $x"), 0, "captured\n"),
        (format!("{run} sh -c 'exit 4' & wait $!"), 4, ""),
        (format!("{run} {run} sh -c 'exit 4'"), 4, ""),
    ] {
        let mut shell = machine.command("bash");
        shell.current_dir(machine.runtime()).args(["-c", &line]).process_group(0);
        let ended = Running::start(&mut shell).wait();
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(code), said), "{line}: {}", ended.stderr);
        machine.wait_for("it is free", |machine| machine.used(0) == 0);
    }
}

#[test]
fn no_core_is_dumped_twice() {
    let machine = Machine::new();
    let mut shell = machine.command("bash");
    let line = format!("cd; ulimit -c unlimited; exec {PROGRAM} run --reserve 10MB -- sh -c 'kill -SEGV $$'");
    let ended = Running::start(shell.args(["-c", &line])).wait();
    assert_eq!((ended.status.signal(), ended.status.core_dumped()), (Some(libc::SIGSEGV), false));
}

#[test]
fn as_the_first_process_of_a_container_it_tells_the_end_by_a_code() {
    let machine = Machine::new();
    let mut shell = machine.command("unshare");
    shell.args(["-rpf", "--mount-proc"]);
    if !Running::start(machine.command("unshare").args(["-rpf", "--mount-proc", "true"])).wait().status.success() {
        return skipped("no namespaces here");
    }
    let command =
        ["sh", "-c", "trap 'echo told; trap - TERM; kill -TERM $$' TERM; kill -TERM $PPID; while :; do :; done"];
    shell.args([PROGRAM, "run", "--reserve", "10MB", "--"]).args(command);
    // The kernel protects that process from its own signals.
    assert_eq!(Running::start(&mut shell).wait().exits(128 + libc::SIGTERM).stdout, "told\n");
}
