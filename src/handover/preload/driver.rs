//! The driver's own functions that this library calls for itself; each says nothing where the driver has no such function
//! or fails. Source: <https://docs.nvidia.com/cuda/cuda-driver-api/>, <https://docs.nvidia.com/deploy/nvml-api/>.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use crate::objects;
use crate::protocol::Uuid;

/// `CUresult` or `nvmlReturn_t`.
pub type Status = i32;
pub const SUCCESS: Status = 0;
pub const OUT_OF_MEMORY: Status = 2;
/// `CUDA_ERROR_NOT_INITIALIZED`: the answer where there is no driver at all.
pub const NOT_INITIALIZED: Status = 3;

/// One of the driver's two libraries.
struct Library {
    /// How its file name begins.
    file: &'static [u8],
    /// An address in it, once a client has led us there: it may have another name.
    anchor: AtomicUsize,
}

static CUDA: Library = Library { file: b"libcuda.so", anchor: AtomicUsize::new(0) };
static NVML: Library = Library { file: b"libnvidia-ml.so", anchor: AtomicUsize::new(0) };

/// Takes note that `address` is the driver's function of this name.
pub fn found(symbol: &CStr, address: usize) {
    let library = if symbol.to_bytes().starts_with(b"nvml") { &NVML } else { &CUDA };
    let _ = library.anchor.compare_exchange(0, address, Relaxed, Relaxed);
}

/// A function of one of the libraries, looked up once.
struct Function {
    library: &'static Library,
    name: &'static CStr,
    address: AtomicUsize,
}

impl Function {
    const fn new(library: &'static Library, name: &'static CStr) -> Self {
        Self { library, name, address: AtomicUsize::new(0) }
    }

    fn address(&self) -> Option<usize> {
        let mut address = self.address.load(Relaxed);
        if address == 0 {
            let beside = objects::definition_beside(self.library.anchor.load(Relaxed), self.name);
            address = beside
                .or_else(|| objects::definition_in(self.library.file, self.name))
                .or_else(|| objects::next_definition(self.name))?;
            self.address.store(address, Relaxed);
        }
        Some(address)
    }
}

/// Calls a function of a library with arguments of the given types; [`NOT_INITIALIZED`] where there is none.
macro_rules! call {
    ($library:ident, $name:literal($($argument:expr => $type:ty),*)) => {{
        static FUNCTION: Function = Function::new(&$library, $name);
        FUNCTION.address().map_or(NOT_INITIALIZED, |address| {
            // SAFETY: the function of this name has this signature.
            let function = unsafe { core::mem::transmute::<usize, unsafe extern "C" fn($($type),*) -> Status>(address) };
            // SAFETY: the pointers are to live values of the right types.
            unsafe { function($($argument),*) }
        })
    }};
}

/// The same, and says whether it succeeded.
macro_rules! succeeds {
    ($library:ident, $name:literal($($arguments:tt)*)) => { call!($library, $name($($arguments)*)) == SUCCESS };
}

/// The device of the current context.
pub fn current_device() -> Option<i32> {
    let mut device = 0;
    succeeds!(CUDA, c"cuCtxGetDevice"(&raw mut device => *mut i32)).then_some(device)
}

/// What is free on the device of the current context.
pub fn free_memory() -> Option<u64> {
    let (mut free, mut total) = (0, 0);
    let told = succeeds!(CUDA, c"cuMemGetInfo_v2"(&raw mut free => *mut u64, &raw mut total => *mut u64));
    told.then_some(free)
}

pub fn current_context() -> Option<u64> {
    let mut context = 0;
    succeeds!(CUDA, c"cuCtxGetCurrent"(&raw mut context => *mut u64)).then_some(context)
}

/// A device's identity; of a MIG instance, its own.
pub fn uuid(device: i32) -> Option<Uuid> {
    let mut uuid = [0; 16];
    let told = succeeds!(CUDA, c"cuDeviceGetUuid_v2"(&raw mut uuid => *mut Uuid, device => i32))
        || succeeds!(CUDA, c"cuDeviceGetUuid"(&raw mut uuid => *mut Uuid, device => i32));
    told.then_some(uuid)
}

/// Whether the device's primary context exists.
pub fn primary_is_active(device: i32) -> Option<bool> {
    let (mut flags, mut active) = (0, 0);
    let told = succeeds!(CUDA, c"cuDevicePrimaryCtxGetState"(
        device => i32, &raw mut flags => *mut u32, &raw mut active => *mut i32));
    told.then_some(active != 0)
}

/// The pool that serves `cuMemAllocAsync` on a device.
pub fn current_pool(device: i32) -> Option<u64> {
    let mut pool = 0;
    succeeds!(CUDA, c"cuDeviceGetMemPool"(&raw mut pool => *mut u64, device => i32)).then_some(pool)
}

/// What a pool holds of the device's memory.
pub fn reserved_by(pool: u64) -> Option<u64> {
    const RESERVED_MEM_CURRENT: i32 = 5;
    let mut bytes = 0;
    let told = succeeds!(CUDA, c"cuMemPoolGetAttribute"(
        pool => u64, RESERVED_MEM_CURRENT => i32, &raw mut bytes => *mut u64));
    told.then_some(bytes)
}

/// The local memory that each thread of a function uses.
pub fn local_memory(function: usize) -> Option<u64> {
    const LOCAL_SIZE_BYTES: i32 = 3;
    let mut bytes = 0;
    let told = succeeds!(CUDA, c"cuFuncGetAttribute"(
        &raw mut bytes => *mut i32, LOCAL_SIZE_BYTES => i32, function => usize));
    told.then(|| u64::try_from(bytes).ok()).flatten()
}

/// How many threads a device can run at a time.
pub fn most_threads(device: i32) -> Option<u64> {
    const MULTIPROCESSORS: i32 = 16;
    const THREADS_OF_EACH: i32 = 39;
    let attribute = |which| {
        let mut value = 0;
        let told = succeeds!(CUDA, c"cuDeviceGetAttribute"(&raw mut value => *mut i32, which => i32, device => i32));
        told.then(|| u64::try_from(value).ok()).flatten()
    };
    attribute(MULTIPROCESSORS)?.checked_mul(attribute(THREADS_OF_EACH)?)
}

/// A stream, by the handle that either variant of a function takes for it.
#[derive(Clone, Copy)]
pub enum Stream {
    Legacy(usize),
    PerThread(usize),
}

impl Stream {
    /// Whether what is asked of it is recorded for a graph.
    pub fn is_capturing(self) -> bool {
        let mut capturing = 0;
        let at = &raw mut capturing;
        let told = match self {
            Self::Legacy(stream) => succeeds!(CUDA, c"cuStreamIsCapturing"(stream => usize, at => *mut i32)),
            Self::PerThread(stream) => succeeds!(CUDA, c"cuStreamIsCapturing_ptsz"(stream => usize, at => *mut i32)),
        };
        told && capturing != 0
    }

    /// Waits until all that was asked of it is done; a failure may be that of the work.
    pub fn synchronize(self) -> Status {
        match self {
            Self::Legacy(stream) => call!(CUDA, c"cuStreamSynchronize"(stream => usize)),
            Self::PerThread(stream) => call!(CUDA, c"cuStreamSynchronize_ptsz"(stream => usize)),
        }
    }
}

/// Calls what has nothing to do with streams that are being recorded for a graph, but which the driver might otherwise take for
/// unsafe beside them.
pub fn beside_recordings<T>(call: impl FnOnce() -> T) -> T {
    const RELAXED: i32 = 2;
    let exchange = |mode: &mut i32| {
        succeeds!(CUDA, c"cuThreadExchangeStreamCaptureMode"(core::ptr::from_mut(mode) => *mut i32))
    };
    let mut mode = RELAXED;
    let is_relaxed = exchange(&mut mode);
    let result = call();
    if is_relaxed {
        exchange(&mut mode);
    }
    result
}

/// Makes a context current while `then` is called. An error: it is none.
fn within<T>(context: u64, then: impl FnOnce() -> T) -> Result<T, Status> {
    let status = call!(CUDA, c"cuCtxPushCurrent_v2"(context => u64));
    if status != SUCCESS {
        return Err(status);
    }
    let outcome = then();
    let mut popped = 0;
    let _ = call!(CUDA, c"cuCtxPopCurrent_v2"(&raw mut popped => *mut u64));
    Ok(outcome)
}

/// The device of a context.
pub fn device_of(context: u64) -> Option<i32> {
    within(context, current_device).ok().flatten()
}

/// Waits until a context's work is done; a failure may be that of the work.
pub fn synchronize(context: u64) -> Status {
    within(context, || call!(CUDA, c"cuCtxSynchronize"())).unwrap_or_else(|status| status)
}

/// Addresses without memory behind them.
pub fn reserve_addresses(size: u64) -> Option<u64> {
    const ANYWHERE: u64 = 0;
    let mut address = 0;
    let reserved = succeeds!(CUDA, c"cuMemAddressReserve"(
        &raw mut address => *mut u64, size as usize => usize, 0 => usize, ANYWHERE => u64, 0 => u64));
    reserved.then_some(address)
}

/// A handle of another process's memory.
pub fn import(descriptor: i32) -> Option<u64> {
    const BY_DESCRIPTOR: u32 = 1;
    let mut handle = 0;
    let imported = succeeds!(CUDA, c"cuMemImportFromShareableHandle"(
        &raw mut handle => *mut u64, descriptor as usize as *mut c_void => *mut c_void, BY_DESCRIPTOR => u32));
    imported.then_some(handle)
}

pub fn release(handle: u64) -> bool {
    succeeds!(CUDA, c"cuMemRelease"(handle => u64))
}

pub fn map(address: u64, size: u64, handle: u64) -> bool {
    succeeds!(CUDA, c"cuMemMap"(address => u64, size as usize => usize, 0 => usize, handle => u64, 0 => u64))
}

pub fn unmap(address: u64, size: u64) -> bool {
    succeeds!(CUDA, c"cuMemUnmap"(address => u64, size as usize => usize))
}

/// `CUmemAccessDesc`.
#[repr(C)]
struct Access {
    location_kind: u32,
    location: i32,
    flags: u32,
}

/// Lets a device read and write what is mapped.
pub fn allow_access(address: u64, size: u64, device: i32) -> bool {
    const DEVICE: u32 = 1;
    const READ_WRITE: u32 = 3;
    let access = Access { location_kind: DEVICE, location: device, flags: READ_WRITE };
    succeeds!(CUDA, c"cuMemSetAccess"(
        address => u64, size as usize => usize, &raw const access => *const Access, 1 => usize))
}

/// The identity of one of NVML's devices, out of its text, such as `GPU-` and 32 digits with dashes between.
pub fn nvml_uuid(device: usize) -> Option<Uuid> {
    let mut text = [0_u8; 96];
    let length = text.len() as u32;
    let told = succeeds!(NVML, c"nvmlDeviceGetUUID"(
        device => usize, text.as_mut_ptr().cast() => *mut c_char, length => u32));
    told.then(|| parse(&text)).flatten()
}

fn parse(text: &[u8]) -> Option<Uuid> {
    let digits = text.get(4..)?.iter().take_while(|byte| **byte != 0).filter(|byte| **byte != b'-');
    let mut uuid = [0; 16];
    let mut count = 0;
    for digit in digits {
        let value = char::from(*digit).to_digit(16)?;
        let byte: &mut u8 = uuid.get_mut(count / 2)?;
        *byte = *byte << 4 | value as u8;
        count += 1;
    }
    (count == 32).then_some(uuid)
}
