//! Another user on the machine, where the tests may become one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::{Machine, PROGRAM};

/// A user without rights: `nobody` nearly everywhere.
pub const NOBODY: u32 = 65534;

/// The machine as [`NOBODY`] uses it.
pub struct Unprivileged<'a> {
    machine: &'a Machine,
}

/// A command run by [`NOBODY`]; none where the tests are not root's.
pub fn unprivileged(program: &str) -> Option<Command> {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    rustix::process::geteuid().is_root().then_some(command)
}

/// Says that a test could not be made here.
pub fn skipped(why: &str) {
    // Past the test runner, which keeps what a test that passes has printed.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

impl Machine {
    /// Opens the machine to [`NOBODY`]; none where the tests are not root's, or where nobody cannot reach the program.
    pub fn unprivileged(&self) -> Option<Unprivileged<'_>> {
        let mut probe = unprivileged(PROGRAM)?;
        probe.arg("--version").stdout(std::process::Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            return None;
        }
        open_to_all(self.directory());
        // Like /tmp.
        fs::set_permissions(self.runtime(), fs::Permissions::from_mode(0o1777)).unwrap();
        Some(Unprivileged { machine: self })
    }
}

impl Unprivileged<'_> {
    /// `gpu-balloon` with these words as arguments. It has no `$XDG_RUNTIME_DIR`, like a user that has not logged in.
    pub fn program(&self, line: &str) -> Command {
        let mut command = self.machine.program(line);
        command.env_remove("XDG_RUNTIME_DIR").uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    }
}

fn open_to_all(path: &Path) {
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    let is_library = path.extension().is_some_and(|extension| extension == "1");
    fs::set_permissions(path, fs::Permissions::from_mode(if is_library { 0o777 } else { mode })).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_all(&entry.unwrap().path()));
    }
}
