//! Device memory: `cuMemAlloc` and its kin.

use std::ffi::c_uint;

use gpu_sim_state::MAX_GPUS;

use crate::abi::{Out, Result, api};
use crate::arena::{Allocation, Arena, Kind, RESERVED, Room};
use crate::context::Context;
use crate::driver::{Device, Driver, lock};
use crate::errors::CudaError;
use crate::vmm;

/// Allocates in a context.
pub(crate) fn allocate(context: &Context, size: u64, kind: Kind) -> Result<u64> {
    if size == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let (driver, device) = (context.driver(), context.device());
    let too_much = driver.state().gpus[device.gpu].total.load(std::sync::atomic::Ordering::Relaxed) < size;
    if too_much {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let mut arena = lock(&device.arena);
    if let Room::Pages(bytes) = arena.room_for(size, context.handle) {
        driver.state().take(device.gpu, driver.process.client, bytes).map_err(|_| CudaError::OUT_OF_MEMORY)?;
    }
    Ok(arena.place(size, context.handle, kind))
}

/// Frees what was allocated with exactly this address.
pub(crate) fn free(driver: &Driver, address: u64) -> Result {
    let device = device_of(driver, address).ok_or(CudaError::INVALID_VALUE)?;
    let (allocation, freed) = lock(&device.arena).remove(address).ok_or(CudaError::INVALID_VALUE)?;
    match allocation.kind {
        Kind::Pool(pool) => {
            let pool = lock(&driver.pools).get(&pool).cloned().ok_or(CudaError::INVALID_VALUE)?;
            pool.freed(driver, allocation.size);
        }
        _ if freed > 0 => driver.state().give(device.gpu, driver.process.client, freed),
        _ => {}
    }
    Ok(())
}

/// Whether this is an address that the driver gives out, so never host memory.
pub(crate) fn is_device(address: u64) -> bool {
    Arena::gpu_of(address).is_some_and(|gpu| gpu < MAX_GPUS + RESERVED)
}

/// Whether all of these bytes are allocated, or mapped and accessible.
pub(crate) fn is_within(driver: &Driver, address: u64, size: u64) -> bool {
    match around(driver, address) {
        Some((_, found)) => address + size <= found.address + found.size,
        None => vmm::is_accessible(driver, address, size),
    }
}

/// The allocation that contains an address, with the ordinal of its GPU.
pub(crate) fn around(driver: &Driver, address: u64) -> Option<(i32, Allocation)> {
    let device = device_of(driver, address)?;
    let found = lock(&device.arena).around(address)?;
    Some((device.ordinal, found))
}

/// The GPU in whose range an address lies.
fn device_of(driver: &Driver, address: u64) -> Option<&Device> {
    let gpu = Arena::gpu_of(address)?;
    driver.devices.iter().find(|device| device.gpu == gpu)
}

fn pitched(
    context: &Context,
    out: Out<u64>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: c_uint,
) -> Result {
    let (out, pitch) = (out.wanted()?, pitch.wanted()?);
    if !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let row = width.checked_next_multiple_of(512).ok_or(CudaError::OUT_OF_MEMORY)?;
    let size = row.checked_mul(height).ok_or(CudaError::OUT_OF_MEMORY)?;
    out.put(allocate(context, size as u64, Kind::Linear)?)?;
    pitch.put(row)
}

api! {
    context Query: cuMemGetInfo_v2 (free: Out<usize>, total: Out<usize>) |context| {
        let seen = context.driver().state().seen(context.device().gpu);
        free.put(seen.free as usize)?;
        // Unlike NVML's, CUDA's total is without what the driver keeps for itself.
        total.put((seen.total - seen.reserved) as usize)
    }

    context Alloc: cuMemAlloc_v2 (out: Out<u64>, size: usize) |context| {
        let out = out.wanted()?;
        out.put(allocate(context, size as u64, Kind::Linear)?)
    }

    context Alloc: cuMemAllocPitch_v2
    (out: Out<u64>, pitch: Out<usize>, width: usize, height: usize, element: c_uint) |context| {
        pitched(context, out, pitch, width, height, element)
    }

    context Alloc: cuMemAllocManaged (out: Out<u64>, size: usize, flags: c_uint) |context| {
        let out = out.wanted()?;
        if !matches!(flags, 1 | 2) {
            return Err(CudaError::INVALID_VALUE);
        }
        out.put(allocate(context, size as u64, Kind::Managed)?)
    }

    context Free: cuMemFree_v2 (address: u64) |context| {
        // Freeing null is no error.
        if address == 0 { Ok(()) } else { free(context.driver(), address) }
    }

    context Query: cuMemGetAddressRange_v2 (base: Out<u64>, size: Out<usize>, address: u64) |context| {
        // Of addresses that several pieces of memory are mapped to, the one piece.
        let own = around(context.driver(), address).map(|(_, found)| (found.address, found.size));
        let mapped = || vmm::around(context.driver(), address).map(|(_, start, size)| (start, size));
        let (start, length) = own.or_else(mapped).ok_or(CudaError::NOT_FOUND)?;
        base.put_if_wanted(start);
        size.put_if_wanted(length as usize);
        Ok(())
    }
}
