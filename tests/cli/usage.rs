//! Wrong usage and its form, and the variables that stand for options.

use std::process::Stdio;

use gpu_sim::GB;
use rustix::process::Signal;

use crate::harness::{Machine, Running, Terminal};

#[test]
fn wrong_usage_is_told_in_one_form() {
    let machine = Machine::new();
    let table = [
        ("hold --frobnicate", "--frobnicate"),
        ("hold --reserve", "--reserve"),
        ("hold --gpu", "--gpu"),
        ("hold 0", "'0'"),
        ("inflate", "'inflate'"),
        ("hold --if-absent", "--name"),
        ("release", "<NAME>"),
        ("-v -q status", "--quiet"),
    ];
    for (line, named) in table {
        let said = machine.run(line).exits(2);
        assert_eq!(said.stdout, "", "{line}");
        let first = said.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("gpu-balloon: "), "{line}: {}", said.stderr);
        said.says(&[named, "\nhint: "]);
    }
}

#[test]
fn a_word_nearly_right_is_told_the_right_one() {
    let machine = Machine::new();
    machine.run("hold --resreve 2GB").exits(2).says(&["hint: ", "--reserve"]);
    machine.run("hodl").exits(2).says(&["hint: ", "hold"]);
}

#[test]
fn a_word_in_the_wrong_place_is_told_its_right_one() {
    let machine = Machine::new();
    let table = [
        ("hold --reserve 1GB --wait 10m", 2, "a value of `--wait` follows a `=`: `--wait=10m`"),
        ("run --reserve 1GB --wait 10m -- true", 127, "`--wait=10m`"),
        ("run --reserve 1 GB -- true", 127, "`GB` was taken for the command, which may begin behind the `--`"),
        ("status --watch 1s", 5, "`--watch=1s`"),
    ];
    for (line, code, hint) in table {
        machine.run(line).exits(code).says(&["\nhint: ", hint]);
    }
    let mut command = machine.program("run --reserve 1GB --");
    Running::start(command.arg("python train.py"))
        .wait()
        .exits(127)
        .says(&["hint: a command in one word needs a shell"]);
    let said = machine.run("run --reserve 1GB -- no-such-command").exits(127);
    assert!(!said.stderr.contains("hint: "), "{}", said.stderr);
}

#[test]
fn no_gpu_is_visible_where_the_variable_is_empty() {
    let machine = Machine::new();
    let said = machine.refuses(4, &["--reserve", "1GB"], &[("CUDA_VISIBLE_DEVICES", "")]);
    said.says(&["hint: CUDA_VISIBLE_DEVICES is empty, which hides every GPU"]);
}

#[test]
fn a_name_is_a_file_name_and_no_number() {
    let machine = Machine::new();
    for name in ["", "a/b", "..", ".hidden", "-x", "123", "a b", "\u{1b}[31m"] {
        let said = machine.refuses(2, &[&format!("--name={name}"), "--reserve", "1GB"], &[]);
        assert!(!said.stderr.contains('\u{1b}'), "{}", said.stderr);
    }
}

#[test]
fn a_name_that_holds_already_is_refused_before_memory_is_taken() {
    let machine = Machine::new();
    let holder = machine.hold("--gpu 0 --reserve 1GB --name train");
    let said = machine.refuses(1, &["--gpu", "1", "--reserve", "1GB", "--name", "train"], &[]);
    said.says(&["a balloon named `train` exists already", "hint: "]);
    assert_eq!(machine.balloon(0, &holder), GB);
}

#[test]
fn variables_stand_for_options() {
    let machine = Machine::new();
    let mut holder = machine.hold_with(
        &[],
        &[
            ("GPU_BALLOON_GPU", "1"),
            ("GPU_BALLOON_RESERVE", "2GB"),
            ("GPU_BALLOON_NAME", "train"),
            ("GPU_BALLOON_REASON", "a test"),
            ("GPU_BALLOON_CHUNK_SIZE", "1GB"),
            ("GPU_BALLOON_TIMEOUT", "1h"),
        ],
    );
    assert_eq!((machine.used(0), machine.balloon(1, &holder)), (0, 2 * GB));
    let status = machine.status();
    let balloon = &status["balloons"][0];
    assert_eq!((&balloon["name"], &balloon["reason"]), (&"train".into(), &"a test".into()));
    assert_eq!((&balloon["gpus"][0]["num_chunks"], &balloon["gpus"][0]["chunk_size_mb"]), (&2.into(), &1024.into()));
    assert!(balloon["ends_at"].is_string(), "{status}");
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
}

#[test]
fn a_wrong_variable_is_refused_as_the_option_would_be() {
    let machine = Machine::new();
    machine.refuses(2, &[], &[("GPU_BALLOON_RESERVE", "-2GB")]).says(&[
        "--reserve",
        "`-2GB` is negative",
        "`2GB`",
        "hint: that value comes from GPU_BALLOON_RESERVE\n",
    ]);
    let typed = machine.refuses(2, &["--timeout", "never"], &[("GPU_BALLOON_TIMEOUT", "1h")]);
    assert!(!typed.stderr.contains("GPU_BALLOON_TIMEOUT"), "{}", typed.stderr);
    machine.refuses(2, &[], &[("GPU_BALLOON_GPU", "9")]).says(&["GPU 9 is not visible"]);
    machine.refuses(2, &[], &[("GPU_BALLOON_TIMEOUT", "-1")]).says(&["--timeout"]);
}

#[test]
fn no_time_is_no_timeout_and_no_wait() {
    let machine = Machine::new();
    let holder = machine
        .hold_with(&["--reserve", "20GB", "--name", "train", "--timeout", "0"], &[("GPU_BALLOON_TIMEOUT", "1h")]);
    let balloon = &machine.status()["balloons"][0];
    assert_eq!((&balloon["state"], &balloon["ends_at"]), (&"holding".into(), &serde_json::Value::Null));
    for options in ["--wait=0", "--wait=0s --greedy"] {
        machine.run(&format!("hold --reserve 10GB {options}")).exits(3).says(&["7.0 GB missing"]);
        machine.run(&format!("run --reserve 10GB {options} -- echo started")).exits(124).says(&["7.0 GB missing"]);
    }
    assert_eq!(machine.balloon(0, &holder), 20 * GB);
}

#[test]
fn what_is_no_time_is_refused() {
    let machine = Machine::new();
    for option in ["--timeout", "--wait"] {
        for time in ["-1", "-5s", "", "soon", "inf", "5x", "1e99"] {
            let said = machine.refuses(2, &["--reserve", "1GB", &format!("{option}={time}")], &[]);
            said.says(&[option, &format!("`{time}` is no time; write a time such as 90s or 2h30m")]);
        }
    }
    machine.run("status --watch=0").exits(2).says(&["--watch", "longer than zero"]);
}

#[test]
fn every_switch_in_the_environment_is_read_alike() {
    let machine = Machine::with(|builder| builder.without_nvml());
    for (value, code) in [("1", 4), ("0", 0)] {
        let mut command = machine.program("hold --reserve 1GB --timeout 10ms");
        Running::start(command.env("GPU_BALLOON_CONTEXTLESS", value)).wait().exits(code);
    }
    let mut command = machine.program("hold --reserve 1GB --timeout 10ms");
    let said = Running::start(command.env("GPU_BALLOON_JSON", "1")).wait().exits(0);
    assert!(said.stdout.starts_with('{'), "{}", said.stdout);
}

#[test]
fn more_is_said_to_who_asks_for_more() {
    let machine = Machine::new();
    let said = |options: &str, log: &str| {
        let mut command = machine.program(&format!("hold --reserve 1GB --timeout 10ms {options}"));
        Running::start(command.env("GPU_BALLOON_LOG", log)).wait().exits(0).stderr
    };
    let end = "gpu-balloon: released 1.0 GB: its time is over\n";
    assert_eq!(said("", ""), end);
    let steps = format!(" INFO inflated gpu=0 held=1.0 GB\n INFO deflated gpu=0 freed=1.0 GB\n{end}");
    assert!(said("-v", "").ends_with(&steps), "{}", said("-v", ""));
    let details = said("-vv", "");
    assert!(details.contains("DEBUG wanted gpu=0 uuid=GPU-a0") && details.contains("DEBUG opened gpu=0"), "{details}");
    assert_eq!(said("-q", ""), "");
    assert!(said("", "debug").contains("DEBUG opened gpu=0"));
    assert!(!said("-vv", "info").contains("DEBUG"));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let seen = |no_colour: Option<&str>| {
        let machine = Machine::new();
        let terminal = Terminal::new(100);
        let mut command = machine.program("-v hold --reserve 1GB --timeout 10ms");
        command.envs(no_colour.map(|value| ("NO_COLOR", value)));
        let mut holder = command.stdout(Stdio::null()).stderr(terminal.stdio()).spawn().unwrap();
        drop(command);
        assert!(holder.wait().unwrap().success());
        terminal.output()
    };
    let coloured = |text: &str| text.contains("\u{1b}[3") || text.contains("\u{1b}[2m");
    assert!(coloured(&seen(None)));
    assert!(coloured(&seen(Some(""))));
    assert!(!coloured(&seen(Some("1"))));
}

#[test]
fn what_is_quoted_does_not_reach_the_terminal_raw() {
    let machine = Machine::new();
    let hostile = "\u{1b}[2J\n\u{202e}0";
    for (argument, variable) in [(format!("--gpu={hostile}"), "0"), ("--gpu=all".to_owned(), hostile)] {
        let mut command = machine.program("hold --reserve 1GB");
        let said = Running::start(command.arg(argument).env("CUDA_VISIBLE_DEVICES", variable)).wait();
        let harmful = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!said.stderr.contains(harmful) && said.stderr.contains("[2J"), "{:?}", said.stderr);
        assert!(said.stderr.lines().all(|line| line.starts_with("gpu-balloon: ") || line.starts_with("hint: ")));
    }
}
