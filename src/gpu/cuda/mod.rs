//! The CUDA driver API: the only folder that names `cudarc`.
//!
//! `cudarc` gives the types; the symbols are looked up here, because its own loader takes `libcuda.so` (on build machines
//! the toolkit's stub) before `libcuda.so.1`, panics on a symbol that an old driver lacks, and reads a newer driver's
//! unknown error code as an enum. Source of every call: <https://docs.nvidia.com/cuda/cuda-driver-api/>.
#![expect(unsafe_code, reason = "foreign calls into the driver")]

mod context;
mod device;
mod error;
mod functions;
mod handle;

use std::ffi::{CStr, OsString, c_int};
use std::ptr;
use std::sync::OnceLock;

use cudarc::driver::sys::CUresult;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

pub use context::{Chunk, Context};
pub use device::{ComputeMode, Device};
pub use error::{CallError, CudaError, DriverError};
use functions::Functions;
pub use handle::{Handle, Sharing};

use crate::units::ByteSize;

/// The driver's library, by the name that its packages install.
const LIBRARY: &str = "libcuda.so.1";

/// Device memory comes in pages of this size (`cuMemGetAllocationGranularity`, minimum, on every GPU since Maxwell).
pub const GRANULARITY: ByteSize = ByteSize::new(2 << 20);

/// The loaded and initialised driver. It lives as long as the process: its threads and exit handlers outlast any owner.
pub struct Driver {
    functions: Functions,
}

impl Driver {
    /// Loads the driver and calls `cuInit`, with `CUDA_DEVICE_ORDER` as the environment has it. Creates no context.
    pub fn load() -> Result<&'static Self, DriverError> {
        // SAFETY: loading runs the library's constructors, which is what any CUDA program does at its start.
        let library =
            unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) }.map_err(DriverError::NoLibrary)?;
        let driver = Self { functions: Functions::of(&library)? };
        std::mem::forget(library);
        // SAFETY: cuInit takes no pointer.
        let result = unsafe { (driver.functions.init)(0) };
        driver.check("cuInit", result).map_err(|CallError { error, .. }| {
            if error.is_no_device() {
                DriverError::NoGpu
            } else {
                DriverError::Init { error, library: loaded_path().unwrap_or_else(|| LIBRARY.to_owned()) }
            }
        })?;
        Ok(Box::leak(Box::new(driver)))
    }

    /// The CUDA version that the driver supports, as (major, minor).
    pub fn version(&self) -> Result<(i32, i32), CallError> {
        let mut version = 0;
        // SAFETY: the pointer is to a live integer.
        let result = unsafe { (self.functions.driver_version)(&raw mut version) };
        self.check("cuDriverGetVersion", result)?;
        Ok((version / 1000, version % 1000 / 10))
    }

    /// The visible GPUs in the order of their ordinals.
    pub fn devices(&'static self) -> Result<Vec<Device>, CallError> {
        let mut count = 0;
        // SAFETY: the pointer is to a live integer.
        let result = unsafe { (self.functions.device_count)(&raw mut count) };
        match self.check("cuDeviceGetCount", result) {
            Err(CallError { error, .. }) if error.is_no_device() => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(()) => (0..count).map(|ordinal| Device::open(self, ordinal)).collect(),
        }
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), CallError> {
        if code == CUresult::CUDA_SUCCESS as c_int {
            return Ok(());
        }
        let mut name = ptr::null();
        // SAFETY: the pointer is to a live pointer; the name is a static string of the driver.
        let result = unsafe { (self.functions.error_name)(code, &raw mut name) };
        let is_named = result == CUresult::CUDA_SUCCESS as c_int && !name.is_null();
        // SAFETY: on success the driver returns a NUL-terminated string that it never frees.
        let name = is_named.then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
        Err(CallError { call, error: CudaError::new(code, name) })
    }
}

/// The file that was loaded as the driver, as far as `/proc` tells.
fn loaded_path() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.rsplit('/').next()?.starts_with("libcuda.so").then(|| path.to_owned())
    })
}

/// Says how ordinals are ordered.
const DEVICE_ORDER: &str = "CUDA_DEVICE_ORDER";

static ORDER_AT_START: OnceLock<Option<OsString>> = OnceLock::new();

/// Makes ordinals follow the PCI bus, as nvidia-smi's indices do. Call before [`Driver::load`] and before any thread.
pub fn order_by_pci_bus() {
    let _ = ORDER_AT_START.set(std::env::var_os(DEVICE_ORDER));
    // SAFETY: `main` calls this while it is the only thread.
    unsafe { std::env::set_var(DEVICE_ORDER, "PCI_BUS_ID") };
}

/// The variable that orders the GPUs, and the caller's value of it.
pub fn order_at_start() -> (&'static str, Option<OsString>) {
    (DEVICE_ORDER, ORDER_AT_START.get().cloned().flatten())
}
