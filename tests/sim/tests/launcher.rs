//! The program `gpu-sim` in front of a command.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-sim")).args(arguments).env_remove("GPU_SIM_DIR").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[test]
fn the_command_ends_as_if_it_ran_alone() {
    assert_eq!(sim(&["--", "sh", "-c", "exit 42"]).status.code(), Some(42));
    assert_eq!(sim(&["--", "sh", "-c", "kill -TERM $$"]).status.signal(), Some(libc::SIGTERM));
    assert_eq!(sim(&["--", "no-such-program"]).status.code(), Some(1));
}

#[test]
fn the_machine_is_as_asked_and_gone_afterwards() {
    let script = "echo $GPU_SIM_DIR; ls $GPU_SIM_DIR/lib; \"$0\" show";
    let program = env!("CARGO_BIN_EXE_gpu-sim");
    let output = sim(&["--gpus", "3", "--memory", "1GB,2GB", "--no-nvml", "--", "sh", "-c", script, program]);
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    let [directory, library, gpus @ ..] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(library, "libcuda.so.1");
    let totals: Vec<bool> = gpus.iter().zip(["1024 MB", "2048 MB", "2048 MB"]).map(|(l, t)| l.contains(t)).collect();
    assert_eq!(totals, [true; 3], "{lines:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::exists(directory).unwrap() {
        assert!(Instant::now() < deadline, "{directory} stays");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_named_machine_stays_and_is_joined() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("machine").display().to_string();
    let first = sim(&["--dir", &directory, "--gpus", "5", "--", "sh", "-c", "echo $GPU_SIM_DIR"]);
    assert_eq!(text(&first.stdout), directory);
    assert_eq!(text(&sim(&["show", "--dir", &directory]).stdout).lines().count(), 5);
    assert_eq!(sim(&["--dir", &directory, "--", "true"]).status.code(), Some(0));
    assert_eq!(text(&sim(&["show", "--dir", &directory]).stdout).lines().count(), 5);
}
