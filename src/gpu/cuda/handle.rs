//! Device memory that belongs to no context: virtual memory management without the virtual address.

use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};

use cudarc::driver::sys::{
    CUdevice_attribute, CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationProp_st__bindgen_ty_1,
    CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
};

use super::{CallError, Device, Driver};
use crate::units::ByteSize;

type Create = unsafe extern "C" fn(*mut CUmemGenericAllocationHandle, usize, *const CUmemAllocationProp, u64) -> c_int;
type Release = unsafe extern "C" fn(CUmemGenericAllocationHandle) -> c_int;

const BY_DESCRIPTOR: CUmemAllocationHandleType = CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

/// Whether other processes can come to the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    Never,
    ByDescriptor {
        /// Whether other devices can reach it, too, as they can what `cuMemAlloc` gives.
        is_rdma_capable: bool,
    },
}

/// A handle to device memory that is mapped nowhere in this process. It is released when dropped.
pub struct Handle {
    handle: Option<CUmemGenericAllocationHandle>,
    size: ByteSize,
    release: Release,
    driver: &'static Driver,
}

impl Sharing {
    /// What may work where this does not.
    pub fn lesser(self) -> Self {
        match self {
            Self::ByDescriptor { is_rdma_capable: true } => Self::ByDescriptor { is_rdma_capable: false },
            Self::ByDescriptor { .. } | Self::Never => Self::Never,
        }
    }
}

impl Device {
    /// Creates `size` of memory on this GPU, a multiple of the granularity. Needs no context; the driver shows such memory
    /// as used, but NVML lists no process for it.
    pub fn create(&self, size: ByteSize, sharing: Sharing) -> Result<Handle, CallError> {
        let properties = CUmemAllocationProp {
            type_: CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: match sharing {
                Sharing::Never => CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
                Sharing::ByDescriptor { .. } => BY_DESCRIPTOR,
            },
            location: CUmemLocation {
                type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
                id: self.ordinal.cast_signed(),
            },
            win32HandleMetaData: std::ptr::null_mut(),
            allocFlags: CUmemAllocationProp_st__bindgen_ty_1 {
                compressionType: 0,
                gpuDirectRDMACapable: (sharing == Sharing::ByDescriptor { is_rdma_capable: true }).into(),
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

    /// How to create memory that is like `cuMemAlloc`'s to whom it is shared with.
    pub fn sharing(&self) -> Sharing {
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED;
        Sharing::ByDescriptor { is_rdma_capable: self.attribute(attribute).is_ok_and(|value| value != 0) }
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

    /// A descriptor by which another process can import the memory and map it. It stays allocated until both have let go of it.
    pub fn export(&self) -> Result<OwnedFd, CallError> {
        const CALL: &str = "cuMemExportToShareableHandle";
        let export = self.driver.functions.handle_export.ok_or_else(|| CallError::missing(CALL))?;
        let mut descriptor: c_int = -1;
        let handle = self.handle.unwrap_or_default();
        // SAFETY: for this type of handle the driver writes a descriptor, which is an integer.
        let result = unsafe { export((&raw mut descriptor).cast::<c_void>(), handle, BY_DESCRIPTOR, 0) };
        self.driver.check(CALL, result)?;
        // SAFETY: the driver has made the descriptor for its caller, who is to close it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
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
