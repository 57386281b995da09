//! A process under test: started, listened to, waited for with a deadline, and ended with its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Far beyond what anything here takes, so that only a wedged program reaches it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What a process came to.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Its exit code; 128 + n where signal n killed it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails the test, with everything that was said, unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless standard error has all of these.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in: {}", self.stderr);
        }
        self
    }

    /// Fails the test if anything is on standard error.
    #[track_caller]
    pub fn says_nothing(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }
}

/// A running process. Dropping it kills it.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts it with all three streams as pipes.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command, |command| command)
    }

    /// Starts it with those streams as pipes that `redirect` gives no other way.
    #[track_caller]
    pub fn start_with(command: &mut Command, redirect: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = redirect(command).spawn().expect("it starts");
        let (tell, lines) = channel();
        if let Some(stdout) = child.stdout.take().map(BufReader::new) {
            std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        }
        let stderr = child.stderr.take().map(|stderr| std::thread::spawn(move || read_all(stderr)));
        Self { stdin: child.stdin.take(), child, lines, seen: Vec::new(), stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on its standard output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(RecvTimeoutError::Timeout) => panic!("no line after {DEADLINE:?}; so far: {:?}", self.seen),
            Err(RecvTimeoutError::Disconnected) => {
                let ended = self.wait();
                panic!("no line, it ended with {}: {}", ended.code(), ended.stderr)
            }
        }
    }

    /// The next line, if there is one within this time.
    pub fn line_within(&mut self, time: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(time).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Whether it has said nothing since, and runs.
    pub fn is_silent(&mut self) -> bool {
        self.lines.try_recv().is_err() && self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("stdin is open"), "{line}").expect("it listens");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end and returns all it said.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        let deadline = Instant::now() + DEADLINE;
        // A child that was reaped already has no pidfd, and nothing to wait for.
        if let Ok(pidfd) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
            assert_eq!(ready, Ok(1), "it does not end");
        }
        let status = self.child.wait().expect("it is ours");
        self.seen.extend(self.lines.iter());
        let stderr = self.stderr.take().map(|reader| reader.join().unwrap()).unwrap_or_default();
        let stdout = self.seen.iter().map(|line| format!("{line}\n")).collect();
        Ended { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stream: ChildStderr) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
