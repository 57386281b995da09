//! What wakes a waiting holder at once: changes of the line, balloons that end, and the exit of processes in the way.
//!
//! All of them are hints. Whoever is woken looks at the line and at the memory; what nobody announces, such as memory that
//! another program frees while it runs, the regular look finds.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::control::directory::RuntimeDirectory;
use crate::control::registry::REGISTRATION;
use crate::line::{DIRECTORY, FREED, TICKET};

/// The most processes that are watched at a time, so that a crowded GPU does not take all descriptors.
const MOST: usize = 64;

/// The sources; dropping it ends the watch.
#[derive(Debug, Default)]
pub struct Wakes {
    files: Option<OwnedFd>,
    exits: Vec<(u32, OwnedFd)>,
}

/// What has happened since the last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Woken {
    pub by_files: bool,
    pub by_exit: bool,
}

impl Wakes {
    /// Watches the line and the balloons of a runtime directory. Where that cannot be done, the regular look must do.
    pub fn new(directory: Option<&RuntimeDirectory>) -> Self {
        let files = directory.and_then(|directory| {
            watch(directory).inspect_err(|error| tracing::info!(%error, "changes of the line are not announced")).ok()
        });
        Self { files, exits: Vec::new() }
    }

    /// Whether the ends of balloons are announced.
    pub fn hears_balloons(&self) -> bool {
        self.files.is_some()
    }

    /// Watches these processes, and those watched so far no more. One that cannot be watched has ended, or lives where this
    /// process does not see it.
    pub fn watch_exits(&mut self, pids: &BTreeSet<u32>) {
        self.exits.retain(|(pid, _)| pids.contains(pid));
        for &pid in pids {
            let is_new = self.exits.iter().all(|(watched, _)| *watched != pid);
            if is_new
                && self.exits.len() < MOST
                && let Some(process) = Pid::from_raw(pid.cast_signed())
                && let Ok(process) = pidfd_open(process, PidfdFlags::empty())
            {
                self.exits.push((pid, process));
            }
        }
    }

    /// What to poll for reading.
    pub fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().chain(self.exits.iter().map(|(_, process)| process)).map(OwnedFd::as_fd)
    }

    /// What has happened, without waiting.
    pub fn take(&mut self) -> Woken {
        let by_files = self.files.as_ref().is_some_and(has_news);
        let watched = self.exits.len();
        self.exits.retain(|(_, process)| !is_readable(process));
        Woken { by_files, by_exit: self.exits.len() < watched }
    }
}

impl Drop for Wakes {
    /// The kernel takes some 20 ms to end a watch (fsnotify waits for a grace period), which nobody should wait for.
    fn drop(&mut self) {
        if let Some(files) = self.files.take() {
            // Without a thread to be had, dropping the closure closes it here.
            let _ = std::thread::Builder::new().name("watch-end".to_owned()).spawn(move || drop(files));
        }
    }
}

/// Closing is what the kernel does for a killed process too: its ticket, or its registration, was open for writing.
fn watch(directory: &RuntimeDirectory) -> rustix::io::Result<OwnedFd> {
    let files = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for name in [".", DIRECTORY] {
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::DELETE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&files, directory.short_path(name), events)?;
    }
    Ok(files)
}

/// Reads all events. Only some files matter: passing the turnstile alone is no news.
fn has_news(files: &OwnedFd) -> bool {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(files, &mut space);
    let mut has_news = false;
    while let Ok(event) = reader.next() {
        let name = event.file_name().map(|name| name.to_string_lossy());
        // Without a name: events were lost.
        has_news |= name.is_none_or(|name| name.ends_with(TICKET) || name.ends_with(REGISTRATION) || name == FREED);
    }
    has_news
}

fn is_readable(fd: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::line::tests::line;

    const FILES: Woken = Woken { by_files: true, by_exit: false };
    const NOTHING: Woken = Woken { by_files: false, by_exit: false };

    #[test]
    fn changes_of_the_line_wake_and_passing_the_turnstile_does_not() {
        let lane = line();
        let mut wakes = Wakes::new(Some(&lane.line.directory));
        assert_eq!(wakes.take(), NOTHING);
        let mut place = lane.join("one");
        assert_eq!(wakes.take(), FILES);
        place.amend_alone(|_, _, _| None::<((), fn(&mut crate::line::policy::Ticket))>).unwrap();
        assert_eq!(wakes.take(), NOTHING);
        drop(place);
        assert_eq!(wakes.take(), FILES);
        crate::line::Line::announce(&lane.line.directory);
        assert_eq!(wakes.take(), FILES);
        fs::write(lane.line.directory.short_path("4242.log"), "said").unwrap();
        assert_eq!(wakes.take(), NOTHING);
    }

    #[test]
    fn the_end_of_a_process_wakes_once() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut wakes = Wakes::default();
        wakes.watch_exits(&BTreeSet::from([child.id()]));
        assert_eq!(wakes.take(), NOTHING);
        drop(child.stdin.take());
        let fds: Vec<_> = wakes.watched().collect();
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        assert_eq!(poll(&mut polled, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })), Ok(1));
        assert_eq!([wakes.take(), wakes.take()], [Woken { by_files: false, by_exit: true }, NOTHING]);
        child.wait().unwrap();
    }
}
