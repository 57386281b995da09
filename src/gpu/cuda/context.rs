//! A context on a GPU, and the memory that is allocated in it.

use std::ffi::c_uint;
use std::marker::PhantomData;
use std::ptr;

use cudarc::driver::sys::{CUctx_flags, CUdeviceptr, CUlimit};

use super::error::RETAIN;
use super::{CallError, Device, Driver};
use crate::gpu::Memory;
use crate::units::ByteSize;

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
        if let Some(set_flags) = functions.context_flags {
            // SAFETY: the device handle is the driver's.
            unsafe { set_flags(device.device, CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as c_uint) };
        }
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a live context handle, and the device handle is the driver's.
        let result = unsafe { (functions.context_retain)(&raw mut context, device.device) };
        device.driver.check(RETAIN, result)?;
        let opened = Self { device: device.clone(), not_send: PhantomData };
        // SAFETY: the context was retained above and lives until `opened` is dropped.
        let result = unsafe { (functions.context_current)(context) };
        device.driver.check("cuCtxSetCurrent", result)?;
        opened.trim();
        Ok(opened)
    }

    /// Gives back what the context keeps for kernels, of which there will be none: half of its device memory on an H100.
    fn trim(&self) {
        let Some(set_limit) = self.device.driver.functions.context_limit else { return };
        for limit in
            [CUlimit::CU_LIMIT_STACK_SIZE, CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE, CUlimit::CU_LIMIT_MALLOC_HEAP_SIZE]
        {
            // SAFETY: takes no pointer, and the context is current on this thread.
            let result = unsafe { set_limit(limit, 0) };
            if let Err(error) = self.device.driver.check("cuCtxSetLimit", result) {
                tracing::debug!(gpu = %self.device.uuid, ?limit, %error, "context not trimmed");
            }
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
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
