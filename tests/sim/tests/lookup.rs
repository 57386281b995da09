//! `cuGetProcAddress`: which symbol a program gets for a name, a CUDA version and flags.
#![expect(unsafe_code, reason = "calls into the driver")]

mod common;

use std::ffi::{CString, c_void};
use std::ptr;

use common::machine;

const FOUND: i32 = 0;
const NOT_FOUND: i32 = 1;
const VERSION_NOT_SUFFICIENT: i32 = 2;

fn symbol(name: &str) -> *mut c_void {
    // SAFETY: only the address is taken.
    unsafe { *machine().1.get::<*mut c_void>(name).unwrap() }
}

#[test]
fn the_newest_symbol_that_fits_is_found() {
    let table = [
        ("cuMemAlloc", 2000, 0, Ok("cuMemAlloc")),
        ("cuMemAlloc", 3020, 0, Ok("cuMemAlloc_v2")),
        ("cuMemAlloc", 13000, 2, Ok("cuMemAlloc_v2")),
        ("cuMemAlloc_v2", 13000, 0, Err(NOT_FOUND)),
        ("cuNoSuchThing", 13000, 0, Err(NOT_FOUND)),
        ("cuMemAllocAsync", 11010, 0, Err(VERSION_NOT_SUFFICIENT)),
        ("cuMemAllocAsync", 11020, 0, Ok("cuMemAllocAsync")),
        ("cuMemAllocAsync", 11020, 1, Ok("cuMemAllocAsync")),
        ("cuMemAllocAsync", 11020, 2, Ok("cuMemAllocAsync_ptsz")),
        ("cuMemcpyHtoD", 3020, 2, Err(VERSION_NOT_SUFFICIENT)),
        ("cuMemcpyHtoD", 7000, 2, Ok("cuMemcpyHtoD_v2_ptds")),
        ("cuCtxCreate", 11030, 0, Ok("cuCtxCreate_v2")),
        ("cuCtxCreate", 12050, 0, Ok("cuCtxCreate_v4")),
        ("cuGetProcAddress", 11030, 0, Ok("cuGetProcAddress")),
        ("cuGetProcAddress", 12000, 0, Ok("cuGetProcAddress_v2")),
    ];
    for (name, version, flags, expected) in table {
        let text = CString::new(name).unwrap();
        let (mut found, mut status) = (ptr::null_mut::<c_void>(), -1_i32);
        let (found_at, status_at) = (&raw mut found, &raw mut status);
        assert_eq!(call!("cuGetProcAddress_v2", text.as_ptr(), found_at, version, flags as u64, status_at), 0);
        let address = expected.map_or(ptr::null_mut(), symbol);
        assert_eq!((found, status), (address, expected.err().unwrap_or(FOUND)), "{name} {version} {flags}");
        // The first version has no place for a status.
        let result = call!("cuGetProcAddress", text.as_ptr(), found_at, version, flags as u64);
        assert_eq!(result, if expected.is_ok() { 0 } else { 500 }, "{name} {version} {flags}");
    }
}
