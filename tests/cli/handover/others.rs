//! Programs without CUDA, and those that the library does not get into.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use gpu_sim::{GB, MB, Script};

use super::{balloon, whole};
use crate::harness::{CONTEXT, Ended, Machine, PROGRAM, Running, compile, skipped};

const RUN: [&str; 6] = ["run", "--gpu", "0", "--reserve", "1GB", "--"];

/// The same words alone and under `run`.
fn both(machine: &Machine, words: &[&str], prepare: impl Fn(&mut Command)) -> (Ended, Ended) {
    let mut alone = machine.command(words[0]);
    alone.args(&words[1..]);
    let mut under = machine.command(PROGRAM);
    under.args(RUN).args(words);
    let [alone, under] = [alone, under].map(|mut command| {
        prepare(&mut command);
        let mut running = Running::start(&mut command);
        running.close_stdin();
        running.wait()
    });
    (alone, under)
}

#[track_caller]
fn same(machine: &Machine, words: &[&str]) {
    let directory = machine.runtime().join("work");
    std::fs::create_dir_all(&directory).expect("a directory");
    let (alone, under) = both(machine, words, |command| _ = command.current_dir(&directory));
    assert_eq!((alone.code(), &alone.stdout, &alone.stderr), (under.code(), &under.stdout, &under.stderr), "{words:?}");
}

#[test]
fn programs_without_cuda_are_as_they_were() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.runtime().join("work")).expect("a directory");
    std::fs::write(machine.runtime().join("work/a.c"), "int main(void) { return 3; }\n").expect("a file");
    same(&machine, &["true"]);
    same(&machine, &["sh", "-c", "echo out; echo err >&2; ls /no/such; exit 9"]);
    same(&machine, &["sh", "-c", "read line; echo got $line"]);
    same(&machine, &["git", "init", "-q", "."]);
    same(&machine, &["git", "status"]);
    same(&machine, &["gcc", "-c", "a.c", "-o", "a.o"]);
    same(&machine, &["sh", "-c", "gcc a.c -o a.out && ./a.out; echo $?; sha256sum a.out a.o"]);
    same(
        &machine,
        &["python3", "-c", "import ctypes; print(ctypes.CDLL(None).getpid is None, bool(ctypes.CDLL(None).dlsym))"],
    );
    same(&machine, &["python3", "-c", "import ctypes; print(hasattr(ctypes.CDLL(None), 'cuMemAlloc_v2'))"]);
}

#[test]
fn the_environment_has_what_the_contract_says_and_nothing_else() {
    let machine = Machine::new();
    let prepare = |command: &mut Command| _ = command.env("ODD", "a b\nc");
    let (alone, under) = both(&machine, &["env", "-0"], prepare);
    let parse = |text: &str| -> BTreeMap<String, String> {
        let entries = text.split('\0').filter_map(|entry| entry.split_once('='));
        entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let (alone, mut under) = (parse(&alone.stdout), parse(&under.stdout));
    assert_eq!(under.remove("CUDA_VISIBLE_DEVICES").as_deref(), Some("0"));
    assert_eq!(under.remove("CUDA_DEVICE_ORDER").as_deref(), Some("PCI_BUS_ID"));
    assert!(under.remove("LD_PRELOAD").is_some_and(|library| library.starts_with("/proc/")));
    assert_eq!(under.remove("GPU_BALLOON_GPUS").as_deref(), Some("0"));
    assert!(under.remove("GPU_BALLOON_HOLDER").is_some_and(|pid| pid.parse::<u32>().is_ok()));
    assert_eq!(alone, under);
}

#[test]
fn the_callers_own_preload_stays_behind_ours() {
    let machine = Machine::new();
    let own = compile("cc", "tests/cli/handover/interposer.c", &["-std=gnu11", "-shared", "-fPIC", "-ldl"]);
    let preload = own.display().to_string();
    let (alone, under) = both(&machine, &["sh", "-c", "echo $LD_PRELOAD; echo x; ls /"], |command| {
        command.env("LD_PRELOAD", &preload);
    });
    assert!(alone.stderr.contains("interposed"), "the test's own library works: {}", alone.stderr);
    assert!(under.stdout.starts_with("/proc/") && under.stdout.contains(&format!(":{preload}\n")), "{}", under.stdout);
    assert_eq!(format!("interposed\n{}", alone.stderr), under.stderr, "once more, in the wrapper");
    assert_eq!(alone.stdout.lines().skip(1).collect::<Vec<_>>(), under.stdout.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn a_musl_program_runs_unharmed() {
    if Command::new("musl-gcc").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "no musl-gcc here (Debian: musl-tools)");
        return skipped("no musl-gcc here (Debian: musl-tools)");
    }
    let machine = Machine::new();
    for options in [&["-ldl"][..], &["-static"]] {
        let program = compile("musl-gcc", "tests/cli/handover/plain.c", options);
        let said = machine.run(&format!("run --gpu 0 --reserve 1GB -- {}", program.display())).exits(7);
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("found malloc, no cuInit\n", ""));
    }
}

#[test]
fn nvml_takes_over_where_the_library_is_not() {
    let machine = Machine::new();
    let client = gpu_sim::program().display().to_string();
    let mut command = machine.program("run --gpu 0 --reserve 4GB -- env -u LD_PRELOAD");
    command.args([&client, "client"]);
    let mut job = Script::start(command);
    job.must("ctx 0");
    job.must("alloc 1GB");
    whole(&machine, 0, 4 * GB);
    assert_eq!(balloon(&machine, 0, &job), 3 * GB - CONTEXT);
    job.must("free 0");
    whole(&machine, 0, 4 * GB);
}

#[test]
fn under_nvml_a_full_gpu_has_room_for_a_context_and_a_chunk() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = machine.job("--gpu 0 --reserve 6GB --chunk-size 200MB --handover nvml");
    job.must("pid");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    machine.wait_for("room is made", |state| state.used(0) <= 8 * GB - CONTEXT - 200 * MB);
    job.must("ctx 0");
    machine.wait_for("room is made again", |state| state.used(0) <= 8 * GB - 200 * MB);
    job.must("alloc 200MB");
}

#[test]
fn verbose_says_where_the_library_does_not_get() {
    let machine = Machine::new();
    let program = compile("cc", "tests/cli/handover/plain.c", &["-static", "-w"]);
    let line = |program: &Path| format!("-v run --gpu 0 --reserve 1GB -- {}", program.display());
    machine.run(&line(&program)).exits(7).says(&["following NVML", "statically linked"]);
    let other = machine.runtime().join("setuid");
    // By another process: a copy that this one writes stays open for a moment in what other tests fork meanwhile.
    assert!(Command::new("cp").arg("/bin/true").arg(&other).status().is_ok_and(|status| status.success()));
    if rustix::process::geteuid().is_root() {
        chown(&other, Some(65534), None).expect("a file of nobody's");
    }
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o4755)).expect("a mode");
    let said = machine.run(&line(&other)).exits(0).says(&["another user's rights"]);
    assert!(!said.stderr.contains("ld.so"), "{}", said.stderr);
    assert_eq!(machine.run(&line(&program).replace("-v ", "")).exits(7).stderr, "");
}
