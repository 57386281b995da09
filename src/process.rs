//! What the system tells about a process: whose it is, its command line, when it started.
//!
//! Other users choose these texts; here they lose what could harm a terminal.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{Uid, User};

use crate::untrusted::printable;

/// How many characters of a command line go into a message.
const LONGEST: usize = 80;

/// A process as far as the system shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    pub user: Option<String>,
    /// The whole command line.
    pub command: Option<String>,
    /// The name of the program, at most 15 bytes of it.
    pub program: Option<String>,
    pub started_at: Option<SystemTime>,
    /// Whether it is this user's.
    pub is_own: bool,
}

/// Looks processes up, and each user's name once.
#[derive(Debug, Default)]
pub struct Processes {
    users: BTreeMap<u32, String>,
}

impl Processes {
    /// Nothing is known of a process that has ended or that is hidden from this user.
    pub fn look_up(&mut self, pid: u32) -> Process {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let program = field(&status, "Name:").map(printable);
        // A zombie and a thread of the kernel have no command line.
        let command = Some(command_line(&read("cmdline"))).filter(|line| !line.is_empty());
        let uid = field(&status, "Uid:").and_then(first_number);
        Process {
            user: uid.map(|uid| self.user(uid)),
            command: command.or_else(|| program.clone()),
            program,
            started_at: started_at(&String::from_utf8_lossy(&read("stat"))),
            is_own: uid == Some(nix::unistd::getuid().as_raw()),
        }
    }

    /// The name of a user, or the number where the system knows no name.
    pub fn user(&mut self, uid: u32) -> String {
        let name = || match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => printable(&user.name),
            _ => uid.to_string(),
        };
        self.users.entry(uid).or_insert_with(name).clone()
    }
}

/// A suffix that tells whose process this is and what it runs: ` (alice: python train.py)`. Empty if nothing is known.
pub fn describe(pid: u32) -> String {
    let process = Processes::default().look_up(pid);
    let command = process.command.map(|command| match command.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &command[..end]),
        None => command,
    });
    match (process.user, command) {
        (Some(user), Some(command)) => format!(" ({user}: {command})"),
        (Some(one), None) | (None, Some(one)) => format!(" ({one})"),
        (None, None) => String::new(),
    }
}

fn command_line(words: &[u8]) -> String {
    let words = words.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    printable(&words.collect::<Vec<_>>().join(" "))
}

/// What follows `key` in a file such as `/proc/PID/status`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn first_number(text: &str) -> Option<u32> {
    text.split_whitespace().next()?.parse().ok()
}

/// The time in field 22 of `/proc/PID/stat`, which counts clock ticks since the boot.
fn started_at(stat: &str) -> Option<SystemTime> {
    // The second field is the program's name in parentheses, and may contain any character.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = field(&system, "btime ")?.parse().ok()?;
    let seconds = ticks.checked_div(rustix::param::clock_ticks_per_second())?;
    UNIX_EPOCH.checked_add(Duration::from_secs(boot.checked_add(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let process = Processes::default().look_up(std::process::id());
        assert_eq!(process.user, Some(Processes::default().user(nix::unistd::getuid().as_raw())));
        assert!(process.command.is_some_and(|command| command.contains("gpu_balloon")));
        let age = process.started_at.and_then(|start| start.elapsed().ok());
        assert!(age.is_some_and(|age| age < Duration::from_secs(3600)), "{age:?}");
    }

    #[test]
    fn nothing_is_known_of_a_process_that_is_not_there() {
        // Above the largest pid that Linux allows.
        assert_eq!(Processes::default().look_up(1 << 23), Process::default());
        assert_eq!(describe(1 << 23), "");
    }

    #[test]
    fn a_command_line_does_not_reach_the_terminal_raw() {
        assert_eq!(command_line(b"python\0-c\0print(1)\nprint(2)\0"), "python -c print(1) print(2)");
        assert_eq!(command_line(b"\x1b[2Jcat\x07\0\xc2\x9b31m\0\xe2\x80\xaeevil"), "[2Jcat 31m evil");
        assert_eq!(command_line(b"\xff\xfe\0"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_program_named_like_the_end_of_a_field_is_read_past() {
        let mut fields = vec!["0"; 40];
        fields[19] = "500";
        let stat = format!("1 (a) b) S 1) S {}", fields[1..].join(" "));
        assert!(started_at(&stat).is_some());
        assert_eq!(started_at("1 (a"), None);
    }
}
