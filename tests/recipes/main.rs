//! The README's recipes, run as they stand there, on the simulated driver.
#![allow(clippy::unwrap_used, reason = "a test ends where it goes wrong")]
#![allow(clippy::print_stdout, reason = "a test says why it tested nothing")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use gpu_sim::{GB, Sandbox};
use tempfile::TempDir;

const BALLOON: &str = env!("CARGO_BIN_EXE_gpu-balloon");

/// The block of the README whose fence says `name` after its language.
fn recipe(name: &str) -> String {
    let readme = include_str!("../../README.md");
    let is_fence = |line: &str| line.strip_prefix("```").is_some_and(|info| info.split(' ').nth(1) == Some(name));
    let block = readme.lines().skip_while(|line| !is_fence(line)).skip(1).take_while(|line| *line != "```");
    let text: String = block.map(|line| format!("{line}\n")).collect();
    assert!(!text.is_empty(), "no recipe `{name}` in the README");
    text
}

/// A user with a home, on a machine with two GPUs.
struct Desk {
    sandbox: Sandbox,
    home: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self::with_memory(24 * GB)
    }

    fn with_memory(bytes: u64) -> Self {
        let desk = Self { sandbox: Sandbox::builder().gpus(2).memory(bytes).build(), home: TempDir::new().unwrap() };
        for directory in ["bin", ".cargo/bin", "tmp"] {
            fs::create_dir_all(desk.home.path().join(directory)).unwrap();
        }
        symlink(BALLOON, desk.home.path().join("bin/gpu-balloon")).unwrap();
        symlink(BALLOON, desk.home.path().join(".cargo/bin/gpu-balloon")).unwrap();
        desk
    }

    /// A program that the recipes call.
    fn install(&self, name: &str, script: &str) {
        let path = self.home.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A command in the home of the user, who has no runtime directory but the temporary one.
    fn command(&self, program: &str) -> Command {
        let home = self.home.path();
        let path = std::env::var("PATH").unwrap();
        let mut command = self.sandbox.command(program);
        command
            .current_dir(home)
            .env("HOME", home)
            .env("TMPDIR", home.join("tmp"))
            .env("PATH", format!("{}/bin:{path}", home.display()))
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a recipe as a script, which fails if it is not done after a while.
    fn script(&self, name: &str) -> Command {
        let path = self.home.path().join("script");
        fs::write(&path, recipe(name)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.command("timeout");
        command.args(["60", "./script"]);
        command
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(name)).unwrap()
    }

    /// Memory in use on a GPU, in bytes.
    fn used(&self, gpu: usize) -> u64 {
        self.sandbox.used(gpu)
    }
}

impl Drop for Desk {
    /// A holder in the background would outlive its test.
    fn drop(&mut self) {
        let _ = self.command(BALLOON).args(["release", "--all"]).output();
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn a_script_holds_until_its_job_starts() {
    let desk = Desk::new();
    desk.install("prepare-data", "gpu-balloon status prep --json >during");
    desk.install("train", "gpu-balloon status prep; echo $? >after");
    succeed(&mut desk.script("script"));
    assert!(desk.read("during").contains("\"allocated_bytes\":4294967296"), "{}", desk.read("during"));
    assert_eq!(desk.read("after"), "5\n");
    assert_eq!(desk.used(0), 0);
}

#[test]
fn a_script_that_fails_leaves_nothing_behind() {
    let desk = Desk::new();
    desk.install("prepare-data", "exit 3");
    assert_eq!(desk.script("script").status().unwrap().code(), Some(3));
    assert_eq!(desk.used(0), 0);
}

#[test]
fn a_script_goes_on_when_the_memory_is_held() {
    let desk = Desk::new();
    desk.install("prepare-data", "gpu-balloon status --json >during");
    let said = succeed(&mut desk.script("ready-fd"));
    assert_eq!(said.matches(" gpus=0 held=4294967296\n").count(), 2, "on standard output and through the pipe: {said}");
    assert!(desk.read("during").contains("\"allocated_bytes\":4294967296"));
    assert_eq!(desk.used(0), 0);
}

#[test]
fn a_script_fails_when_there_is_no_memory() {
    let desk = Desk::with_memory(4 * GB);
    desk.install("prepare-data", "touch during");
    assert!(!desk.script("ready-fd").status().unwrap().success());
    assert!(!desk.home.path().join("during").exists());
}

#[test]
fn the_unit_passes_systemds_own_check() {
    let desk = Desk::new();
    fs::write(desk.home.path().join("gpu-balloon.service"), recipe("unit")).unwrap();
    let mut verify = desk.command("systemd-analyze");
    verify.args(["--user", "verify", "./gpu-balloon.service"]).env("XDG_RUNTIME_DIR", desk.home.path());
    match verify.output() {
        Ok(output) => {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            assert!(output.status.success());
        }
        Err(error) if error.kind() == ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            println!("skipped: systemd-analyze is not installed");
        }
        Err(error) => panic!("cannot run systemd-analyze: {error}"),
    }
}

#[test]
fn the_unit_has_started_once_the_memory_is_held() {
    let desk = Desk::new();
    let manager = UnixDatagram::bind(desk.home.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let unit = recipe("unit");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let line = line.replace("%h", desk.home.path().to_str().unwrap());
    let mut words = line.split(' ');
    let mut service = desk.command(words.next().unwrap());
    let mut service = service.args(words).env("NOTIFY_SOCKET", desk.home.path().join("notify")).spawn().unwrap();
    let mut said = [0; 64];
    let length = manager.recv(&mut said).unwrap();
    assert_eq!(said[..length].trim_ascii(), b"READY=1");
    assert!(desk.used(0) >= 4 * GB);
    succeed(desk.command("kill").arg(service.id().to_string()));
    assert!(service.wait().unwrap().success(), "a stopped service has not failed");
}

#[test]
fn the_cron_entry_holds_through_the_night() {
    let desk = Desk::new();
    // The runtime directory of a user who does not exist, so that the entry never meets the tester's own balloons.
    desk.install("bin/id", "echo 4294967294");
    let entry = recipe("cron");
    let command = entry.trim_end().splitn(6, ' ').last().unwrap();
    assert!(!command.contains('%'), "cron ends a line there");
    for _ in 0..2 {
        // The second night finds the first one's balloon, should it still be there.
        succeed(desk.command("timeout").args(["60", "sh", "-c", command]));
    }
    assert!(desk.used(0) >= 11 * GB && desk.used(1) >= 11 * GB);
    succeed(desk.command(BALLOON).args(["release", "night"]));
    assert_eq!((desk.used(0), desk.used(1)), (0, 0));
}

#[test]
fn slurms_prolog_holds_for_the_job_and_its_epilog_releases() {
    let desk = Desk::new();
    if !rustix::process::geteuid().is_root() {
        desk.install("bin/runuser", "shift 3; exec \"$@\"");
    }
    let slurm = |name: &str| {
        let mut script = desk.script(name);
        let user = succeed(desk.command("id").arg("-un"));
        script.env("SLURM_JOB_ID", "77").env("SLURM_JOB_USER", user.trim_end()).env("SLURM_JOB_GPUS", "1");
        // Slurm may hide the other GPUs from the prolog.
        script.env("CUDA_VISIBLE_DEVICES", "0");
        script
    };
    succeed(&mut slurm("prolog"));
    assert!(desk.used(0) == 0 && desk.used(1) >= 11 * GB);
    succeed(&mut slurm("epilog"));
    assert_eq!(desk.used(1), 0);
    succeed(&mut slurm("epilog"));
    succeed(slurm("prolog").env_remove("SLURM_JOB_GPUS"));
}

#[test]
fn the_readmes_test_command_is_what_ci_runs_last() {
    let ci = include_str!("../../.ci/run");
    let command = ci.lines().last().unwrap();
    assert!(command.starts_with("cargo test"));
    assert!(
        include_str!("../../README.md").contains(&format!("```sh\n{command}\n```")),
        "no `{command}` in the README"
    );
}

#[test]
fn the_binary_needs_nothing_else() {
    let desk = Desk::new();
    let empty = TempDir::new().unwrap();
    // By another process: a copy that this one writes stays open for a moment in what other tests fork meanwhile.
    succeed(Command::new("cp").args([BALLOON, "gpu-balloon"]).current_dir(&empty));
    let mut alone = Command::new("./gpu-balloon");
    alone.args(["hold", "--reserve", "1GB", "--timeout", "10ms"]).current_dir(&empty).env_clear();
    // The driver is where the simulated machine has it.
    alone.envs(desk.sandbox.environment()).env("TMPDIR", desk.home.path().join("tmp"));
    assert!(succeed(&mut alone).contains(" gpus=0 held=1073741824\n"));
}
