//! What this process has of the driver.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use gpu_sim_state::{Process, State};

use crate::abi::Result;
use crate::arena::Arena;
use crate::context::Context;
use crate::errors::CudaError;
use crate::handles::Handles;
use crate::pool::Pool;
use crate::primary::Primary;
use crate::visible;
use crate::vmm::Vmm;

static DRIVER: OnceLock<Driver> = OnceLock::new();

/// The initialised driver.
pub(crate) struct Driver {
    pub process: &'static Process,
    /// The GPUs that CUDA shows, by ordinal, as indices into the machine.
    pub visible: Vec<usize>,
    /// By ordinal.
    pub devices: Vec<Device>,
    pub contexts: Mutex<HashMap<usize, Arc<Context>>>,
    pub pools: Mutex<HashMap<usize, Arc<Pool>>>,
    pub vmm: Mutex<Vmm>,
    pub handles: Handles,
    next_handle: AtomicUsize,
}

/// What this process has on one GPU.
pub(crate) struct Device {
    pub ordinal: i32,
    pub gpu: usize,
    pub arena: Mutex<Arena>,
    pub primary: Mutex<Primary>,
    pub default_pool: Arc<Pool>,
    /// The one that `cuMemAllocAsync` takes from.
    pub pool: Mutex<Arc<Pool>>,
}

thread_local! {
    /// The contexts that were pushed on this thread; the last is current.
    pub(crate) static STACK: RefCell<Vec<Arc<Context>>> = const { RefCell::new(Vec::new()) };
}

/// Locks what no panic can leave half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut driver = Self {
            process,
            visible,
            devices: Vec::new(),
            contexts: Mutex::default(),
            pools: Mutex::default(),
            vmm: Mutex::default(),
            handles: Handles::default(),
            next_handle: AtomicUsize::new(0x5100_0000),
        };
        let devices = (0..).zip(&driver.visible).map(|(ordinal, &gpu)| Device::new(&driver, ordinal, gpu));
        driver.devices = devices.collect();
        let pools = driver.devices.iter().map(|device| (device.default_pool.handle, device.default_pool.clone()));
        lock(&driver.pools).extend(pools);
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

impl Device {
    fn new(driver: &Driver, ordinal: i32, gpu: usize) -> Self {
        let default_pool = Pool::new(driver, ordinal, true);
        Self {
            ordinal,
            gpu,
            arena: Mutex::new(Arena::new(gpu)),
            primary: Mutex::new(Primary::new(driver.new_handle())),
            pool: Mutex::new(default_pool.clone()),
            default_pool,
        }
    }
}
