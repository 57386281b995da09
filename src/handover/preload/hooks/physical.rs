//! Physical memory of the virtual memory management. It is freed when its last handle is released and its last mapping
//! undone, in either order, so both are counted.

use crate::driver::{self, SUCCESS, Status};
use crate::holder::{Need, Turn};
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::{A_LITTLE, current_gpu, insist};
use crate::state::{State, state};
use crate::table::{Entry, Kind, Table};

pub const HOOKS: &[&Hook] = &[&CREATE, &RELEASE, &RETAIN, &MAP, &UNMAP];

/// The granularity of mappings.
const PAGE: u64 = 2 << 20;

/// `CUmemAllocationProp`, as far as it is of interest.
#[repr(C)]
struct Properties {
    kind: u32,
    handle_types: u32,
    location: u32,
    id: i32,
}

/// The device on which memory is to be. Not the current one: the thread may have no context.
///
/// # Safety
/// `properties` is null or points to some.
unsafe fn device(properties: *const Properties) -> Option<i32> {
    const DEVICE: u32 = 1;
    const PART_OF_DEVICE: u32 = 6;
    // SAFETY: promised by the caller.
    match unsafe { properties.as_ref() }? {
        Properties { location: DEVICE, id, .. } => Some(*id),
        Properties { location: PART_OF_DEVICE, id, .. } => Some(id & 0xff),
        _ => None,
    }
}

hook! {
    CREATE = c"cuMemCreate", c"cuMemCreate", (10020, NEWEST), false;
    fn cuMemCreate(handle: *mut u64, size: usize, properties: *const Properties, flags: u64) |real| {
        // SAFETY: the caller's properties, for which the caller vouches to the driver.
        let device = unsafe { device(properties) };
        let mut turn = Turn::default();
        let gpu = || driver::uuid(device?);
        let status = insist(&mut turn, gpu, Need::Bytes(size as u64), || real(handle, size, properties, flags));
        if status == SUCCESS
            && let (Some(state), Some(device)) = (state(), device)
            && let Some(gpu) = state.gpu(device)
        {
            // SAFETY: where the driver succeeded it has written the handle.
            created(state, unsafe { *handle }, size as u64, gpu);
        }
        status
    }
}

/// Handles are reused as soon as they are released, while the memory behind them may live on. So the memory is known by a
/// number of ours, to which handles and mappings lead.
fn created(state: &State, handle: u64, size: u64, gpu: u8) {
    let mut table = state.table.lock();
    let number = table.next_number();
    let physical = Entry { key: number, size, owner: 0, kind: Kind::Physical, gpu, handles: 1, mappings: 0 };
    let handle = Entry { key: handle, size, owner: number, kind: Kind::Handle, gpu, handles: 1, mappings: 0 };
    if table.insert(physical) && table.insert(handle) {
        drop(table);
        state.count(gpu, size.cast_signed());
    }
}

/// What a change of the references to memory number `number` frees: GPU and bytes, if it was the last one.
fn freed(table: &mut Table, number: u64, change: impl FnOnce(&mut Entry)) -> Option<(u8, u64)> {
    let physical = table.get(Kind::Physical, number)?;
    change(physical);
    if physical.handles > 0 || physical.mappings > 0 {
        return None;
    }
    table.remove(Kind::Physical, number).map(|entry| (entry.gpu, entry.size))
}

hook! {
    RELEASE = c"cuMemRelease", c"cuMemRelease", (10020, NEWEST), false;
    fn cuMemRelease(handle: u64) |real| {
        let Some(state) = state() else { return real(handle) };
        // Noted before the driver frees the handle for another thread to get.
        let noted = release(state, handle);
        let status = real(handle);
        if let Some(noted) = noted {
            settle(state, handle, noted, status);
        }
        status
    }
}

/// A release that the driver has yet to agree to.
struct Noted {
    handle: Entry,
    freed: Option<(u8, u64)>,
}

fn release(state: &State, handle: u64) -> Option<Noted> {
    let mut table = state.table.lock();
    let entry = table.get(Kind::Handle, handle)?;
    let before = *entry;
    entry.handles -= 1;
    if entry.handles == 0 {
        table.remove(Kind::Handle, handle);
    }
    Some(Noted { handle: before, freed: freed(&mut table, before.owner, |physical| physical.handles -= 1) })
}

fn settle(state: &State, handle: u64, noted: Noted, status: Status) {
    if status == SUCCESS {
        if let Some((gpu, size)) = noted.freed {
            state.count(gpu, -size.cast_signed());
        }
        return;
    }
    let Noted { handle: Entry { owner: number, size, gpu, handles, .. }, freed } = noted;
    let mut table = state.table.lock();
    match freed {
        Some(_) => {
            table.insert(Entry { key: number, size, owner: 0, kind: Kind::Physical, gpu, handles: 1, mappings: 0 });
        }
        None => {
            if let Some(physical) = table.get(Kind::Physical, number) {
                physical.handles += 1;
            }
        }
    }
    table.remove(Kind::Handle, handle);
    table.insert(Entry { key: handle, size, owner: number, kind: Kind::Handle, gpu, handles, mappings: 0 });
}

hook! {
    RETAIN = c"cuMemRetainAllocationHandle", c"cuMemRetainAllocationHandle", (11000, NEWEST), false;
    fn cuMemRetainAllocationHandle(handle: *mut u64, address: u64) |real| {
        let status = real(handle, address);
        if status == SUCCESS
            && let Some(state) = state()
        {
            // SAFETY: where the driver succeeded it has written the handle.
            retained(&mut state.table.lock(), unsafe { *handle }, address);
        }
        status
    }
}

fn retained(table: &mut Table, handle: u64, address: u64) {
    let number = match table.get(Kind::Handle, handle) {
        Some(entry) => {
            entry.handles += 1;
            entry.owner
        }
        None => {
            let Some(&mut Entry { owner, size, gpu, .. }) = table.get(Kind::Mapping, address) else { return };
            table.insert(Entry { key: handle, size, owner, kind: Kind::Handle, gpu, handles: 1, mappings: 0 });
            owner
        }
    };
    if let Some(physical) = table.get(Kind::Physical, number) {
        physical.handles += 1;
    }
}

hook! {
    MAP = c"cuMemMap", c"cuMemMap", (10020, NEWEST), false;
    fn cuMemMap(address: u64, size: usize, offset: usize, handle: u64, flags: u64) |real| {
        let mut turn = Turn::default();
        // Tables of pages may take some.
        let status = insist(&mut turn, current_gpu, A_LITTLE, || real(address, size, offset, handle, flags));
        if status == SUCCESS
            && let Some(state) = state()
        {
            mapped(&mut state.table.lock(), address, size as u64, handle);
        }
        status
    }
}

fn mapped(table: &mut Table, address: u64, size: u64, handle: u64) {
    let Some(&mut Entry { owner: number, gpu, .. }) = table.get(Kind::Handle, handle) else { return };
    let mapping = Entry { key: address, size, owner: number, kind: Kind::Mapping, gpu, handles: 0, mappings: 0 };
    if table.insert(mapping)
        && let Some(physical) = table.get(Kind::Physical, number)
    {
        physical.mappings += 1;
    }
}

hook! {
    UNMAP = c"cuMemUnmap", c"cuMemUnmap", (10020, NEWEST), false;
    fn cuMemUnmap(address: u64, size: usize) |real| {
        let status = real(address, size);
        if status == SUCCESS
            && let Some(state) = state()
        {
            unmapped(state, address, size as u64);
        }
        status
    }
}

/// One call may undo several adjacent mappings.
fn unmapped(state: &State, address: u64, size: u64) {
    let mut at = address;
    let end = address.saturating_add(size);
    while at < end {
        let mut table = state.table.lock();
        let Some(mapping) = table.remove(Kind::Mapping, at) else {
            at += PAGE;
            continue;
        };
        at += mapping.size.max(1);
        let freed = freed(&mut table, mapping.owner, |physical| physical.mappings -= 1);
        drop(table);
        if let Some((gpu, size)) = freed {
            state.count(gpu, -size.cast_signed());
        }
    }
}
