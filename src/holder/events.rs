//! Everything that can happen to a holder, one at a time. The loop sleeps in `poll(2)` with no timeout unless something
//! has a deadline, so that an idle holder never wakes up.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::control::server::{Asker, Server};
use crate::control::wire::{Answer, Request};
use crate::holder::orders::Report;
use crate::holder::reports::Inbox;
use crate::job::Job;
use crate::line::{Wakes, Woken};
use crate::signals::{Received, Signals};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    Signal(Received),
    Report(usize, Report),
    Request(Asker, Request),
    /// The process of `--until-exit` has ended.
    Exited,
    /// The wrapped job has ended.
    JobEnded,
    /// The line, or a process in the way, has moved; see [`Events::wakes`].
    Woken(Woken),
    /// The deadline given to [`Events::next`] has come.
    Deadline,
}

/// The sources of events.
pub struct Events {
    pub signals: Signals,
    inbox: Inbox,
    server: Option<Server>,
    /// The process of `--until-exit`, until its end is told.
    outlived: Option<OwnedFd>,
    /// The wrapped job, which gets the signals while it runs.
    pub job: Option<Job>,
    has_job_to_tell: bool,
    /// What a holder in line is woken by.
    pub wakes: Option<Wakes>,
    queue: VecDeque<Event>,
}

impl Events {
    /// Reports [`Event::Exited`] once `outlived` (a pidfd) has ended.
    pub fn new(signals: Signals, inbox: Inbox, server: Option<Server>, outlived: Option<OwnedFd>) -> Self {
        Self {
            signals,
            inbox,
            server,
            outlived,
            job: None,
            has_job_to_tell: false,
            wakes: None,
            queue: VecDeque::new(),
        }
    }

    /// Reports [`Event::JobEnded`] once `job` has ended. Until then signals are the job's: they are passed on and are no events.
    pub fn attend(&mut self, job: Job) {
        self.job = Some(job);
        self.has_job_to_tell = true;
    }

    pub fn answer(&mut self, asker: Asker, answer: Answer) {
        if let Some(server) = &mut self.server {
            server.answer(asker, answer);
        }
    }

    /// Waits for the next event, or for `deadline`.
    ///
    /// # Errors
    /// `poll(2)` failed, which it does only for want of memory.
    pub fn next(&mut self, deadline: Option<Instant>) -> io::Result<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let until = [deadline, self.server.as_ref().and_then(Server::deadline)].into_iter().flatten().min();
            self.wait(until)?;
            self.collect();
            if self.queue.is_empty() && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Event::Deadline);
            }
        }
    }

    fn outlived(&self) -> Option<BorrowedFd<'_>> {
        self.outlived.as_ref().map(OwnedFd::as_fd)
    }

    fn job_to_tell(&self) -> Option<BorrowedFd<'_>> {
        self.job.as_ref().filter(|_| self.has_job_to_tell).map(Job::as_fd)
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<()> {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        let mut watched: Vec<(BorrowedFd<'_>, PollFlags)> =
            vec![(self.signals.as_fd(), PollFlags::IN), (self.inbox.as_fd(), PollFlags::IN)];
        watched.extend(self.outlived().into_iter().chain(self.job_to_tell()).map(|process| (process, PollFlags::IN)));
        watched.extend(self.server.iter().flat_map(Server::watched));
        watched.extend(self.wakes.iter().flat_map(Wakes::watched).map(|fd| (fd, PollFlags::IN)));
        let mut polled: Vec<PollFd<'_>> =
            watched.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn collect(&mut self) {
        for received in self.signals.read() {
            if !self.job.as_mut().is_some_and(|job| job.takes(&received, &mut self.signals)) {
                self.queue.push_back(Event::Signal(received));
            }
        }
        self.inbox.clear();
        while let Some((index, report)) = self.inbox.next() {
            self.queue.push_back(Event::Report(index, report));
        }
        if self.outlived().is_some_and(has_exited) {
            self.outlived = None;
            self.queue.push_back(Event::Exited);
        }
        if self.job_to_tell().is_some_and(has_exited) {
            self.has_job_to_tell = false;
            self.queue.push_back(Event::JobEnded);
        }
        let woken = self.wakes.as_mut().map(Wakes::take).unwrap_or_default();
        if woken != Woken::default() {
            self.queue.push_back(Event::Woken(woken));
        }
        if let Some(server) = &mut self.server {
            self.queue.extend(server.turn().into_iter().map(|(asker, request)| Event::Request(asker, request)));
        }
    }
}

/// A descriptor for the process with this pid, whoever owns it; it never comes to mean a later process.
///
/// # Errors
/// There is no such process, or it has ended and only waits for its parent.
pub fn process(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    if has_exited(process.as_fd()) { Err(rustix::io::Errno::SRCH.into()) } else { Ok(process) }
}

fn has_exited(process: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(process, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
