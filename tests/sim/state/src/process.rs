//! A library's place in the machine: taken at the first call, and anew in a forked child.

use std::io;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, Once, PoisonError};

use crate::clients::{Client, ClientKind};
use crate::faults::Family;
use crate::map::State;
use crate::names::Function;

pub struct Process {
    pub state: State,
    pub client: Client,
}

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

impl Process {
    /// This process's own, for the library that asks. A child's is another than its parent's.
    pub fn get(kind: ClientKind) -> io::Result<&'static Self> {
        static JOINING: Mutex<()> = Mutex::new(());
        static WATCH_FORKS: Once = Once::new();
        if let Some(process) = joined() {
            return Ok(process);
        }
        let _joining = JOINING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = joined() {
            return Ok(process);
        }
        // SAFETY: the handler only stores to an atomic.
        WATCH_FORKS.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(forget));
        });
        let state = State::from_environment()?;
        let client = state.join(kind)?;
        // Never freed: the library may be called from any thread until the process is gone.
        let process = Box::leak(Box::new(Self { state, client }));
        PROCESS.store(process, Release);
        Ok(process)
    }

    /// Every call begins here.
    pub fn enter(&self, function: &Function, family: Family) -> Result<(), i32> {
        self.state.enter(self.client, function, family)
    }
}

fn joined() -> Option<&'static Process> {
    // SAFETY: the pointer is null or to a leaked box.
    unsafe { PROCESS.load(Acquire).as_ref() }
}

extern "C" fn forget() {
    PROCESS.store(ptr::null_mut(), Release);
}
