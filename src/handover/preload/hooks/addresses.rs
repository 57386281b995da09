//! What is known of an address. Of borrowed memory the driver knows only the piece that lies there, or all the addresses that
//! pieces may be mapped to; the job is told of the allocation that it made of them.

use core::ffi::c_void;

use crate::driver::{SUCCESS, Status};
use crate::heap::Use;
use crate::hook::{Hook, NEWEST, hook};
use crate::lending;

pub const HOOKS: &[&Hook] = &[&RANGE, &ATTRIBUTE, &ATTRIBUTES];

hook! {
    RANGE = c"cuMemGetAddressRange_v2", c"cuMemGetAddressRange", (3020, NEWEST), false;
    fn cuMemGetAddressRange_v2(base: *mut u64, size: *mut usize, address: u64) |real| {
        let status = real(base, size, address);
        if status == SUCCESS
            && let Some((first, of)) = lending::around(address)
        {
            // SAFETY: null, or the caller's places, for which the caller vouches to the driver.
            unsafe {
                if let Some(base) = base.as_mut() {
                    *base = first;
                }
                if let Some(size) = size.as_mut() {
                    *size = of.asked as usize;
                }
            }
        }
        status
    }
}

/// What a `CUpointer_attribute` is of an allocation, where the driver does not know; all of these are eight bytes long.
fn attribute(which: u32, (first, of): (u64, Use)) -> Option<u64> {
    const CONTEXT: u32 = 1;
    const RANGE_START: u32 = 11;
    const RANGE_SIZE: u32 = 12;
    match which {
        CONTEXT => Some(of.context),
        RANGE_START => Some(first),
        RANGE_SIZE => Some(of.asked),
        _ => None,
    }
}

/// Mends what the driver has told.
///
/// # Safety
/// The driver has written the attribute to `place`.
unsafe fn mend(which: u32, place: *mut c_void, allocation: (u64, Use)) {
    if let Some(value) = attribute(which, allocation) {
        // SAFETY: promised by the caller; the attribute is of this length.
        unsafe { place.cast::<u64>().write_unaligned(value) };
    }
}

hook! {
    ATTRIBUTE = c"cuPointerGetAttribute", c"cuPointerGetAttribute", (4000, NEWEST), false;
    fn cuPointerGetAttribute(place: *mut c_void, which: u32, address: u64) |real| {
        let status = real(place, which, address);
        if status == SUCCESS
            && let Some(allocation) = lending::around(address)
        {
            // SAFETY: the driver has succeeded.
            unsafe { mend(which, place, allocation) };
        }
        status
    }
}

hook! {
    ATTRIBUTES = c"cuPointerGetAttributes", c"cuPointerGetAttributes", (7000, NEWEST), false;
    fn cuPointerGetAttributes(count: u32, which: *const u32, places: *const *mut c_void, address: u64) |real| {
        let status: Status = real(count, which, places, address);
        if status == SUCCESS
            && let Some(allocation) = lending::around(address)
        {
            for at in 0..count as usize {
                // SAFETY: the driver has read as many of both, and written each.
                unsafe { mend(*which.add(at), *places.add(at), allocation) };
            }
        }
        status
    }
}
