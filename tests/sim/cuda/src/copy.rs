//! Copies and fills. They are done when the call returns, on whatever stream.

use std::ptr;

use crate::abi::{Result, api};
use crate::backing;
use crate::driver::Driver;
use crate::errors::CudaError;
use crate::memory;

/// One side of a copy.
enum Place {
    Bytes(*mut u8),
    /// Device memory whose bytes the system gives no room for.
    Nowhere,
}

fn place(driver: &Driver, address: u64, size: usize) -> Result<Place> {
    if address == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    if !memory::is_device(address) {
        return Ok(Place::Bytes(ptr::with_exposed_provenance_mut(address as usize)));
    }
    match memory::is_within(driver, address, size as u64) {
        true => Ok(backing::of(address).map_or(Place::Nowhere, Place::Bytes)),
        false => Err(CudaError::INVALID_VALUE),
    }
}

fn copy(driver: &Driver, to: u64, from: u64, size: usize) -> Result {
    if size == 0 {
        return Ok(());
    }
    let (target, source) = (place(driver, to, size)?, place(driver, from, size)?);
    if memory::is_device(to) && !backing::may_keep(size) {
        return Ok(());
    }
    if let (Place::Bytes(to), Place::Bytes(from)) = (target, source) {
        // SAFETY: device memory was looked up; host memory is the caller's for this size, as the call demands.
        unsafe { ptr::copy(from, to, size) };
    }
    Ok(())
}

fn fill<const N: usize>(driver: &Driver, to: u64, value: [u8; N], count: usize) -> Result {
    if !to.is_multiple_of(N as u64) {
        return Err(CudaError::INVALID_VALUE);
    }
    let size = count.checked_mul(N).ok_or(CudaError::INVALID_VALUE)?;
    if size == 0 {
        return Ok(());
    }
    let target = place(driver, to, size)?;
    if value == [0; N] && memory::is_device(to) {
        backing::zero(to, size as u64);
    } else if !memory::is_device(to) || backing::may_keep(size) {
        let Place::Bytes(to) = target else { return Ok(()) };
        for index in 0..count {
            // SAFETY: as for a copy.
            unsafe { to.add(index * N).cast::<[u8; N]>().write_unaligned(value) };
        }
    }
    Ok(())
}

// What follows the size (streams, contexts) makes no difference here, so it is not declared.
api! {
    context Copy: cuMemcpy | cuMemcpy_ptds | cuMemcpyAsync | cuMemcpyAsync_ptsz
    | cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds | cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz
    | cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds | cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz
    | cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds | cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz
    (to: u64, from: u64, size: usize) |context| {
        copy(context.driver(), to, from, size)
    }

    context Copy: cuMemcpyPeer | cuMemcpyPeer_ptds | cuMemcpyPeerAsync | cuMemcpyPeerAsync_ptsz
    (to: u64, _to_context: usize, from: u64, _from_context: usize, size: usize) |context| {
        copy(context.driver(), to, from, size)
    }

    context Copy: cuMemsetD8_v2 | cuMemsetD8_v2_ptds | cuMemsetD8Async | cuMemsetD8Async_ptsz
    (to: u64, value: u8, count: usize) |context| {
        fill(context.driver(), to, [value], count)
    }

    context Copy: cuMemsetD16_v2 | cuMemsetD16_v2_ptds | cuMemsetD16Async | cuMemsetD16Async_ptsz
    (to: u64, value: u16, count: usize) |context| {
        fill(context.driver(), to, value.to_ne_bytes(), count)
    }

    context Copy: cuMemsetD32_v2 | cuMemsetD32_v2_ptds | cuMemsetD32Async | cuMemsetD32Async_ptsz
    (to: u64, value: u32, count: usize) |context| {
        fill(context.driver(), to, value.to_ne_bytes(), count)
    }

    context Copy: cuMemcpy2D_v2 | cuMemcpy2D_v2_ptds | cuMemcpy2DUnaligned_v2 | cuMemcpy2DUnaligned_v2_ptds
    | cuMemcpy2DAsync_v2 | cuMemcpy2DAsync_v2_ptsz | cuMemcpy3D_v2 | cuMemcpy3D_v2_ptds | cuMemcpy3DAsync_v2
    | cuMemcpy3DAsync_v2_ptsz | cuMemcpy3DPeer | cuMemcpy3DPeer_ptds | cuMemcpy3DPeerAsync
    | cuMemcpy3DPeerAsync_ptsz | cuMemcpyAtoA_v2 | cuMemcpyAtoA_v2_ptds | cuMemcpyAtoD_v2 | cuMemcpyAtoD_v2_ptds
    | cuMemcpyAtoH_v2 | cuMemcpyAtoH_v2_ptds | cuMemcpyAtoHAsync_v2 | cuMemcpyAtoHAsync_v2_ptsz
    | cuMemcpyDtoA_v2 | cuMemcpyDtoA_v2_ptds | cuMemcpyHtoA_v2 | cuMemcpyHtoA_v2_ptds | cuMemcpyHtoAAsync_v2
    | cuMemcpyHtoAAsync_v2_ptsz | cuMemcpyBatchAsync | cuMemcpyBatchAsync_ptsz | cuMemcpyBatchAsync_v2
    | cuMemcpyBatchAsync_v2_ptsz | cuMemcpy3DBatchAsync | cuMemcpy3DBatchAsync_ptsz | cuMemcpy3DBatchAsync_v2
    | cuMemcpy3DBatchAsync_v2_ptsz | cuMemsetD2D8_v2 | cuMemsetD2D8_v2_ptds | cuMemsetD2D8Async
    | cuMemsetD2D8Async_ptsz | cuMemsetD2D16_v2 | cuMemsetD2D16_v2_ptds | cuMemsetD2D16Async
    | cuMemsetD2D16Async_ptsz | cuMemsetD2D32_v2 | cuMemsetD2D32_v2_ptds | cuMemsetD2D32Async
    | cuMemsetD2D32Async_ptsz | cuMemAdvise | cuMemAdvise_v2 | cuMemPrefetchAsync | cuMemPrefetchAsync_ptsz
    | cuMemPrefetchAsync_v2 | cuMemPrefetchAsync_v2_ptsz | cuMemPrefetchBatchAsync | cuMemPrefetchBatchAsync_ptsz
    | cuMemDiscardBatchAsync | cuMemDiscardBatchAsync_ptsz | cuMemDiscardAndPrefetchBatchAsync
    | cuMemDiscardAndPrefetchBatchAsync_ptsz () |_| {
        // Shapes and hints: taken, and nothing moves.
        Ok(())
    }
}
