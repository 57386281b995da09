//! Readiness: told where the caller listens, once everything is held and not before.

use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::Duration;

use gpu_sim::{Family, GB, MB};
use rustix::process::Signal;

use crate::harness::{DEADLINE, Machine, PROGRAM, Running, Terminal};

/// `hold` under a shell that first sets up its descriptors, such as `5>file`.
fn under_shell(machine: &Machine, redirections: &str, line: &str) -> Command {
    let mut command = machine.command("sh");
    command.args(["-c", &format!("exec {PROGRAM} hold {line} {redirections}")]);
    command
}

#[test]
fn nothing_is_told_before_everything_is_held() {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(10)));
    let mut holder = Running::start(&mut machine.program("hold --gpu 0,1 --reserve 4GB,1GB"));
    machine.wait_for("the smaller part", |_| machine.used_by(1, holder.pid()) >= GB + 500 * MB);
    assert!(holder.is_silent(), "told before GPU 0 was done");
    let ready = holder.line();
    assert_eq!((machine.balloon(0, &holder), machine.balloon(1, &holder)), (4 * GB, GB), "{ready}");
}

#[test]
fn the_line_comes_through_a_pipe_at_once() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB");
    assert!(holder.is_silent(), "one line, and it runs on");
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().exits(0).stdout.lines().count(), 1);
}

#[test]
fn the_line_is_json_where_that_is_asked_for() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB --json --name train");
    holder.signal(Signal::TERM);
    let said: serde_json::Value = serde_json::from_str(&holder.wait().exits(0).stdout).expect("one object");
    assert_eq!((&said["name"], &said["pid"], &said["held"]), (&"train".into(), &holder.pid().into(), &GB.into()));
}

#[test]
fn another_descriptor_is_told_too() {
    let machine = Machine::new();
    let file = machine.runtime().join("ready.txt");
    let redirection = format!("5>{}", file.display());
    let mut holder = Running::start(&mut under_shell(&machine, &redirection, "--reserve 1GB --ready-fd 5"));
    let line = holder.line();
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    assert_eq!(std::fs::read_to_string(file).unwrap(), format!("{line}\n"));
}

#[test]
fn a_reader_of_the_other_descriptor_sees_its_end_with_the_line() {
    let machine = Machine::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = under_shell(&machine, "5>&0 </dev/null", "--reserve 1GB --ready-fd 5");
    let mut holder = command.stdin(writer).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let mut told = String::new();
    // Returns only when nobody has the pipe open any more.
    reader.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("ready ") && told.ends_with('\n'), "{told}");
    assert!(holder.try_wait().unwrap().is_none(), "it holds");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_descriptor_that_is_not_open_is_refused() {
    let machine = Machine::new();
    for number in ["7", "99", "-1", "x"] {
        machine.refuses(2, &["--reserve", "1GB", &format!("--ready-fd={number}")], &[]).says(&["--ready-fd", "hint: "]);
    }
}

#[test]
fn systemd_is_told_by_path_and_by_abstract_name() {
    let machine = Machine::new();
    let path = machine.runtime().join("notify");
    let name = format!("gpu-balloon-test-{}", std::process::id());
    let sockets = [
        (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
        (format!("@{name}"), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()),
    ];
    for (address, socket) in sockets {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let holder = machine.hold_with(&["--reserve", "1GB"], &[("NOTIFY_SOCKET", &address)]);
        let mut message = [0; 256];
        let length = loop {
            match socket.recv(&mut message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message"),
            }
        };
        let message = String::from_utf8_lossy(&message[..length]);
        assert!(message.lines().any(|line| line == "READY=1"), "{address}: {message}");
        assert_eq!(machine.balloon(0, &holder), GB);
    }
}

#[test]
fn a_listener_that_is_gone_harms_nothing() {
    let machine = Machine::new();
    let mut holder = machine.hold_with(&["--reserve", "1GB"], &[("NOTIFY_SOCKET", "/nonexistent/notify")]);
    assert_eq!(machine.balloon(0, &holder), GB);
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().exits(0).stderr, "gpu-balloon: released 1.0 GB: SIGTERM came\n");
}

/// What a person sees on a terminal of this width while two GPUs inflate.
fn seen(columns: u16, options: &str) -> String {
    let machine = Machine::with(|builder| builder.delay(Family::Alloc, Duration::from_millis(10)));
    let terminal = Terminal::new(columns);
    let mut command = machine.program(&format!("hold --gpu 0,1 --reserve 4GB --timeout 10ms {options}"));
    let mut holder = command.stderr(terminal.stdio()).stdout(Stdio::null()).spawn().unwrap();
    drop(command);
    assert!(holder.wait().unwrap().success());
    terminal.output()
}

#[test]
fn a_person_at_a_terminal_sees_a_bar_per_gpu() {
    for columns in [60, 100] {
        let seen = seen(columns, "");
        for words in ["GPU 0", "GPU 1", " of 4.0 GB", "4.0 GB of 4.0 GB", "released 8.0 GB: its time is over"] {
            assert!(seen.contains(words), "no `{words}` in {seen}");
        }
        // More than once: it moves.
        let sizes = seen.matches("GPU 0").count();
        assert!(sizes > 2, "{sizes} pictures in {seen}");
    }
}

#[test]
fn no_bar_is_drawn_for_the_quiet_or_where_nobody_watches() {
    assert_eq!(seen(80, "-q"), "");
    let logged = seen(80, "-v");
    assert!(logged.contains("inflated") && !logged.contains("GPU 0"), "what is drawn would wipe out the log: {logged}");
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB");
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().exits(0).stderr, "gpu-balloon: released 1.0 GB: SIGTERM came\n");
    let mut holder = machine.hold("-q --reserve 1GB");
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().exits(0).stderr, "");
}

/// Waits until a holder that cannot say so holds 1 GB.
#[track_caller]
fn holds(machine: &Machine, holder: &Running) {
    machine.wait_for("a balloon", |_| machine.status()["balloons"][0]["state"] == "holding");
    assert_eq!(machine.balloon(0, holder), GB);
}

#[test]
fn a_full_disk_takes_the_line_and_leaves_the_balloon() {
    let machine = Machine::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = machine.program("hold --reserve 1GB --name full");
    let mut holder = Running::start_with(&mut command, |command| command.stdout(full()));
    holds(&machine, &holder);
    holder.signal(Signal::TERM);
    holder.wait().exits(0).says(&["the ready line cannot be written to standard output: No space left on device"]);
    let mut command = machine.program("-vv hold --reserve 1GB --timeout 10ms --gpu 0,1");
    Running::start_with(&mut command, |command| command.stdout(full()).stderr(full())).wait().exits(0);
}

#[test]
fn closed_streams_and_readers_that_are_gone_harm_nothing() {
    let machine = Machine::new();
    for closed in [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let mut holder = Running::start(&mut under_shell(&machine, closed, "-vv --reserve 1GB"));
        holds(&machine, &holder);
        holder.signal(Signal::TERM);
        holder.wait().exits(0);
    }
    let gone = || std::io::pipe().unwrap().1;
    let mut command = machine.program("-vv hold --reserve 1GB --timeout 10ms");
    Running::start_with(&mut command, |command| command.stdout(gone())).wait().exits(0);
    Running::start_with(&mut command, |command| command.stderr(gone())).wait().exits(0);
    Running::start_with(&mut command, |command| command.stdout(gone()).stderr(gone())).wait().exits(0);
}
