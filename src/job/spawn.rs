//! Starting CMD with everything as our caller set it up: group, terminal, streams, directory, signal mask, ignored signals,
//! descriptors. Only the named changes to the environment are ours.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal};

use super::{Inherited, Job, streams};
use crate::signals::{self, Reach, SignalSet, Signals};

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A path, or a name to look up in `PATH` as execvp(3) does.
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Changes to our environment: set, or with `None` removed.
    pub environment: Vec<(OsString, Option<OsString>)>,
    /// For its standard output and standard error, where it does not have ours.
    pub output: Option<[Arc<File>; 2]>,
    /// What CMD keeps open.
    pub descriptors: Inherited,
}

/// Why CMD did not start. Each names the exit code that `env` and `timeout` have for it.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// 127: no such program.
    #[error("{} not found", program.display())]
    NotFound {
        program: OsString,
        #[source]
        why: io::Error,
    },
    /// 126: found, but the system refuses to run it.
    #[error("cannot execute {}", program.display())]
    CannotExecute {
        program: OsString,
        #[source]
        why: io::Error,
    },
    /// 125: not CMD's fault: no process or descriptor to be had.
    #[error("cannot start a process for {}", program.display())]
    Failed {
        program: OsString,
        #[source]
        why: io::Error,
    },
}

impl Job {
    /// Starts CMD, which gets SIGTERM as soon as the calling thread dies: call it from the main thread. Returns once CMD's
    /// program is loaded; it has then been told of all signals that it should know of.
    pub fn spawn(spec: &Spec, signals: &mut Signals) -> Result<Self, SpawnError> {
        let mut command = Command::new(&spec.program);
        command.args(&spec.arguments);
        for (name, value) in &spec.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let failed = |why: io::Error| SpawnError::of_exec(spec.program.clone(), why);
        if let Some([output, errors]) = &spec.output {
            command.stdout(output.try_clone().map_err(failed)?).stderr(errors.try_clone().map_err(failed)?);
        }
        signals.has_job();
        let (mask, ignored) = signals.at_start();
        let (descriptors, parent, witness) = (spec.descriptors.clone(), getpid(), signals.witness());
        // SAFETY: the closure makes system calls only: no allocation, no lock.
        unsafe { command.pre_exec(move || become_cmd(&descriptors, parent, &mask, ignored, witness)) };
        // Where pidfds are unknown (before Linux 5.3) fail while there is nothing to clean up.
        pidfd_open(parent, PidfdFlags::empty())
            .map_err(|why| SpawnError::Failed { program: spec.program.clone(), why: why.into() })?;
        let mut child = command.spawn().map_err(failed)?;
        let pid = Pid::from_child(&child);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(why) => {
                // Nobody could watch it. Both can fail only because it has ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                return Err(SpawnError::Failed { program: spec.program.clone(), why: why.into() });
            }
        };
        streams::let_go();
        let mut job = Self { pid, pidfd, end: None };
        let received = signals.read();
        // Kept from CMD while it was being loaded. If it has stopped, it has been told again since.
        let stop = received.iter().find(|one| one.signal == libc::SIGTSTP && one.reach == Reach::Group);
        if stop.is_some() && !signals::is_stopped(job.id()) {
            let _ = job.signal(libc::SIGTSTP);
        }
        for one in received {
            job.takes(&one, signals);
        }
        Ok(job)
    }
}

/// The last steps of the child before CMD takes its place.
fn become_cmd(
    descriptors: &Inherited,
    parent: Pid,
    mask: &libc::sigset_t,
    ignored: SignalSet,
    witness: Option<u32>,
) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid() != Some(parent) {
        // It died before the line above could tell the kernel.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    descriptors.close_others_on_exec();
    for signal in SignalSet::NUMBERS {
        let disposition = if ignored.contains(signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        signals::set_disposition(signal, disposition);
    }
    if let Some(witness) = witness {
        signals::make_up_for(witness);
    }
    signals::set_mask(libc::SIG_SETMASK, mask)?;
    Ok(())
}

impl SpawnError {
    /// What exec(2) says.
    pub(super) fn of_exec(program: OsString, why: io::Error) -> Self {
        match why.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound { program, why },
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) | None => Self::Failed { program, why },
            Some(_) => Self::CannotExecute { program, why },
        }
    }
}
