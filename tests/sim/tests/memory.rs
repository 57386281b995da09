//! Device memory: what is refused, and what the GPU has left after each call. Each test has a GPU of its own.
#![expect(unsafe_code, reason = "calls into the driver and the system")]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{INVALID_CONTEXT, INVALID_VALUE, OUT_OF_MEMORY, machine, with_context};
use gpu_sim::{GB, MB};

const CONTEXT: u64 = 500 * MB;

fn used(gpu: usize) -> u64 {
    machine().0.used(gpu)
}

fn allocate(size: u64) -> u64 {
    let mut address = 0;
    assert_eq!(call!("cuMemAlloc_v2", &raw mut address, size as usize), 0);
    address
}

#[test]
fn large_allocations_take_whole_pages_and_small_ones_share_one() {
    with_context(0);
    assert_eq!(used(0), CONTEXT);
    let large = allocate(3 * MB);
    assert_eq!(used(0), CONTEXT + 4 * MB);
    let small: Vec<u64> = (0..8).map(|_| allocate(100)).collect();
    assert_eq!(used(0), CONTEXT + 6 * MB);
    assert!(small.iter().all(|address| address % 512 == 0));
    assert!(small.windows(2).all(|two| two[0] != two[1]));
    for address in small {
        assert_eq!(call!("cuMemFree_v2", address), 0);
    }
    assert_eq!(call!("cuMemFree_v2", large), 0);
    assert_eq!(used(0), CONTEXT);
}

#[test]
fn what_is_no_allocation_cannot_be_freed() {
    with_context(1);
    let address = allocate(4 * MB);
    assert_eq!(call!("cuMemFree_v2", 0_u64), 0);
    assert_eq!(call!("cuMemFree_v2", address + 512), INVALID_VALUE);
    assert_eq!(call!("cuMemFree_v2", 0x7fff_0000_0000_u64), INVALID_VALUE);
    assert_eq!(call!("cuMemFree_v2", address), 0);
    assert_eq!(call!("cuMemFree_v2", address), INVALID_VALUE);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut address = 0_u64;
    assert_eq!(call!("cuInit", 0_u32), 0);
    assert_eq!(call!("cuMemAlloc_v2", &raw mut address, 512_usize), INVALID_CONTEXT);
    with_context(2);
    assert_eq!(call!("cuMemAlloc_v2", &raw mut address, 0_usize), INVALID_VALUE);
    assert_eq!(call!("cuMemAlloc_v2", ptr::null_mut::<u64>(), 512_usize), INVALID_VALUE);
    assert_eq!(call!("cuMemAlloc_v2", &raw mut address, usize::MAX), OUT_OF_MEMORY);
    assert_eq!(call!("cuMemAlloc_v2", &raw mut address, 8 * GB as usize), OUT_OF_MEMORY);
    assert_eq!(used(2), CONTEXT);
}

#[test]
fn the_whole_gpu_can_be_taken_and_not_a_byte_more() {
    with_context(3);
    let (mut free, mut total) = (0_usize, 0_usize);
    assert_eq!(call!("cuMemGetInfo_v2", &raw mut free, &raw mut total), 0);
    assert_eq!((free as u64, total as u64), (8 * GB - CONTEXT, 8 * GB));
    let all = allocate(free as u64);
    let mut more = 0_u64;
    assert_eq!(call!("cuMemAlloc_v2", &raw mut more, 1_usize), OUT_OF_MEMORY);
    assert_eq!(call!("cuMemFree_v2", all), 0);
}

#[test]
fn a_context_takes_its_memory_with_it() {
    let mut context = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuInit", 0_u32), 0);
    assert_eq!(call!("cuCtxCreate_v2", &raw mut context, 0_u32, 4_i32), 0);
    let address = allocate(64 * MB);
    allocate(100);
    assert_eq!(used(4), CONTEXT + 66 * MB);
    assert_eq!(call!("cuCtxDestroy_v2", context), 0);
    assert_eq!(used(4), 0);
    assert_eq!(call!("cuMemFree_v2", address), INVALID_CONTEXT);
    assert_eq!(call!("cuCtxSetCurrent", context), INVALID_CONTEXT);
}

#[test]
fn the_primary_context_lives_until_its_last_user_lets_go() {
    let context = with_context(5);
    let mut again = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuDevicePrimaryCtxRetain", &raw mut again, 5_i32), 0);
    assert_eq!(context, again);
    assert_eq!(used(5), CONTEXT);
    assert_eq!(call!("cuDevicePrimaryCtxRelease_v2", 5_i32), 0);
    assert_eq!(used(5), CONTEXT);
    assert_eq!(call!("cuDevicePrimaryCtxRelease_v2", 5_i32), 0);
    assert_eq!(used(5), 0);
    assert_eq!(call!("cuDevicePrimaryCtxRelease_v2", 5_i32), INVALID_CONTEXT);
    // It is still on this thread's stack, but no more.
    assert_eq!(call!("cuCtxSynchronize"), 709);
}

#[test]
fn pools_keep_freed_memory_until_somebody_waits() {
    with_context(6);
    let (mut pool, mut reserved) = (ptr::null_mut::<c_void>(), 0_u64);
    assert_eq!(call!("cuDeviceGetDefaultMemPool", &raw mut pool, 6_i32), 0);
    let mut address = 0_u64;
    let stream = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuMemAllocAsync", &raw mut address, 100 * MB as usize, stream), 0);
    assert_eq!(call!("cuMemPoolGetAttribute", pool, 5_i32, &raw mut reserved), 0);
    assert_eq!(reserved, 128 * MB);
    assert_eq!(call!("cuMemFreeAsync", address, stream), 0);
    assert_eq!(call!("cuMemFreeAsync", address, stream), INVALID_VALUE);
    assert_eq!(used(6), CONTEXT + reserved);

    let threshold = 64 * MB;
    assert_eq!(call!("cuMemPoolSetAttribute", pool, 4_i32, &raw const threshold), 0);
    assert_eq!(call!("cuStreamSynchronize", stream), 0);
    assert_eq!(used(6), CONTEXT + threshold);
    assert_eq!(call!("cuMemPoolTrimTo", pool, 0_usize), 0);
    assert_eq!(used(6), CONTEXT);
}

#[test]
fn physical_memory_lives_while_a_handle_or_a_mapping_needs_it() {
    with_context(7);
    let (mut handle, mut address, page) = (0_u64, 0_u64, 2 * MB as usize);
    // type pinned, no handles, location: device 7.
    let properties: [u32; 8] = [1, 0, 1, 7, 0, 0, 0, 0];
    assert_eq!(call!("cuMemCreate", &raw mut handle, page - 1, properties.as_ptr(), 0_u64), INVALID_VALUE);
    assert_eq!(call!("cuMemCreate", &raw mut handle, page, properties.as_ptr(), 0_u64), 0);
    assert_eq!(call!("cuMemAddressReserve", &raw mut address, 2 * page, 0_usize, 0_u64, 0_u64), 0);
    assert_eq!(call!("cuMemMap", address, page, 0_usize, handle, 0_u64), 0);
    assert_eq!(call!("cuMemMap", address, page, 0_usize, handle, 0_u64), INVALID_VALUE);
    assert_eq!(call!("cuMemsetD8_v2", address, 1_u8, 16_usize), INVALID_VALUE);
    let access: [u32; 3] = [1, 7, 3];
    assert_eq!(call!("cuMemSetAccess", address, page, access.as_ptr(), 1_usize), 0);
    assert_eq!(call!("cuMemsetD8_v2", address, 1_u8, 16_usize), 0);
    assert_eq!(call!("cuMemRelease", handle), 0);
    assert_eq!(call!("cuMemRelease", handle), INVALID_VALUE);
    assert_eq!(used(7), CONTEXT + 2 * MB);
    assert_eq!(call!("cuMemAddressFree", address, 2 * page), INVALID_VALUE);
    assert_eq!(call!("cuMemUnmap", address, page), 0);
    assert_eq!(used(7), CONTEXT);
    assert_eq!(call!("cuMemAddressFree", address, 2 * page), 0);
}

#[test]
fn addresses_far_out_are_the_gpus_too_and_are_not_without_end() {
    with_context(10);
    let (mut handle, mut far, mut address, page) = (0_u64, 0_u64, 0_u64, 2 * MB as usize);
    let properties: [u32; 8] = [1, 0, 1, 10, 0, 0, 0, 0];
    let many = 9_usize << 40;
    assert_eq!(call!("cuMemAddressReserve", &raw mut far, many, 0_usize, 0_u64, 0_u64), 0);
    assert_eq!(call!("cuMemAddressReserve", &raw mut far, many, 0_usize, 0_u64, 0_u64), OUT_OF_MEMORY);
    assert_eq!(call!("cuMemAddressReserve", &raw mut address, page, 0_usize, 0_u64, 0_u64), 0);
    assert_eq!(call!("cuMemCreate", &raw mut handle, page, properties.as_ptr(), 0_u64), 0);
    assert_eq!(call!("cuMemMap", address, page, 0_usize, handle, 0_u64), 0);
    let access: [u32; 3] = [1, 10, 3];
    assert_eq!(call!("cuMemSetAccess", address, page, access.as_ptr(), 1_usize), 0);
    let mut back = [0_u8; 16];
    assert_eq!(call!("cuMemsetD8_v2", address, 7_u8, 16_usize), 0);
    assert_eq!(call!("cuMemcpyDtoH_v2", back.as_mut_ptr(), address, 16_usize), 0);
    assert_eq!(back, [7; 16]);
}

#[test]
fn copies_stay_within_an_allocation() {
    with_context(8);
    let (sent, mut back) = ([0x5a_u8; 64], [0_u8; 64]);
    let address = allocate(64);
    assert_eq!(call!("cuMemcpyHtoD_v2", address, sent.as_ptr(), 64_usize), 0);
    assert_eq!(call!("cuMemcpyDtoH_v2", back.as_mut_ptr(), address, 64_usize), 0);
    assert_eq!(back, sent);
    assert_eq!(call!("cuMemcpyHtoD_v2", address, sent.as_ptr(), 65_usize), INVALID_VALUE);
    assert_eq!(call!("cuMemFree_v2", address), 0);
    assert_eq!(call!("cuMemcpyDtoH_v2", back.as_mut_ptr(), address, 64_usize), INVALID_VALUE);
}

#[test]
fn a_lost_gpu_refuses_everything() {
    with_context(9);
    let address = allocate(MB);
    machine().0.lose_gpu(9, 999);
    assert_eq!(call!("cuMemFree_v2", address), 999);
    assert_eq!(call!("cuDevicePrimaryCtxRelease_v2", 9_i32), 0);
    let mut context = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuDevicePrimaryCtxRetain", &raw mut context, 9_i32), 999);
}

#[test]
fn an_unknown_device_is_no_device() {
    let mut context = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuInit", 0_u32), 0);
    for ordinal in [-1_i32, 16] {
        assert_eq!(call!("cuDevicePrimaryCtxRetain", &raw mut context, ordinal), common::INVALID_DEVICE);
    }
}
