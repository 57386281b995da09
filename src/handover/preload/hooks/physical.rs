//! Physical memory of the virtual memory management. It is freed when its last handle is released and its last mapping
//! undone, in either order, so both are counted. A piece of the balloon serves where its size and kind are just right.

use crate::driver::{self, SUCCESS, Status};
use crate::holder::{self, Turn};
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::{A_LITTLE, PAGE, current_gpu, insist, own_or_borrowed};
use crate::lending;
use crate::state::{State, state};
use crate::table::{Entry, Kind, Table};

pub const HOOKS: &[&Hook] = &[&CREATE, &RELEASE, &RETAIN, &MAP, &UNMAP];

/// `CUmemAllocationProp`.
#[repr(C)]
struct Properties {
    kind: u32,
    handle_types: u32,
    location: u32,
    id: i32,
    windows: usize,
    compression: u8,
    is_rdma_capable: u8,
    usage: u16,
    reserved: [u8; 4],
}

impl Properties {
    const DEVICE: u32 = 1;
    const PART_OF_DEVICE: u32 = 6;

    /// The device on which the memory is to be. Not the current one: the thread may have no context.
    fn device(&self) -> Option<i32> {
        match self.location {
            Self::DEVICE => Some(self.id),
            Self::PART_OF_DEVICE => Some(self.id & 0xff),
            _ => None,
        }
    }

    /// Whether the balloon's memory is of this kind. It is capable of RDMA wherever a device is.
    fn are_common(&self) -> bool {
        const PINNED: u32 = 1;
        const BY_DESCRIPTOR: u32 = 1;
        self.kind == PINNED
            && matches!(self.handle_types, 0 | BY_DESCRIPTOR)
            && self.location == Self::DEVICE
            && self.compression == 0
            && self.usage == 0
    }
}

hook! {
    CREATE = c"cuMemCreate", c"cuMemCreate", (10020, NEWEST), false;
    fn cuMemCreate(handle: *mut u64, size: usize, properties: *const Properties, flags: u64) |real| {
        // SAFETY: null, or the caller's properties, for which the caller vouches to the driver.
        let wanted = unsafe { properties.as_ref() };
        let device = wanted.and_then(Properties::device);
        let is_common = flags == 0 && wanted.is_some_and(Properties::are_common);
        // SAFETY: the caller's place for the handle, for which the caller vouches to the driver.
        let borrow = || is_common && unsafe { borrowed(handle, size as u64, device) };
        if lending::comes_first() && borrow() {
            return SUCCESS;
        }
        own_or_borrowed(size as u64, borrow, |need| {
            let gpu = || driver::uuid(device?);
            let status = insist(&mut Turn::default(), gpu, need, || real(handle, size, properties, flags));
            if status == SUCCESS {
                // SAFETY: where the driver succeeded it has written the handle.
                created(device, unsafe { *handle }, size as u64, OWN);
            }
            status
        })
    }
}

/// Puts the handle of a borrowed piece of exactly `size` bytes into its place, and says whether there is one.
///
/// # Safety
/// `place` is null or that of a handle.
unsafe fn borrowed(place: *mut u64, size: u64, device: Option<i32>) -> bool {
    if place.is_null() {
        return false;
    }
    let piece = || lending::piece(driver::uuid(device?)?, size);
    let Some((handle, loan)) = piece() else { return false };
    // SAFETY: promised by the caller, and not null.
    unsafe { *place = handle };
    created(device, handle, size, loan);
    true
}

/// Not a loan's number.
const OWN: u64 = 0;

/// Handles are reused as soon as they are released, while the memory behind them may live on. So the memory is known by a
/// number of ours, to which handles and mappings lead.
fn created(device: Option<i32>, handle: u64, size: u64, loan: u64) {
    let noted = || {
        let state = state()?;
        let gpu = state.gpu(device?)?;
        let mut table = state.table.lock();
        let number = table.next_number();
        let physical = Entry { key: number, size, owner: loan, kind: Kind::Physical, gpu, handles: 1, mappings: 0 };
        let handle = Entry { key: handle, size, owner: number, kind: Kind::Handle, gpu, handles: 1, mappings: 0 };
        let is_noted = table.insert(physical) && table.insert(handle);
        drop(table);
        if is_noted && loan == OWN {
            state.count(gpu, size.cast_signed());
        }
        Some(())
    };
    noted();
}

/// Memory that nothing refers to any more.
#[derive(Clone, Copy)]
struct Freed {
    gpu: u8,
    size: u64,
    loan: u64,
}

impl Freed {
    /// Tells the holder, which counts by itself what it has lent.
    fn tell(self, state: &State) {
        match self.loan {
            OWN => state.count(self.gpu, -self.size.cast_signed()),
            loan => {
                if let Some(gpu) = state.uuid(self.gpu) {
                    holder::give_back(gpu, loan, 0, 1);
                }
            }
        }
    }
}

/// What a change of the references to memory number `number` frees, if it was the last one.
fn freed(table: &mut Table, number: u64, change: impl FnOnce(&mut Entry)) -> Option<Freed> {
    let physical = table.get(Kind::Physical, number)?;
    change(physical);
    if physical.handles > 0 || physical.mappings > 0 {
        return None;
    }
    table.remove(Kind::Physical, number).map(|entry| Freed { gpu: entry.gpu, size: entry.size, loan: entry.owner })
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
    freed: Option<Freed>,
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
        if let Some(freed) = noted.freed {
            freed.tell(state);
        }
        return;
    }
    let Noted { handle: Entry { owner: number, size, gpu, handles, .. }, freed } = noted;
    let mut table = state.table.lock();
    match freed {
        Some(Freed { loan, .. }) => {
            table.insert(Entry { key: number, size, owner: loan, kind: Kind::Physical, gpu, handles: 1, mappings: 0 });
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
        // Tables of pages may take some.
        let status = insist(&mut Turn::default(), current_gpu, A_LITTLE, || real(address, size, offset, handle, flags));
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
        if let Some(freed) = freed {
            freed.tell(state);
        }
    }
}
