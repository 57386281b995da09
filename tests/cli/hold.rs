//! `hold`: how it ends, and what it leaves behind.

use std::process::Command;
use std::time::Duration;

use gpu_sim::GB;
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine, PROGRAM, Running};

#[test]
fn it_holds_until_a_signal_and_gives_everything_back() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")] {
        let machine = Machine::new();
        let mut holder = machine.hold("--gpu 0,1 --reserve 2GB");
        for gpu in [0, 1] {
            assert_eq!(machine.used_by(gpu, holder.pid()), 2 * GB + CONTEXT);
        }
        holder.signal(signal);
        holder.wait().exits(0).says(&[&format!("gpu-balloon: released 4.0 GB: {name} came\n")]);
        assert_eq!((machine.used(0), machine.used(1)), (0, 0));
        assert_eq!(machine.calls(holder.pid(), "cuDevicePrimaryCtxRelease_v2"), 2, "the contexts go in order");
    }
}

#[test]
fn the_ready_line_tells_name_pid_gpus_and_bytes() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 2GB --name train");
    let pid = holder.pid();
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(0);
    assert_eq!(said.stdout, format!("ready name=train pid={pid} gpus=0,1 held=4294967296\n"));
}

#[test]
fn one_gpu_short_means_none_is_held() {
    let machine = Machine::new();
    let other = machine.hold("--gpu 1 --reserve 20GB");
    let failed = machine.run("hold --gpu 0,1 --reserve 10GB").exits(3);
    let in_the_way = format!("GPU 1: pid {} holds 20.5 GB", other.pid());
    failed.says(&["GPU 1: 10.0 GB wanted, 3.0 GB free, 7.0 GB missing", &in_the_way, "hint:"]);
    assert_eq!((machine.used(0), machine.used(1)), (0, 20 * GB + CONTEXT));
}

#[test]
fn a_signal_that_was_ignored_at_its_start_stays_ignored() {
    let machine = Machine::new();
    let mut command = machine.command("sh");
    command.args(["-c", &format!("trap '' HUP; exec {PROGRAM} hold --reserve 1GB")]);
    let mut holder = Running::start(&mut command);
    holder.line();
    holder.signal(Signal::HUP);
    assert_eq!(machine.status()["balloons"][0]["state"], "holding");
    assert_eq!(machine.balloon(0, &holder), GB);
    holder.signal(Signal::TERM);
    holder.wait().exits(0).says(&["SIGTERM came"]);
}

#[test]
fn a_timeout_ends_it() {
    let machine = Machine::new();
    for timeout in ["200ms", "1"] {
        let ended = machine.run(&format!("hold --reserve 1GB --timeout {timeout}")).exits(0);
        assert!(ended.stdout.starts_with("ready "), "{}", ended.stdout);
        ended.says(&["released 1.0 GB: its time is over"]);
        assert_eq!(machine.used(0), 0);
    }
}

#[test]
fn a_timeout_is_written_as_people_write_it() {
    let machine = Machine::new();
    let time = |balloon: &serde_json::Value, field: &str| {
        humantime::parse_rfc3339(balloon[field].as_str().expect("a time")).expect("RFC 3339")
    };
    for (written, seconds) in
        [("90", 90), ("90.0", 90), ("1m30s", 90), ("1.5m", 90), ("2s", 2), ("2h 30m", 9000), ("1day", 86400)]
    {
        let holder = machine.hold_with(&["--reserve", "1GB", "--timeout", written], &[]);
        let status = machine.status();
        let balloon = &status["balloons"][0];
        assert_eq!(balloon["pid"], holder.pid(), "{status}");
        let lasts = time(balloon, "ends_at").duration_since(time(balloon, "started_at")).expect("it ends later");
        // It starts to count when everything is held, and both are cut to whole seconds.
        let slack = Duration::from_secs(seconds)..Duration::from_secs(seconds + 10);
        assert!(slack.contains(&lasts), "{written}: {lasts:?}");
    }
    for written in ["5x", "soon", "-5", ""] {
        let timeout = format!("--timeout={written}");
        machine.refuses(2, &["--reserve", "1GB", &timeout], &[]).says(&["--timeout", "such as 90s or 2h30m", "hint: "]);
    }
}

#[test]
fn an_end_beyond_the_calendar_is_no_end_to_others() {
    let machine = Machine::new();
    for timeout in ["8000years", "100000000years", "9000000000000000000", "18446744073709551615"] {
        let holder = machine.hold(&format!("--reserve 1GB --timeout {timeout}"));
        let status = machine.status();
        assert!(status["balloons"][0]["ends_at"].is_null(), "{timeout}: {status}");
        assert_eq!(status["balloons"][0]["state"], "holding");
        assert_eq!(machine.balloon(0, &holder), GB, "asking has not harmed it");
    }
}

#[test]
fn it_ends_with_the_process_that_it_is_for() {
    let machine = Machine::new();
    let mut job = Running::start(&mut machine.command("cat"));
    let mut holder = machine.hold(&format!("--reserve 1GB --until-exit {}", job.pid()));
    assert!(holder.is_silent(), "the job runs");
    job.close_stdin();
    job.wait().exits(0);
    holder.wait().exits(0).says(&["released 1.0 GB: the process it was for has ended"]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn the_process_that_it_is_for_may_be_its_own_child() {
    let machine = Machine::new();
    let mut command = machine.command("sh");
    let script = format!("exec 3<&0; cat <&3 >/dev/null 2>&1 & exec {PROGRAM} hold --reserve 1GB --until-exit $!");
    command.args(["-c", &script]);
    let mut holder = Running::start(&mut command);
    holder.line();
    holder.close_stdin();
    holder.wait().exits(0).says(&["the process it was for has ended"]);
}

#[test]
fn a_process_that_is_gone_already_is_refused() {
    let machine = Machine::new();
    let mut job = Running::start(&mut machine.command("true"));
    job.wait().exits(0);
    let pid = job.pid().to_string();
    machine.refuses(2, &["--reserve", "1GB", "--until-exit", &pid], &[]).says(&[&pid, "No such process", "hint: "]);
    for pid in ["0", "-1", "me"] {
        machine.refuses(2, &["--reserve", "1GB", &format!("--until-exit={pid}")], &[]).says(&["--until-exit", pid]);
    }
}

#[test]
fn a_holder_that_is_killed_outright_leaves_nothing() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 2GB --name train");
    holder.signal(Signal::KILL);
    holder.wait().exits(137);
    assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    assert!(!machine.registered().is_empty(), "what it had registered is still there");
    assert_eq!(machine.status()["balloons"], serde_json::json!([]));
    assert_eq!(machine.registered().len(), 0, "the next command clears it away");
}

#[test]
fn the_name_of_a_killed_holder_is_free_again() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 2GB --name train");
    holder.signal(Signal::KILL);
    holder.wait().exits(137);
    let next = machine.hold("--reserve 1GB --name train");
    assert_eq!(machine.status()["balloons"][0]["pid"], next.pid());
}

#[test]
fn an_end_in_order_leaves_no_file() {
    let machine = Machine::new();
    let mut holder = machine.hold("--reserve 1GB --name train");
    assert!(!machine.registered().is_empty());
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    assert_eq!(machine.registered().len(), 0);
    machine.run("hold --reserve 30GB --name train").exits(2);
    machine.run("hold --reserve 24GB --name train").exits(3);
    assert_eq!(machine.registered().len(), 0, "nor does a hold that failed");
}

/// Runs `hold` with a runtime directory that `spoil` has made unusable: a balloon without a name holds all the same.
#[track_caller]
fn without_registry(why: &str, spoil: &[&[&str]]) {
    let machine = Machine::new();
    for words in spoil {
        let [program, arguments @ ..] = words else { continue };
        let spoiled = Command::new(program).args(arguments).current_dir(machine.runtime()).status();
        assert!(spoiled.is_ok_and(|status| status.success()), "{words:?}");
    }
    let mut holder = machine.hold("--reserve 1GB");
    assert_eq!(machine.balloon(0, &holder), GB);
    holder.signal(Signal::TERM);
    let warned = "WARN this balloon cannot be managed from other shells: the runtime directory ";
    holder.wait().exits(0).says(&[warned, why, "released 1.0 GB"]);
    let named = machine.run("hold --reserve 1GB --name train").exits(1);
    named.says(&["gpu-balloon: cannot register the balloon's name: the runtime directory ", why, "hint: "]);
    assert_eq!(machine.used(0), 0);
}

#[test]
fn a_runtime_directory_that_is_none_costs_the_name_alone() {
    without_registry("is not a directory", &[&["touch", "gpu-balloon"]]);
    without_registry("is not a directory", &[&["mkdir", "elsewhere"], &["ln", "-s", "elsewhere", "gpu-balloon"]]);
}

#[test]
fn a_runtime_directory_that_others_may_enter_is_not_trusted() {
    without_registry("is open to others (mode 755)", &[&["mkdir", "-m", "755", "gpu-balloon"]]);
}

#[test]
fn a_runtime_directory_of_somebody_else_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can give a directory away.
        return;
    }
    let spoil: [&[&str]; 2] = [&["mkdir", "-m", "700", "gpu-balloon"], &["chown", "12345", "gpu-balloon"]];
    without_registry("belongs to uid 12345, not to uid 0", &spoil);
}
