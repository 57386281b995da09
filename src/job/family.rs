//! Who belongs to CMD: its living descendants, also those that it left behind and that have another parent by now. Found
//! in `/proc` when asked; nothing is tracked meanwhile. (Being a "subreaper" would show orphans too, but it changes their
//! parent under them and makes reaping them our duty.)

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::Job;

/// A variable that only this job has in its environment, set through [`super::Spec`]; descendants inherit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub name: OsString,
    pub value: OsString,
}

/// A living process of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    pub pid: u32,
    /// Its name as the kernel has it, at most 15 bytes (proc(5), `comm`).
    pub name: String,
}

/// Who belongs to a job, for a thread that has no [`Job`].
#[derive(Debug, Clone)]
pub struct Kin {
    /// CMD's pid, as long as it runs.
    pub root: u32,
    pub mark: Mark,
}

impl Kin {
    /// Whether a process is CMD or descends from it, as [`Job::family`] finds out.
    pub fn includes(&self, pid: u32) -> bool {
        let entry = self.mark.entry();
        let mut next = Some(pid);
        while let Some(pid) = next.filter(|pid| *pid > 1) {
            if pid == self.root {
                return true;
            }
            match read(pid, &entry) {
                Some(process) if process.is_marked => return true,
                process => next = process.map(|process| process.parent),
            }
        }
        false
    }
}

impl Mark {
    /// As it stands in an environment.
    fn entry(&self) -> Vec<u8> {
        [self.name.as_bytes(), b"=", self.value.as_bytes()].concat()
    }
}

struct Process {
    pid: u32,
    parent: u32,
    is_marked: bool,
    /// Shows no environment: it has none, or is in the middle of execve(2).
    is_bare: bool,
    name: String,
}

impl Job {
    /// CMD's living descendants, CMD not among them, by pid. Ask before or after its end. A process that left CMD's tree and
    /// wiped its environment is missed, as is everything of other users.
    pub fn family(&self, mark: &Mark) -> Vec<Relative> {
        let processes = living(&mark.entry());
        let mut members: HashSet<u32> = processes.iter().filter(|p| p.is_marked).map(|p| p.pid).collect();
        if self.end.is_none() {
            // Later the pid may be anyone's.
            members.insert(self.id());
        }
        loop {
            let known = members.len();
            let born: Vec<_> = processes.iter().filter(|p| members.contains(&p.parent)).map(|p| p.pid).collect();
            members.extend(born);
            if members.len() == known {
                break;
            }
        }
        members.remove(&self.id());
        let mut family: Vec<_> = processes
            .into_iter()
            .filter(|process| members.contains(&process.pid))
            .map(|process| Relative { pid: process.pid, name: process.name })
            .collect();
        family.sort_unstable_by_key(|relative| relative.pid);
        family
    }
}

/// How long a process may be between two programs, and how often it is looked at again.
const BETWEEN_PROGRAMS: Duration = Duration::from_millis(5);
const LOOKS: u32 = 4;

/// Their parent, `kthreadd`. They have no environment.
const KERNEL_THREADS: u32 = 2;

/// Everything alive in `/proc`; a process that ends meanwhile is left out.
fn living(entry: &[u8]) -> Vec<Process> {
    let Ok(directory) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut processes: Vec<Process> = pids.filter_map(|pid| read(pid, entry)).collect();
    for _ in 0..LOOKS {
        if !processes.iter().any(|process| process.is_bare) {
            break;
        }
        std::thread::sleep(BETWEEN_PROGRAMS);
        processes = processes
            .into_iter()
            .filter_map(|process| if process.is_bare { read(process.pid, entry) } else { Some(process) })
            .collect();
    }
    processes
}

fn read(pid: u32, entry: &[u8]) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (name, state, parent) = parse_stat(&String::from_utf8_lossy(&stat))?;
    // Zombies and the dead hold nothing.
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let environment = fs::read(format!("/proc/{pid}/environ"));
    let is_bare = environment.as_ref().is_ok_and(Vec::is_empty) && ![pid, parent].contains(&KERNEL_THREADS);
    let environment = environment.unwrap_or_default();
    let is_marked = environment.split(|byte| *byte == 0).any(|variable| variable == entry);
    Some(Process { pid, parent, is_marked, is_bare, name })
}

/// Name, state and parent out of `/proc/PID/stat`. The name is in parentheses and may hold any character, these too.
fn parse_stat(stat: &str) -> Option<(String, char, u32)> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((name.to_owned(), state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn a_name_may_look_like_anything() {
        assert_eq!(parse_stat("12 (a) S (b) R 7 12 12 0"), Some(("a) S (b".to_owned(), 'R', 7)));
        assert_eq!(parse_stat("12 (sh) Z 1 12"), Some(("sh".to_owned(), 'Z', 1)));
        assert_eq!(parse_stat(""), None);
    }
}
