//! The driver, as a job has it: found by name at run time.
#![expect(unsafe_code, reason = "foreign calls into the driver")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::{mem, ptr};

use anyhow::{Context as _, bail};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::cli::Lookup;

/// An error of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed(pub c_int);

pub type Result<T> = std::result::Result<T, Failed>;

pub const OUT_OF_MEMORY: Failed = Failed(2);

type ProcAddress = unsafe extern "C" fn(*const c_char, *mut *mut c_void, c_int, u64, *mut c_int) -> c_int;

macro_rules! functions {
    ($($name:ident $symbol:literal $base:literal $version:literal ($($argument:ty),*);)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl Functions {
            fn load(library: &Library, lookup: Lookup) -> anyhow::Result<Self> {
                Ok(Self {
                    $($name: {
                        let found = find(library, lookup, $symbol, $base, $version)?;
                        // SAFETY: the symbol has this signature in `cuda.h` of this version.
                        unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> c_int>(found) }
                    },)*
                })
            }
        }
    };
}

functions! {
    init c"cuInit" c"cuInit" 2000 (c_uint);
    error_name c"cuGetErrorName" c"cuGetErrorName" 6000 (c_int, *mut *const c_char);
    retain c"cuDevicePrimaryCtxRetain" c"cuDevicePrimaryCtxRetain" 7000 (*mut *mut c_void, c_int);
    release c"cuDevicePrimaryCtxRelease_v2" c"cuDevicePrimaryCtxRelease" 11000 (c_int);
    set_current c"cuCtxSetCurrent" c"cuCtxSetCurrent" 4000 (*mut c_void);
    info c"cuMemGetInfo_v2" c"cuMemGetInfo" 3020 (*mut usize, *mut usize);
    alloc c"cuMemAlloc_v2" c"cuMemAlloc" 3020 (*mut u64, usize);
    alloc_pitch c"cuMemAllocPitch_v2" c"cuMemAllocPitch" 3020 (*mut u64, *mut usize, usize, usize, c_uint);
    alloc_managed c"cuMemAllocManaged" c"cuMemAllocManaged" 6000 (*mut u64, usize, c_uint);
    free c"cuMemFree_v2" c"cuMemFree" 3020 (u64);
    alloc_async c"cuMemAllocAsync" c"cuMemAllocAsync" 11020 (*mut u64, usize, *mut c_void);
    free_async c"cuMemFreeAsync" c"cuMemFreeAsync" 11020 (u64, *mut c_void);
    synchronize c"cuCtxSynchronize" c"cuCtxSynchronize" 2000 ();
    create c"cuMemCreate" c"cuMemCreate" 10020 (*mut u64, usize, *const Properties, u64);
    release_memory c"cuMemRelease" c"cuMemRelease" 10020 (u64);
    export c"cuMemExportToShareableHandle" c"cuMemExportToShareableHandle" 10020 (*mut c_int, u64, c_uint, u64);
    import c"cuMemImportFromShareableHandle" c"cuMemImportFromShareableHandle" 10020 (*mut u64, *mut c_void, c_uint);
}

fn find(library: &Library, lookup: Lookup, symbol: &CStr, base: &CStr, version: c_int) -> anyhow::Result<*mut c_void> {
    let missing = || format!("libcuda.so.1 has no {}", symbol.to_string_lossy());
    match lookup {
        // SAFETY: only the address is taken; the library is never closed.
        Lookup::Dlsym => Ok(*unsafe { library.get::<*mut c_void>(symbol) }.with_context(missing)?),
        Lookup::Linked => {
            // SAFETY: the name is NUL-terminated.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
            if found.is_null() { bail!(missing()) } else { Ok(found) }
        }
        Lookup::Proc => {
            // SAFETY: this is the signature of the symbol's second version.
            let resolve = unsafe { library.get::<ProcAddress>(c"cuGetProcAddress_v2") }.with_context(missing)?;
            let mut found = ptr::null_mut();
            // SAFETY: the name is NUL-terminated, the pointers are live or may be null.
            let result = unsafe { resolve(base.as_ptr(), &raw mut found, version, 0, ptr::null_mut()) };
            if result != 0 || found.is_null() { bail!(missing()) } else { Ok(found) }
        }
    }
}

/// `CUmemAllocationProp`: pinned memory of a GPU, to be exported as a descriptor.
#[repr(C)]
struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location_kind: c_uint,
    location: c_int,
    rest: [u64; 2],
}

const DESCRIPTOR: c_uint = 1;

pub struct Cuda(Functions);

impl Cuda {
    /// Loads the driver and initialises it.
    pub fn open(lookup: Lookup) -> anyhow::Result<Self> {
        // SAFETY: loading runs the library's constructors, as in any CUDA program.
        let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_GLOBAL) }?;
        let cuda = Self(Functions::load(&library, lookup)?);
        mem::forget(library);
        // SAFETY: the call takes no pointer.
        if let Err(error) = check(unsafe { (cuda.0.init)(0) }) {
            bail!("cuInit: {}", cuda.name(error));
        }
        Ok(cuda)
    }

    pub fn name(&self, Failed(code): Failed) -> String {
        let mut name = ptr::null();
        // SAFETY: the pointer is live.
        unsafe { (self.0.error_name)(code, &raw mut name) };
        if name.is_null() {
            return format!("CUDA error {code}");
        }
        // SAFETY: a static text of the driver.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// Makes the GPU's primary context current on this thread.
    pub fn use_gpu(&self, ordinal: c_int) -> Result<()> {
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is live.
        check(unsafe { (self.0.retain)(&raw mut context, ordinal) })?;
        // SAFETY: the handle is the driver's.
        check(unsafe { (self.0.set_current)(context) })
    }

    pub fn release(&self, ordinal: c_int) -> Result<()> {
        // SAFETY: the call takes no pointer.
        check(unsafe { (self.0.release)(ordinal) })
    }

    /// Free and total.
    pub fn memory(&self) -> Result<(usize, usize)> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are live.
        check(unsafe { (self.0.info)(&raw mut free, &raw mut total) })?;
        Ok((free, total))
    }

    pub fn allocate(&self, size: u64) -> Result<u64> {
        let mut address = 0;
        // SAFETY: the pointer is live.
        check(unsafe { (self.0.alloc)(&raw mut address, size as usize) })?;
        Ok(address)
    }

    /// Rows of `width` bytes.
    pub fn allocate_pitched(&self, width: u64, height: u64) -> Result<u64> {
        let (mut address, mut pitch) = (0, 0);
        // SAFETY: both pointers are live.
        check(unsafe { (self.0.alloc_pitch)(&raw mut address, &raw mut pitch, width as usize, height as usize, 4) })?;
        Ok(address)
    }

    pub fn allocate_managed(&self, size: u64) -> Result<u64> {
        let mut address = 0;
        // SAFETY: the pointer is live.
        check(unsafe { (self.0.alloc_managed)(&raw mut address, size as usize, 1) })?;
        Ok(address)
    }

    /// From the current pool, on the default stream.
    pub fn allocate_async(&self, size: u64) -> Result<u64> {
        let mut address = 0;
        // SAFETY: the pointer is live.
        check(unsafe { (self.0.alloc_async)(&raw mut address, size as usize, ptr::null_mut()) })?;
        Ok(address)
    }

    pub fn free_async(&self, address: u64) -> Result<()> {
        // SAFETY: the driver refuses what is not an allocation.
        check(unsafe { (self.0.free_async)(address, ptr::null_mut()) })
    }

    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the call takes nothing.
        check(unsafe { (self.0.synchronize)() })
    }

    /// Physical memory without an address.
    pub fn create(&self, ordinal: c_int, size: u64) -> Result<u64> {
        let properties =
            Properties { kind: 1, handle_types: DESCRIPTOR, location_kind: 1, location: ordinal, rest: [0; 2] };
        let mut handle = 0;
        // SAFETY: both pointers are live.
        check(unsafe { (self.0.create)(&raw mut handle, size as usize, &raw const properties, 0) })?;
        Ok(handle)
    }

    pub fn release_memory(&self, handle: u64) -> Result<()> {
        // SAFETY: the driver refuses what is not a handle.
        check(unsafe { (self.0.release_memory)(handle) })
    }

    /// A descriptor of physical memory; the caller's to close.
    pub fn export(&self, handle: u64) -> Result<c_int> {
        let mut descriptor = -1;
        // SAFETY: the pointer is to what the kind of handle demands.
        check(unsafe { (self.0.export)(&raw mut descriptor, handle, DESCRIPTOR, 0) })?;
        Ok(descriptor)
    }

    pub fn import(&self, descriptor: c_int) -> Result<u64> {
        let mut handle = 0;
        // SAFETY: the pointer is live; the descriptor is passed as a number.
        check(unsafe {
            (self.0.import)(&raw mut handle, ptr::without_provenance_mut(descriptor as usize), DESCRIPTOR)
        })?;
        Ok(handle)
    }

    pub fn free(&self, address: u64) -> Result<()> {
        // SAFETY: the driver refuses what is not an allocation.
        check(unsafe { (self.0.free)(address) })
    }
}

fn check(code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Failed(code)) }
}
