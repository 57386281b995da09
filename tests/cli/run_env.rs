//! What a command under `run` finds: all as it would be alone, but for the variables that are documented.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use gpu_sim::GB;

use crate::harness::{Machine, PROGRAM, Running};

/// What a shell prints of itself: signals, limits, rights, place and descriptors. The copy of `sed` that looks at itself is a
/// child of the shell, to which the shell hands on all of it.
const PORTRAIT: &str = r"
    sed -nE '/^(Sig(Blk|Ign|Cgt)|Umask|[UG]id|Groups|NoNewPrivs|Seccomp|Cap[A-Z][a-z]+|Cpus_allowed):/p' /proc/self/status
    cat /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/timerslack_ns /proc/self/coredump_filter
    pwd; umask; nice
    for fd in /proc/$$/fd/*; do echo ${fd##*/} $(readlink $fd); done
";

/// Something before the command that changes what it inherits.
const LAUNCHERS: [&str; 7] = [
    "exec \"$@\"",
    "trap '' HUP INT QUIT PIPE TERM CHLD TSTP TTIN TTOU USR1; exec \"$@\"",
    "exec env --block-signal=HUP,INT,CHLD,USR1,RTMIN,CONT,TSTP \"$@\"",
    "exec env --ignore-signal=PIPE,CHLD,ALRM,WINCH,SEGV,RTMAX \"$@\"",
    "umask 027; cd /usr; exec nice -n 3 \"$@\"",
    "exec 5</dev/null 7>/dev/null 200>/dev/null; ulimit -c 0 -n 300; exec \"$@\"",
    "echo 7 >/proc/self/oom_score_adj; exec \"$@\"",
];

/// What a command prints, alone and under `run`, once `launcher` has prepared things.
#[track_caller]
fn alone_and_wrapped(machine: &Machine, launcher: &str, command: &[&str]) -> [String; 2] {
    [&[] as &[&str], &[PROGRAM, "run", "--reserve", "10MB", "--"]].map(|before| {
        let mut shell = machine.command("bash");
        shell.args(["-c", launcher, "launcher"]).args(before).args(command);
        Running::start(&mut shell).wait().exits(0).says_nothing().stdout
    })
}

/// Without what differs between any two runs: the numbers of pipes.
fn comparable(portrait: &str) -> Vec<String> {
    portrait.lines().map(|line| line.split("pipe:").next().unwrap().to_owned()).collect()
}

#[test]
fn it_inherits_what_it_would_alone() {
    let machine = Machine::new();
    for launcher in LAUNCHERS {
        let [alone, wrapped] = alone_and_wrapped(&machine, launcher, &["bash", "-c", PORTRAIT]);
        assert!(alone.lines().count() > 30, "{alone}");
        assert_eq!(comparable(&wrapped), comparable(&alone), "{launcher}");
    }
}

#[test]
fn a_closed_stream_stays_closed() {
    let machine = Machine::new();
    let file = machine.runtime().join("portrait");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let [alone, wrapped] = [false, true].map(|is_wrapped| {
            let look = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && echo $n >&9; done; true";
            let portrait = format!("exec 9>{}; {look}", file.display());
            let before = if is_wrapped { format!("{PROGRAM} run --reserve 10MB --") } else { String::new() };
            let mut shell = machine.command("bash");
            shell.args(["-c", &format!("exec {before} bash -c \"$1\" {closed}"), "launcher", &portrait]);
            Running::start(&mut shell).wait().exits(0);
            std::fs::read_to_string(&file).unwrap()
        });
        assert_eq!(wrapped, alone, "{closed}");
        assert!(!alone.contains("0\n1\n2\n"), "{alone}");
    }
}

#[test]
fn only_the_documented_variables_are_new() {
    let machine = Machine::new();
    let [alone, wrapped] = alone_and_wrapped(&machine, "export _=; exec \"$@\"", &["env", "-0"]);
    let set = |text: &str| -> BTreeSet<String> { text.split('\0').map(str::to_owned).collect() };
    let (alone, wrapped) = (set(&alone), set(&wrapped));
    assert_eq!(alone.difference(&wrapped).count(), 0);
    let new: BTreeMap<&str, &str> =
        wrapped.difference(&alone).map(|variable| variable.split_once('=').unwrap()).collect();
    let names: Vec<&str> = new.keys().copied().collect();
    let documented =
        ["CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "GPU_BALLOON_GPUS", "GPU_BALLOON_HOLDER", "LD_PRELOAD"];
    assert_eq!(names, documented);
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/gpu-balloon-run.1")).unwrap();
    assert!(documented.iter().all(|name| manual.contains(name)));
}

/// What the command finds in the variables, `-` where there is none.
#[track_caller]
fn variables(command: &mut Command) -> String {
    let show =
        "echo ${CUDA_VISIBLE_DEVICES--} ${CUDA_DEVICE_ORDER--} $GPU_BALLOON_GPUS; [ $GPU_BALLOON_HOLDER = $PPID ]";
    Running::start(command.args(["sh", "-c", show])).wait().exits(0).stdout.trim_end().to_owned()
}

#[test]
fn it_sees_exactly_the_reserved_gpus() {
    let machine = Machine::with(|builder| builder.gpus(4));
    let uuid = |gpu: usize| machine.status()["gpus"][gpu]["uuid"].as_str().unwrap().to_owned();
    let (second, fourth) = (uuid(1), uuid(3));
    for (visible, gpus, seen) in [
        (None, "", "0 PCI_BUS_ID 0".to_owned()),
        (None, "--gpu 3,1", "3,1 PCI_BUS_ID 3,1".to_owned()),
        (None, "--gpu all", "0,1,2,3 PCI_BUS_ID 0,1,2,3".to_owned()),
        (Some("3,1"), "", "3,1 PCI_BUS_ID 0,1".to_owned()),
        (Some("3,1"), "--gpu 1", "1 PCI_BUS_ID 1".to_owned()),
        (Some(fourth.as_str()), "", format!("{fourth} PCI_BUS_ID 0")),
        (None, &format!("--gpu {second}"), format!("{second} PCI_BUS_ID 1")),
    ] {
        let mut command = machine.wrap(&format!("--reserve 10MB {gpus}"), &[]);
        if let Some(visible) = visible {
            command.env("CUDA_VISIBLE_DEVICES", visible);
        }
        assert_eq!(variables(&mut command), seen, "{visible:?} {gpus}");
    }
}

#[test]
fn it_keeps_what_it_is_told_to_keep() {
    let machine = Machine::new();
    for (visible, order, seen) in [
        (None, None, "- - 1"),
        (Some("0,1"), None, "0,1 - 1"),
        (Some("0,1"), Some("FASTEST_FIRST"), "0,1 FASTEST_FIRST 1"),
        (None, Some(""), "- 1"),
    ] {
        let mut command = machine.wrap("--reserve 10MB --gpu 1 --keep-visible", &[]);
        for (name, value) in [("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        assert_eq!(variables(&mut command), seen, "{visible:?} {order:?}");
    }
}

#[test]
fn a_job_on_the_reserved_gpu_finds_it_as_its_first() {
    let machine = Machine::with(|builder| builder.fastest_first([1, 0]));
    let client = gpu_sim::program();
    let mut job = Running::start(&mut machine.wrap("--gpu 1 --reserve 1GB", &[client.to_str().unwrap(), "client"]));
    for (request, answer) in [("ctx 0", "ok"), ("alloc 2GB", "ok 0")] {
        job.say(request);
        assert_eq!(job.line().trim_end(), answer);
    }
    assert!(machine.used(1) >= 2 * GB);
    assert_eq!(machine.used(0), 0);
    job.close_stdin();
    job.wait().exits(0);
}
