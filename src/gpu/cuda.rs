//! The CUDA driver API: the only file that names `cudarc`.
//!
//! `cudarc` gives the types; the symbols are looked up here, because its own loader takes `libcuda.so` (on build machines
//! the toolkit's stub) before `libcuda.so.1`, panics on a symbol that an old driver lacks, and reads a newer driver's
//! unknown error code as an enum. Source of every call: <https://docs.nvidia.com/cuda/cuda-driver-api/>.
#![expect(unsafe_code, reason = "foreign calls into the driver")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::fmt;
use std::marker::PhantomData;
use std::ptr;

use cudarc::driver::sys::{
    CUcontext, CUctx_flags, CUdevice, CUdevice_attribute, CUdeviceptr, CUlimit, CUresult, CUuuid,
};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::gpu::{GpuUuid, Memory};
use crate::units::ByteSize;

/// The driver's library, by the name that its packages install.
const LIBRARY: &str = "libcuda.so.1";

/// `CUDA_ERROR_DEVICE_UNAVAILABLE`, which the types of this CUDA version do not have yet.
const DEVICE_UNAVAILABLE: c_int = 46;

/// Device memory comes in pages of this size (`cuMemGetAllocationGranularity`, minimum, on every GPU since Maxwell).
pub const GRANULARITY: ByteSize = ByteSize::new(2 << 20);

/// Why the driver cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("{LIBRARY} cannot be loaded")]
    NoLibrary(#[source] libloading::Error),
    #[error("the installed NVIDIA driver has no {symbol}")]
    TooOld { symbol: &'static str },
    #[error("cuInit failed: {error} (library: {library})")]
    Init { error: CudaError, library: String },
    #[error("the driver shows no GPU")]
    NoGpu,
}

/// A call of the driver that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {error}")]
pub struct CallError {
    pub call: &'static str,
    pub error: CudaError,
}

/// An error code of the driver, with the driver's own name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaError {
    code: c_int,
    name: String,
}

impl CudaError {
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

/// How GPUs may be used by several processes, `CU_DEVICE_ATTRIBUTE_COMPUTE_MODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeMode {
    Default,
    Prohibited,
    ExclusiveProcess,
}

impl fmt::Display for ComputeMode {
    /// As nvidia-smi spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "Default",
            Self::Prohibited => "Prohibited",
            Self::ExclusiveProcess => "Exclusive_Process",
        })
    }
}

/// Declares the table of the driver's functions and how it is filled, so that a name stands once.
macro_rules! functions {
    ($($field:ident: $symbol:literal ($($argument:ty),*);)*) => {
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl Functions {
            fn of(library: &Library) -> Result<Self, DriverError> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the signature is the one of `cuda.h` for this versioned symbol; the library is never
                        // closed (`Driver::load` leaks it).
                        let symbol = unsafe { library.get::<unsafe extern "C" fn($($argument),*) -> c_int>($symbol) };
                        let name = $symbol.to_str().unwrap_or("symbol");
                        *symbol.map_err(|_| DriverError::TooOld { symbol: name })?
                    },)*
                })
            }
        }
    };
}

functions! {
    init: c"cuInit" (c_uint);
    error_name: c"cuGetErrorName" (c_int, *mut *const c_char);
    driver_version: c"cuDriverGetVersion" (*mut c_int);
    device_count: c"cuDeviceGetCount" (*mut c_int);
    device: c"cuDeviceGet" (*mut CUdevice, c_int);
    device_attribute: c"cuDeviceGetAttribute" (*mut c_int, CUdevice_attribute, CUdevice);
    device_name: c"cuDeviceGetName" (*mut c_char, c_int, CUdevice);
    device_uuid: c"cuDeviceGetUuid_v2" (*mut CUuuid, CUdevice);
    device_total: c"cuDeviceTotalMem_v2" (*mut usize, CUdevice);
    device_bus_id: c"cuDeviceGetPCIBusId" (*mut c_char, c_int, CUdevice);
    context_flags: c"cuDevicePrimaryCtxSetFlags_v2" (CUdevice, c_uint);
    context_retain: c"cuDevicePrimaryCtxRetain" (*mut CUcontext, CUdevice);
    context_release: c"cuDevicePrimaryCtxRelease_v2" (CUdevice);
    context_current: c"cuCtxSetCurrent" (CUcontext);
    context_limit: c"cuCtxSetLimit" (CUlimit, usize);
    memory_info: c"cuMemGetInfo_v2" (*mut usize, *mut usize);
    memory_allocate: c"cuMemAlloc_v2" (*mut CUdeviceptr, usize);
    memory_free: c"cuMemFree_v2" (CUdeviceptr);
}

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
        let name = if result == CUresult::CUDA_SUCCESS as c_int && !name.is_null() {
            // SAFETY: on success the driver returns a NUL-terminated string that it never frees.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        } else {
            format!("CUDA error {code}")
        };
        Err(CallError { call, error: CudaError { code, name } })
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

/// A visible GPU.
#[derive(Clone)]
pub struct Device {
    driver: &'static Driver,
    device: CUdevice,
    /// The CUDA ordinal.
    pub ordinal: u32,
    pub uuid: GpuUuid,
}

impl Device {
    fn open(driver: &'static Driver, ordinal: c_int) -> Result<Self, CallError> {
        let mut device = 0;
        // SAFETY: the pointer is to a live device handle.
        let result = unsafe { (driver.functions.device)(&raw mut device, ordinal) };
        driver.check("cuDeviceGet", result)?;
        let mut uuid = CUuuid { bytes: [0; 16] };
        // SAFETY: the pointer is to a live UUID, and the device handle is the driver's.
        let result = unsafe { (driver.functions.device_uuid)(&raw mut uuid, device) };
        driver.check("cuDeviceGetUuid", result)?;
        let uuid = GpuUuid(uuid.bytes.map(|byte| byte.to_ne_bytes()[0]));
        Ok(Self { driver, device, ordinal: ordinal.unsigned_abs(), uuid })
    }

    pub fn name(&self) -> Result<String, CallError> {
        self.text("cuDeviceGetName", self.driver.functions.device_name)
    }

    /// Whether it is a MIG instance. The driver API has no attribute for it; the name of an instance tells its profile, such
    /// as `NVIDIA H200 MIG 1g.18gb`.
    pub fn is_instance(&self) -> Result<bool, CallError> {
        Ok(self.name()?.contains(" MIG "))
    }

    /// Domain, bus, device and function, such as `0000:65:00.0`.
    pub fn pci_bus_id(&self) -> Result<String, CallError> {
        self.text("cuDeviceGetPCIBusId", self.driver.functions.device_bus_id)
    }

    pub fn total(&self) -> Result<ByteSize, CallError> {
        let mut total = 0;
        // SAFETY: the pointer is to a live size, and the device handle is the driver's.
        let result = unsafe { (self.driver.functions.device_total)(&raw mut total, self.device) };
        self.driver.check("cuDeviceTotalMem", result)?;
        Ok(ByteSize::new(total as u64))
    }

    pub fn compute_mode(&self) -> Result<ComputeMode, CallError> {
        let mut mode = 0;
        // SAFETY: the pointer is to a live integer, and the device handle is the driver's.
        let result = unsafe {
            (self.driver.functions.device_attribute)(
                &raw mut mode,
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE,
                self.device,
            )
        };
        self.driver.check("cuDeviceGetAttribute", result)?;
        // The values of CUcomputemode.
        Ok(match mode {
            2 => ComputeMode::Prohibited,
            3 => ComputeMode::ExclusiveProcess,
            _ => ComputeMode::Default,
        })
    }

    fn text(
        &self,
        call: &'static str,
        function: unsafe extern "C" fn(*mut c_char, c_int, CUdevice) -> c_int,
    ) -> Result<String, CallError> {
        let mut text = [0_u8; 128];
        // SAFETY: the buffer is as long as said, and the device handle is the driver's.
        let result = unsafe { function(text.as_mut_ptr().cast(), text.len() as c_int, self.device) };
        self.driver.check(call, result)?;
        let text = CStr::from_bytes_until_nul(&text).map(CStr::to_owned).unwrap_or_else(|_| CString::default());
        Ok(text.to_string_lossy().into_owned())
    }
}

/// This process's primary context on a GPU, current on the thread that opened it and confined to it.
pub struct Context {
    device: Device,
    /// The context is current on one thread only.
    not_send: PhantomData<*const ()>,
}

impl Context {
    /// Creates the context and makes it current. It costs device memory (263 MB on an H100) until dropped.
    pub fn open(device: &Device) -> Result<Self, CallError> {
        let functions = &device.driver.functions;
        // A waiting thread must sleep, not spin. Ignored if the context is already active, so the answer is not needed.
        // SAFETY: the device handle is the driver's.
        unsafe {
            (functions.context_flags)(device.device, CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as c_uint);
        }
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a live context handle, and the device handle is the driver's.
        let result = unsafe { (functions.context_retain)(&raw mut context, device.device) };
        device.driver.check("cuDevicePrimaryCtxRetain", result)?;
        let opened = Self { device: device.clone(), not_send: PhantomData };
        // SAFETY: the context was retained above and lives until `opened` is dropped.
        let result = unsafe { (functions.context_current)(context) };
        device.driver.check("cuCtxSetCurrent", result)?;
        opened.trim();
        Ok(opened)
    }

    /// Gives back what the context keeps for kernels, of which there will be none: half of its device memory on an H100.
    fn trim(&self) {
        for limit in
            [CUlimit::CU_LIMIT_STACK_SIZE, CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE, CUlimit::CU_LIMIT_MALLOC_HEAP_SIZE]
        {
            // SAFETY: takes no pointer, and the context is current on this thread.
            let result = unsafe { (self.device.driver.functions.context_limit)(limit, 0) };
            if let Err(error) = self.device.driver.check("cuCtxSetLimit", result) {
                tracing::debug!(gpu = %self.device.uuid, ?limit, %error, "context not trimmed");
            }
        }
    }

    /// Free and total memory of the GPU as the driver reports them.
    pub fn memory(&self) -> Result<Memory, CallError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to live sizes, and the context is current on this thread.
        let result = unsafe { (self.device.driver.functions.memory_info)(&raw mut free, &raw mut total) };
        self.device.driver.check("cuMemGetInfo", result)?;
        Ok(Memory { free: ByteSize::new(free as u64), total: ByteSize::new(total as u64) })
    }

    /// Allocates `size` of device memory, synchronously and outside any pool.
    pub fn allocate(&self, size: ByteSize) -> Result<Chunk, CallError> {
        let mut address = 0;
        // SAFETY: the pointer is to a live address, and the context is current on this thread.
        let result = unsafe { (self.device.driver.functions.memory_allocate)(&raw mut address, size.bytes() as usize) };
        self.device.driver.check("cuMemAlloc", result)?;
        Ok(Chunk { address, size, driver: self.device.driver, not_send: PhantomData })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `open` retained the primary context of this device once.
        let result = unsafe { (self.device.driver.functions.context_release)(self.device.device) };
        if let Err(error) = self.device.driver.check("cuDevicePrimaryCtxRelease", result) {
            tracing::debug!(gpu = %self.device.uuid, %error, "context not released");
        }
    }
}

/// One allocation of device memory. It belongs to the thread whose context it was made in.
pub struct Chunk {
    address: CUdeviceptr,
    size: ByteSize,
    driver: &'static Driver,
    not_send: PhantomData<*const ()>,
}

impl Chunk {
    pub fn size(&self) -> ByteSize {
        self.size
    }

    /// Frees the memory and reports how that went.
    pub fn release(mut self) -> Result<(), CallError> {
        self.free()
    }

    fn free(&mut self) -> Result<(), CallError> {
        let address = std::mem::take(&mut self.address);
        if address == 0 {
            return Ok(());
        }
        // SAFETY: the address came from cuMemAlloc and is taken out above, so it is freed once.
        let result = unsafe { (self.driver.functions.memory_free)(address) };
        self.driver.check("cuMemFree", result)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Err(error) = self.free() {
            tracing::warn!(%error, "chunk not freed");
        }
    }
}

/// Makes ordinals follow the PCI bus, as nvidia-smi's indices do. Call before [`Driver::load`] and before any thread.
pub fn order_by_pci_bus() {
    // SAFETY: `main` calls this while it is the only thread.
    unsafe { std::env::set_var("CUDA_DEVICE_ORDER", "PCI_BUS_ID") };
}
