//! Host memory that the driver pins.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::Mutex;

use crate::abi::{Out, Result, api};
use crate::driver::lock;
use crate::errors::CudaError;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Pinned {
    pub start: usize,
    size: usize,
    flags: c_uint,
    /// The driver's own; else the caller's, registered.
    is_allocated: bool,
}

/// By start address. Pinned memory outlives contexts here, which nobody can tell.
static PINNED: Mutex<BTreeMap<usize, Pinned>> = Mutex::new(BTreeMap::new());

/// The pinned range that contains an address.
pub(crate) fn around(address: usize) -> Option<Pinned> {
    let pinned = lock(&PINNED);
    let (_, found) = pinned.range(..=address).next_back()?;
    (address < found.start + found.size).then_some(*found)
}

fn allocate(out: Out<*mut c_void>, size: usize, flags: c_uint) -> Result {
    let out = out.wanted()?;
    if size == 0 || flags & !7 != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the system's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let pinned = Pinned { start: start.expose_provenance(), size, flags, is_allocated: true };
    lock(&PINNED).insert(pinned.start, pinned);
    out.put(start)
}

fn register(address: *mut c_void, size: usize, flags: c_uint) -> Result {
    if address.is_null() || size == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let start = address.addr();
    if around(start).is_some() || around(start + size - 1).is_some() {
        return Err(CudaError::HOST_MEMORY_ALREADY_REGISTERED);
    }
    lock(&PINNED).insert(start, Pinned { start, size, flags, is_allocated: false });
    Ok(())
}

fn forget(address: *mut c_void, is_allocated: bool, otherwise: CudaError) -> Result<Pinned> {
    let mut pinned = lock(&PINNED);
    let found = pinned.get(&address.addr()).filter(|pinned| pinned.is_allocated == is_allocated).copied();
    pinned.remove(&found.ok_or(otherwise)?.start).ok_or(otherwise)
}

api! {
    context Other: cuMemAllocHost_v2 (out: Out<*mut c_void>, size: usize) |_| {
        allocate(out, size, 0)
    }

    context Other: cuMemHostAlloc (out: Out<*mut c_void>, size: usize, flags: c_uint) |_| {
        allocate(out, size, flags)
    }

    context Other: cuMemFreeHost (address: *mut c_void) |_| {
        let pinned = forget(address, true, CudaError::INVALID_VALUE)?;
        // SAFETY: the mapping is the driver's own and no longer in the table.
        unsafe { libc::munmap(address, pinned.size) };
        Ok(())
    }

    context Other: cuMemHostRegister_v2 (address: *mut c_void, size: usize, flags: c_uint) |_| {
        register(address, size, flags)
    }

    context Other: cuMemHostUnregister (address: *mut c_void) |_| {
        forget(address, false, CudaError::HOST_MEMORY_NOT_REGISTERED).map(|_| ())
    }

    context Other: cuMemHostGetDevicePointer_v2 (out: Out<u64>, address: *mut c_void, flags: c_uint) |_| {
        if flags != 0 || around(address.addr()).is_none() {
            return Err(CudaError::INVALID_VALUE);
        }
        out.put(address.addr() as u64)
    }

    context Other: cuMemHostGetFlags (out: Out<c_uint>, address: *mut c_void) |_| {
        out.put(around(address.addr()).ok_or(CudaError::INVALID_VALUE)?.flags)
    }
}
