//! The driver's errors, with the driver's own names for them.

use std::ffi::c_int;
use std::fmt;

use cudarc::driver::sys::CUresult;

use super::LIBRARY;

/// `CUDA_ERROR_DEVICE_UNAVAILABLE`, which the types of this CUDA version do not have yet.
const DEVICE_UNAVAILABLE: c_int = 46;

/// No code of CUDA's, which are all positive.
const NOT_CUDA: c_int = -1;

/// The call that makes a context.
pub(super) const RETAIN: &str = "cuDevicePrimaryCtxRetain";

/// Stands for the call where NVML was asked.
const NVML: &str = "NVML";

/// Why the driver cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("{LIBRARY} cannot be loaded")]
    NoLibrary(#[source] libloading::Error),
    #[error("the installed NVIDIA driver has no {symbol}")]
    TooOld { symbol: &'static str },
    #[error("cuInit failed: {error} (library: {library})")]
    Init { error: CudaError, library: String },
    #[error("the driver shows no GPU (CUDA_ERROR_NO_DEVICE)")]
    NoGpu,
}

/// A call of the driver that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {error}")]
pub struct CallError {
    pub call: &'static str,
    pub error: CudaError,
}

impl CallError {
    /// The driver is too old for this call, which not everything needs.
    pub(super) fn missing(call: &'static str) -> Self {
        Self { call, error: CudaError { code: NOT_CUDA, name: "the installed driver lacks it".to_owned() } }
    }

    /// A question that CUDA answers only with a context, and that NVML failed to answer.
    pub(in crate::gpu) fn of_nvml(error: String) -> Self {
        Self { call: NVML, error: CudaError { code: NOT_CUDA, name: error } }
    }

    /// Whether it is a context that could not be made. The driver's manual leaves open with which error a GPU refuses one
    /// that is another process's, or nobody's, by its compute mode.
    pub fn is_of_context(&self) -> bool {
        self.call == RETAIN
    }

    /// Whether NVML is what failed.
    pub fn is_of_nvml(&self) -> bool {
        self.call == NVML
    }
}

/// An error code of the driver, with the driver's own name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaError {
    pub(super) code: c_int,
    pub(super) name: String,
}

impl CudaError {
    /// `named` is what the driver calls the code, if it knows it. The toolkit's stub does not even know its own.
    pub(super) fn new(code: c_int, named: Option<String>) -> Self {
        let unnamed = || match code == CUresult::CUDA_ERROR_STUB_LIBRARY as c_int {
            true => "CUDA_ERROR_STUB_LIBRARY".to_owned(),
            false => format!("CUDA error {code}"),
        };
        Self { code, name: named.unwrap_or_else(unnamed) }
    }

    pub fn is_out_of_memory(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY)
    }

    #[cfg(test)]
    pub fn out_of_memory() -> Self {
        Self { code: CUresult::CUDA_ERROR_OUT_OF_MEMORY as c_int, name: "CUDA_ERROR_OUT_OF_MEMORY".to_owned() }
    }

    #[cfg(test)]
    pub fn launch_failed() -> Self {
        Self { code: CUresult::CUDA_ERROR_LAUNCH_FAILED as c_int, name: "CUDA_ERROR_LAUNCH_FAILED".to_owned() }
    }

    pub fn is_no_device(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_NO_DEVICE)
    }

    pub fn is_stub_library(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_STUB_LIBRARY)
    }

    /// The GPU takes no further context: exclusive-process or prohibited compute mode (or lost).
    pub fn is_unavailable(&self) -> bool {
        self.code == DEVICE_UNAVAILABLE
    }

    /// The kernel's half of the driver is of another version than the library.
    pub fn is_mismatch(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
    }

    fn is(&self, result: CUresult) -> bool {
        self.code == result as c_int
    }
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
