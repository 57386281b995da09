//! Device memory that belongs to no context: virtual memory management without the virtual address.

use std::ffi::c_int;

use cudarc::driver::sys::{
    CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationProp_st__bindgen_ty_1, CUmemAllocationType,
    CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
};

use super::{CallError, Device, Driver};
use crate::units::ByteSize;

type Create = unsafe extern "C" fn(*mut CUmemGenericAllocationHandle, usize, *const CUmemAllocationProp, u64) -> c_int;
type Release = unsafe extern "C" fn(CUmemGenericAllocationHandle) -> c_int;

/// A handle to device memory that is mapped nowhere. It is released when dropped.
pub struct Handle {
    handle: Option<CUmemGenericAllocationHandle>,
    size: ByteSize,
    release: Release,
    driver: &'static Driver,
}

impl Device {
    /// Creates `size` of memory on this GPU, a multiple of the granularity. Needs no context; the driver shows such memory
    /// as used, but NVML lists no process for it.
    pub fn create(&self, size: ByteSize) -> Result<Handle, CallError> {
        let properties = CUmemAllocationProp {
            type_: CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
            location: CUmemLocation {
                type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
                id: self.ordinal.cast_signed(),
            },
            win32HandleMetaData: std::ptr::null_mut(),
            allocFlags: CUmemAllocationProp_st__bindgen_ty_1 {
                compressionType: 0,
                gpuDirectRDMACapable: 0,
                usage: 0,
                reserved: [0; 4],
            },
        };
        let (create, release) = self.handle_functions()?;
        let mut handle = 0;
        // SAFETY: both pointers are to live values of the types the driver reads and fills.
        let result = unsafe { create(&raw mut handle, size.bytes() as usize, &raw const properties, 0) };
        self.driver.check("cuMemCreate", result)?;
        Ok(Handle { handle: Some(handle), size, release, driver: self.driver })
    }

    fn handle_functions(&self) -> Result<(Create, Release), CallError> {
        let functions = &self.driver.functions;
        functions.handle_create.zip(functions.handle_release).ok_or_else(|| CallError::missing("cuMemCreate"))
    }
}

impl Handle {
    pub fn size(&self) -> ByteSize {
        self.size
    }

    /// Frees the memory and reports how that went.
    pub fn release(mut self) -> Result<(), CallError> {
        self.free()
    }

    fn free(&mut self) -> Result<(), CallError> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        // SAFETY: the handle came from cuMemCreate and is taken out above, so it is released once.
        let result = unsafe { (self.release)(handle) };
        self.driver.check("cuMemRelease", result)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.free() {
            tracing::warn!(%error, "chunk not freed");
        }
    }
}
