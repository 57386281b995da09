//! A session on a terminal: what a person would type and see.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use super::DEADLINE;

/// A terminal, and the session on it, which ends with the value.
pub struct Session {
    keyboard: Option<OwnedFd>,
    screen: Arc<Screen>,
    reader: Option<Reader>,
    session: Child,
}

/// Shows what comes. It has to let go of the terminal before that can hang up.
struct Reader {
    stop: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Screen {
    shown: Mutex<Shown>,
    changed: Condvar,
}

#[derive(Default)]
struct Shown {
    text: String,
    /// How much of it has been expected.
    seen: usize,
    is_gone: bool,
}

impl Session {
    /// Starts `command` as the leader of a session on a new terminal, with its standard streams there unless it says
    /// otherwise by `streams`.
    #[track_caller]
    pub fn start(command: &Command, streams: impl FnOnce(&mut Command)) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let end = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        // Or what is said in answer to a key could be lost with what was typed before it.
        let mut modes = tcgetattr(&end).unwrap();
        modes.local_modes |= LocalModes::NOFLSH;
        tcsetattr(&end, OptionalActions::Now, &modes).unwrap();
        tcsetwinsize(&end, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // Makes its standard input the controlling terminal of a new session, then becomes the command.
        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(command.get_program()).args(command.get_args()).env("TERM", "dumb");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.stdin(end.try_clone().unwrap()).stdout(end.try_clone().unwrap()).stderr(end);
        streams(&mut leader);
        let session = leader.spawn().unwrap();
        drop(leader);
        let screen = Arc::new(Screen::default());
        let reader = Reader::start(File::from(keyboard.try_clone().unwrap()), Arc::clone(&screen));
        Self { keyboard: Some(keyboard), screen, reader: Some(reader), session }
    }

    /// A shell with job control, whose prompt is `$ `, on `machine`'s environment.
    #[track_caller]
    pub fn shell(command: &Command) -> Self {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-i"])
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bash.env("PS1", "$ ");
        let mut shell = Self::start(&bash, |_| {});
        shell.expect("$ ");
        shell
    }

    pub fn pid(&self) -> u32 {
        self.session.id()
    }

    pub fn types(&mut self, text: &str) {
        let keyboard = self.keyboard.as_ref().expect("the terminal is there");
        let mut keyboard = File::from(keyboard.try_clone().unwrap());
        keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen, behind what was expected last.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut shown = self.screen.shown.lock().unwrap();
        loop {
            if let Some(at) = shown.text[shown.seen..].find(text) {
                shown.seen += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !shown.is_gone,
                "no `{text}` after `{}`: {}",
                &shown.text[..shown.seen],
                &shown.text[shown.seen..]
            );
            shown = self.screen.changed.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// What is on the screen behind what was expected last.
    pub fn rest(&self) -> String {
        let shown = self.screen.shown.lock().unwrap();
        shown.text[shown.seen..].to_owned()
    }

    pub fn resize(&self, columns: u16) {
        let keyboard = self.keyboard.as_ref().expect("the terminal is there").as_fd();
        tcsetwinsize(keyboard, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Takes the terminal away, as a lost connection does.
    pub fn hang_up(&mut self) {
        self.keyboard = None;
        if let Some(reader) = self.reader.take() {
            rustix::io::write(&*reader.stop, &1_u64.to_ne_bytes()).unwrap();
            reader.thread.join().unwrap();
        }
    }

    /// Waits for the end of the session's leader.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let pidfd = pidfd_open(Pid::from_child(&self.session), PidfdFlags::empty()).unwrap();
        let timeout = Timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
        assert_eq!(ended, Ok(1), "it does not end: {}", self.rest());
        self.session.wait().unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hang_up();
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}

impl Reader {
    fn start(mut terminal: File, screen: Arc<Screen>) -> Self {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut part = [0; 1024];
            loop {
                let mut polled = [PollFd::new(&terminal, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                poll(&mut polled, None).unwrap();
                if !polled[1].revents().is_empty() {
                    return;
                }
                // An error says that nobody has the terminal open any more.
                let Ok(length @ 1..) = terminal.read(&mut part) else { return screen.go() };
                screen.show(&part[..length]);
            }
        });
        Self { stop, thread }
    }
}

impl Screen {
    fn show(&self, part: &[u8]) {
        self.shown.lock().unwrap().text.push_str(&String::from_utf8_lossy(part));
        self.changed.notify_all();
    }

    fn go(&self) {
        self.shown.lock().unwrap().is_gone = true;
        self.changed.notify_all();
    }
}
