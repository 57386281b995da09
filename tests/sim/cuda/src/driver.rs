//! What this process has of the driver, and the ways into it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use gpu_sim_state::{ClientKind, Family, Function, Process, State};

use crate::abi::Result;
use crate::arena::Arena;
use crate::context::Context;
use crate::errors::CudaError;
use crate::primary::Primary;
use crate::visible;

static DRIVER: OnceLock<Driver> = OnceLock::new();

/// The initialised driver.
pub(crate) struct Driver {
    pub process: &'static Process,
    /// The GPUs that CUDA shows, by ordinal, as indices into the machine.
    pub visible: Vec<usize>,
    /// By ordinal.
    pub devices: Vec<Device>,
    pub contexts: Mutex<HashMap<usize, Arc<Context>>>,
    next_handle: AtomicUsize,
}

/// What this process has on one GPU.
pub(crate) struct Device {
    pub ordinal: i32,
    pub gpu: usize,
    pub arena: Mutex<Arena>,
    pub primary: Mutex<Primary>,
}

thread_local! {
    /// The contexts that were pushed on this thread; the last is current.
    pub(crate) static STACK: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
}

/// Locks what no panic can leave half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process's place in the machine, where the call has been counted and let in.
fn enter(function: &Function, family: Family) -> Result<&'static Process> {
    // Without a machine there is no GPU, which only cuInit tells.
    let process = Process::get(ClientKind::Cuda).map_err(|_| CudaError::NO_DEVICE)?;
    process.enter(function, family).map_err(CudaError)?;
    match process.state.is_stub.load(Relaxed) {
        0 => Ok(process),
        _ => Err(CudaError::STUB_LIBRARY),
    }
}

impl Driver {
    pub fn init(process: &'static Process) -> Result {
        if DRIVER.get().is_some() {
            return Self::get(process).map(|_| ());
        }
        let visible = visible::gpus(&process.state);
        if visible.is_empty() {
            return Err(CudaError::NO_DEVICE);
        }
        let next_handle = AtomicUsize::new(0x5100_0000);
        let contexts = Mutex::new(HashMap::new());
        let mut driver = Self { process, visible, devices: Vec::new(), contexts, next_handle };
        driver.devices = (0..)
            .zip(&driver.visible)
            .map(|(ordinal, &gpu)| Device {
                ordinal,
                gpu,
                arena: Mutex::new(Arena::new(gpu)),
                primary: Mutex::new(Primary::new(driver.new_handle())),
            })
            .collect();
        let _ = DRIVER.set(driver);
        Ok(())
    }

    /// The driver belongs to the process that initialised it: a forked child has none, and gets none.
    pub fn get(process: &Process) -> Result<&'static Self> {
        DRIVER.get().filter(|driver| std::ptr::eq(driver.process, process)).ok_or(CudaError::NOT_INITIALIZED)
    }

    pub fn new_handle(&self) -> usize {
        self.next_handle.fetch_add(0x40, Relaxed)
    }

    pub fn state(&self) -> &State {
        &self.process.state
    }

    pub fn device(&self, ordinal: i32) -> Result<&Device> {
        usize::try_from(ordinal).ok().and_then(|ordinal| self.devices.get(ordinal)).ok_or(CudaError::INVALID_DEVICE)
    }

    /// Refuses a GPU that is gone.
    pub fn present(&self, gpu: usize) -> Result {
        match self.state().gpus[gpu].is_lost.load(Relaxed) {
            0 => Ok(()),
            error => Err(CudaError(error as i32)),
        }
    }
}

/// Calls that need no initialised driver.
pub(crate) mod always {
    use super::*;

    pub type Given<'a> = &'static Process;

    pub fn call(function: &Function, family: Family, body: impl FnOnce(Given<'_>) -> Result) -> Result {
        body(enter(function, family)?)
    }
}

/// Calls that need `cuInit`.
pub(crate) mod driver {
    use super::*;

    pub type Given<'a> = &'static Driver;

    pub fn call(function: &Function, family: Family, body: impl FnOnce(Given<'_>) -> Result) -> Result {
        body(Driver::get(enter(function, family)?)?)
    }
}

/// Calls that need a current context.
pub(crate) mod context {
    use super::*;

    pub type Given<'a> = &'a Arc<Context>;

    pub fn call(function: &Function, family: Family, body: impl FnOnce(Given<'_>) -> Result) -> Result {
        Driver::get(enter(function, family)?)?;
        let context = Context::current().ok_or(CudaError::INVALID_CONTEXT)?;
        context.check()?;
        body(&context)
    }
}
