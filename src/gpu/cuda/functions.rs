//! The table of the driver's functions that are called: each name and signature once.

use std::ffi::{c_char, c_int, c_uint, c_void};

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUlimit, CUmemAllocationHandleType, CUmemAllocationProp,
    CUmemGenericAllocationHandle, CUuuid,
};
use libloading::os::unix::Library;

use super::DriverError;

/// Declares the table of the driver's functions and how it is filled, so that a name stands once. The optional ones come
/// after what makes a driver usable, and are `None` where it lacks them.
macro_rules! functions {
    (
        required { $($field:ident: $symbol:literal ($($argument:ty),*);)* }
        optional { $($extra:ident: $extra_symbol:literal ($($extra_argument:ty),*);)* }
    ) => {
        pub(super) struct Functions {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> c_int,)*
            $(pub(super) $extra: Option<unsafe extern "C" fn($($extra_argument),*) -> c_int>,)*
        }

        impl Functions {
            pub(super) fn of(library: &Library) -> Result<Self, DriverError> {
                Ok(Self {
                    $($field: {
                        // SAFETY: the signature is the one of `cuda.h` for this versioned symbol; the library is never
                        // closed (`Driver::load` leaks it).
                        let symbol = unsafe { library.get::<unsafe extern "C" fn($($argument),*) -> c_int>($symbol) };
                        let name = $symbol.to_str().unwrap_or("symbol");
                        *symbol.map_err(|_| DriverError::TooOld { symbol: name })?
                    },)*
                    $($extra: {
                        // SAFETY: as above.
                        let symbol = unsafe {
                            library.get::<unsafe extern "C" fn($($extra_argument),*) -> c_int>($extra_symbol)
                        };
                        symbol.ok().map(|symbol| *symbol)
                    },)*
                })
            }
        }
    };
}

functions! {
    required {
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
    context_retain: c"cuDevicePrimaryCtxRetain" (*mut CUcontext, CUdevice);
    context_release: c"cuDevicePrimaryCtxRelease_v2" (CUdevice);
    context_current: c"cuCtxSetCurrent" (CUcontext);
    memory_info: c"cuMemGetInfo_v2" (*mut usize, *mut usize);
    memory_allocate: c"cuMemAlloc_v2" (*mut CUdeviceptr, usize);
    memory_free: c"cuMemFree_v2" (CUdeviceptr);
    }
    optional {
        context_flags: c"cuDevicePrimaryCtxSetFlags_v2" (CUdevice, c_uint);
        context_limit: c"cuCtxSetLimit" (CUlimit, usize);
        handle_create: c"cuMemCreate" (*mut CUmemGenericAllocationHandle, usize, *const CUmemAllocationProp, u64);
        handle_release: c"cuMemRelease" (CUmemGenericAllocationHandle);
        handle_export: c"cuMemExportToShareableHandle"
            (*mut c_void, CUmemGenericAllocationHandle, CUmemAllocationHandleType, u64);
    }
}
