//! Linear memory and arrays: allocate first, count after; on out of memory have the holder give way. Linear memory may be
//! borrowed instead, and is then freed, looked up and shown to peers by way of [`lending`].

use crate::driver::{self, SUCCESS, Status};
use crate::holder::{Need, Turn};
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::{A_LITTLE, PAGE, current_gpu, insist, own_or_borrowed};
use crate::lending;
use crate::state::{allocated, freeing};
use crate::table::Kind;

pub const HOOKS: &[&Hook] = &[
    &ALLOC,
    &ALLOC_PITCH,
    &FREE,
    &PEER_ACCESS,
    &ARRAY_CREATE,
    &ARRAY_3D_CREATE,
    &ARRAY_DESTROY,
    &MIPMAPPED_CREATE,
    &MIPMAPPED_DESTROY,
];

/// Small allocations share pages of the GPU; large ones have their own.
const SMALL: u64 = 1 << 20;
const SMALL_UNIT: u64 = 512;

/// What an allocation of `size` bytes takes from the GPU, as near as one can tell from outside.
fn footprint(size: u64) -> u64 {
    size.checked_next_multiple_of(if size < SMALL { SMALL_UNIT } else { PAGE }).unwrap_or(size)
}

/// Puts the address of borrowed memory into its place, and says whether there is any.
///
/// # Safety
/// `place` is null or that of an address.
pub unsafe fn borrowed(place: *mut u64, size: u64) -> bool {
    let address = if size == 0 || place.is_null() { None } else { lending::allocate(size, footprint(size)) };
    // SAFETY: promised by the caller, and not null.
    address.map(|address| unsafe { *place = address }).is_some()
}

/// Calls the driver for what is needed and notes what came of it under the key that `key` reads.
fn allocate(kind: Kind, need: Need, key: impl FnOnce() -> u64, call: impl FnMut() -> Status) -> Status {
    let mut turn = Turn::default();
    let status = insist(&mut turn, current_gpu, need, call);
    if status == SUCCESS {
        allocated(kind, key(), footprint(need.bytes().unwrap_or(0)));
    }
    status
}

hook! {
    ALLOC = c"cuMemAlloc_v2", c"cuMemAlloc", (3020, NEWEST), false;
    fn cuMemAlloc_v2(address: *mut u64, size: usize) |real| {
        let borrow = || {
            // SAFETY: the caller's place for the address, for which the caller vouches to the driver.
            unsafe { borrowed(address, size as u64) }
        };
        // Small ones share what the driver has.
        if size as u64 >= SMALL && lending::comes_first() && borrow() {
            return SUCCESS;
        }
        own_or_borrowed(size as u64, borrow, |need| {
            // SAFETY: where the driver succeeded it has written the address.
            allocate(Kind::Memory, need, || unsafe { *address }, || real(address, size))
        })
    }
}

hook! {
    ALLOC_PITCH = c"cuMemAllocPitch_v2", c"cuMemAllocPitch", (3020, NEWEST), false;
    fn cuMemAllocPitch_v2(address: *mut u64, pitch: *mut usize, width: usize, height: usize, element: u32) |real| {
        let mut turn = Turn::default();
        let wanted = (width as u64).saturating_mul(height as u64);
        let status = insist(&mut turn, current_gpu, Need::Bytes(wanted), || real(address, pitch, width, height, element));
        if status == SUCCESS {
            // SAFETY: where the driver succeeded it has written both.
            let (address, pitch) = unsafe { (*address, *pitch) };
            allocated(Kind::Memory, address, footprint((pitch as u64).saturating_mul(height as u64)));
        }
        status
    }
}

hook! {
    FREE = c"cuMemFree_v2", c"cuMemFree", (3020, NEWEST), false;
    fn cuMemFree_v2(address: u64) |real| {
        lending::free(address).unwrap_or_else(|| freeing(Kind::Memory, address, || real(address)))
    }
}

hook! {
    PEER_ACCESS = c"cuCtxEnablePeerAccess", c"cuCtxEnablePeerAccess", (4000, NEWEST), false;
    fn cuCtxEnablePeerAccess(context: u64, flags: u32) |real| {
        // Tables of pages take some.
        let status = insist(&mut Turn::default(), current_gpu, A_LITTLE, || real(context, flags));
        if status == SUCCESS
            && let (Some(owner), Some(accessor)) = (driver::device_of(context), driver::current_device())
        {
            lending::peer_enabled(owner, accessor);
        }
        status
    }
}

/// `CUDA_ARRAY_DESCRIPTOR_v2`.
#[repr(C)]
struct Flat {
    width: usize,
    height: usize,
    format: u32,
    channels: u32,
}

/// `CUDA_ARRAY3D_DESCRIPTOR_v2`.
#[repr(C)]
struct Deep {
    width: usize,
    height: usize,
    depth: usize,
    format: u32,
    channels: u32,
    flags: u32,
}

impl Deep {
    /// `CUDA_ARRAY3D_SPARSE` and `CUDA_ARRAY3D_DEFERRED_MAPPING`: memory is mapped later.
    const WITHOUT_MEMORY: u32 = 0x40 | 0x80;

    fn size(&self) -> u64 {
        if self.flags & Self::WITHOUT_MEMORY != 0 {
            return 0;
        }
        let texels = [self.width, self.height.max(1), self.depth.max(1), self.channels as usize];
        texels.into_iter().fold(channel_size(self.format), |size, factor| size.saturating_mul(factor as u64))
    }
}

/// Bytes of one channel; of the video and block formats, about as much.
fn channel_size(format: u32) -> u64 {
    match format {
        0x03 | 0x0a | 0x20 => 4,
        0x02 | 0x09 | 0x10 | 0xc3..=0xc5 | 0xc9..=0xcb => 2,
        _ => 1,
    }
}

/// The size that a descriptor asks for.
///
/// # Safety
/// `descriptor` is null or points to one.
unsafe fn flat_size(descriptor: *const Flat) -> u64 {
    // SAFETY: promised by the caller.
    let flat = unsafe { descriptor.as_ref() };
    flat.map_or(0, |flat| {
        let &Flat { width, height, format, channels } = flat;
        Deep { width, height, depth: 0, format, channels, flags: 0 }.size()
    })
}

/// As [`flat_size`].
///
/// # Safety
/// `descriptor` is null or points to one.
unsafe fn deep_size(descriptor: *const Deep) -> u64 {
    // SAFETY: promised by the caller.
    unsafe { descriptor.as_ref() }.map_or(0, Deep::size)
}

hook! {
    ARRAY_CREATE = c"cuArrayCreate_v2", c"cuArrayCreate", (3020, NEWEST), false;
    fn cuArrayCreate_v2(array: *mut u64, descriptor: *const Flat) |real| {
        // SAFETY: the caller's descriptor, for which the caller vouches to the driver.
        let size = unsafe { flat_size(descriptor) };
        // SAFETY: where the driver succeeded it has written the handle.
        allocate(Kind::Array, Need::Bytes(size), || unsafe { *array }, || real(array, descriptor))
    }
}

hook! {
    ARRAY_3D_CREATE = c"cuArray3DCreate_v2", c"cuArray3DCreate", (3020, NEWEST), false;
    fn cuArray3DCreate_v2(array: *mut u64, descriptor: *const Deep) |real| {
        // SAFETY: the caller's descriptor, for which the caller vouches to the driver.
        let size = unsafe { deep_size(descriptor) };
        // SAFETY: where the driver succeeded it has written the handle.
        allocate(Kind::Array, Need::Bytes(size), || unsafe { *array }, || real(array, descriptor))
    }
}

hook! {
    ARRAY_DESTROY = c"cuArrayDestroy", c"cuArrayDestroy", (2000, NEWEST), false;
    fn cuArrayDestroy(array: u64) |real| {
        freeing(Kind::Array, array, || real(array))
    }
}

hook! {
    MIPMAPPED_CREATE = c"cuMipmappedArrayCreate", c"cuMipmappedArrayCreate", (5000, NEWEST), false;
    fn cuMipmappedArrayCreate(array: *mut u64, descriptor: *const Deep, levels: u32) |real| {
        // SAFETY: the caller's descriptor, for which the caller vouches to the driver.
        let size = unsafe { deep_size(descriptor) };
        // Each level has a quarter of the one above.
        let size = if levels > 1 { size.saturating_add(size / 3) } else { size };
        // SAFETY: where the driver succeeded it has written the handle.
        allocate(Kind::Array, Need::Bytes(size), || unsafe { *array }, || real(array, descriptor, levels))
    }
}

hook! {
    MIPMAPPED_DESTROY = c"cuMipmappedArrayDestroy", c"cuMipmappedArrayDestroy", (5000, NEWEST), false;
    fn cuMipmappedArrayDestroy(array: u64) |real| {
        freeing(Kind::Array, array, || real(array))
    }
}
