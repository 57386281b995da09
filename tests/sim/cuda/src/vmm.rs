//! Physical memory and addresses apart: `cuMemCreate`, `cuMemAddressReserve`, `cuMemMap`.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::{Arc, OnceLock};

use gpu_sim_state::{GRANULARITY, MAX_GPUS, Share};

use crate::abi::{In, Out, Result, api};
use crate::arena::{ADDRESSES_PER_GPU, Addresses, FIRST_ADDRESS, RESERVED};
use crate::backing;
use crate::descriptor;
use crate::driver::{Driver, lock};
use crate::errors::CudaError;

/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const DESCRIPTOR: c_uint = 1;
/// Where the addresses that can be reserved begin and end.
const BEGIN: u64 = FIRST_ADDRESS + MAX_GPUS as u64 * ADDRESSES_PER_GPU;
const END: u64 = BEGIN + RESERVED as u64 * ADDRESSES_PER_GPU;
/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: c_uint = 3;
/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const ON_DEVICE: c_int = 1;

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location_kind: c_uint,
    location: c_int,
    windows: *const c_void,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Access {
    location_kind: c_uint,
    location: c_int,
    flags: c_uint,
}

/// Memory of a GPU, given back when neither a handle nor a mapping needs it.
pub(crate) struct Physical {
    gpu: usize,
    size: u64,
    properties: Properties,
    driver: &'static Driver,
    /// Under which other processes can hold it, too.
    share: OnceLock<Share>,
}

// SAFETY: the pointer in the properties is never followed.
unsafe impl Send for Physical {}
// SAFETY: as above.
unsafe impl Sync for Physical {}

impl Drop for Physical {
    fn drop(&mut self) {
        let (state, client) = (self.driver.state(), self.driver.process.client);
        match self.share.get() {
            Some(share) => state.leave_share(*share, client),
            None => state.give(self.gpu, client, self.size),
        }
    }
}

pub(crate) struct Vmm {
    addresses: Addresses,
    next_handle: u64,
    /// With how often each must be released.
    handles: HashMap<u64, (Arc<Physical>, u32)>,
    /// Size by start.
    reservations: BTreeMap<u64, u64>,
    mappings: BTreeMap<u64, Mapping>,
}

struct Mapping {
    size: u64,
    physical: Arc<Physical>,
    handle: u64,
    /// By ordinal: what the device may do.
    access: BTreeMap<c_int, c_uint>,
}

impl Mapping {
    fn is_accessible(&self) -> bool {
        self.access.values().any(|flags| *flags == READ_WRITE)
    }
}

impl Default for Vmm {
    fn default() -> Self {
        Self {
            addresses: Addresses::from(BEGIN),
            next_handle: 0x7000_0000_0000_0001,
            handles: HashMap::new(),
            reservations: BTreeMap::new(),
            mappings: BTreeMap::new(),
        }
    }
}

impl Vmm {
    /// The handle of memory under a user's count of one.
    fn adopt(&mut self, physical: Arc<Physical>) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(handle, (physical, 1));
        handle
    }

    /// The memory of a share that this process already has.
    fn of_share(&self, share: Share) -> Option<Arc<Physical>> {
        let named = self.handles.values().map(|(physical, _)| physical);
        let mapped = self.mappings.values().map(|mapping| &mapping.physical);
        named.chain(mapped).find(|physical| physical.share.get() == Some(&share)).cloned()
    }

    fn around(&self, address: u64) -> Option<(u64, &Mapping)> {
        let (&start, mapping) = self.mappings.range(..=address).next_back()?;
        (address < start + mapping.size).then_some((start, mapping))
    }

    /// Whether every byte is mapped and may be touched.
    fn is_accessible(&self, address: u64, size: u64) -> bool {
        let (mut at, end) = (address, address + size);
        while at < end {
            match self.around(at) {
                Some((start, mapping)) if mapping.is_accessible() => at = start + mapping.size,
                _ => return false,
            }
        }
        true
    }

    /// The starts of the mappings that fill a range exactly.
    fn filling(&self, address: u64, size: u64) -> Result<Vec<u64>> {
        let (mut at, mut starts) = (address, Vec::new());
        while at < address + size {
            let mapping = self.mappings.get(&at).ok_or(CudaError::INVALID_VALUE)?;
            starts.push(at);
            at += mapping.size;
        }
        if at == address + size { Ok(starts) } else { Err(CudaError::INVALID_VALUE) }
    }
}

fn whole_pages(size: u64) -> Result<u64> {
    if size == 0 || !size.is_multiple_of(GRANULARITY) { Err(CudaError::INVALID_VALUE) } else { Ok(size) }
}

fn on_gpu(properties: Properties) -> Result<c_int> {
    match (properties.kind, properties.location_kind) {
        (1, 1) => Ok(properties.location),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

pub(crate) fn is_accessible(driver: &Driver, address: u64, size: u64) -> bool {
    lock(&driver.vmm).is_accessible(address, size)
}

/// The ordinal, start and size of the mapping that contains an address.
pub(crate) fn around(driver: &Driver, address: u64) -> Option<(i32, u64, u64)> {
    let vmm = lock(&driver.vmm);
    let (start, mapping) = vmm.around(address)?;
    Some((mapping.physical.properties.location, start, mapping.size))
}

api! {
    driver Alloc: cuMemCreate
    (out: Out<c_ulonglong>, size: usize, properties: In<Properties>, flags: c_ulonglong) |driver| {
        let out = out.wanted()?;
        let (size, properties) = (whole_pages(size as u64)?, properties.get()?);
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let gpu = driver.device(on_gpu(properties)?)?.gpu;
        driver.present(gpu)?;
        driver.state().take(gpu, driver.process.client, size).map_err(|_| CudaError::OUT_OF_MEMORY)?;
        let physical = Arc::new(Physical { gpu, size, properties, driver, share: OnceLock::new() });
        out.put(lock(&driver.vmm).adopt(physical))
    }

    driver Free: cuMemRelease (handle: c_ulonglong) |driver| {
        let mut vmm = lock(&driver.vmm);
        let (physical, users) = vmm.handles.get_mut(&handle).ok_or(CudaError::INVALID_VALUE)?;
        driver.present(physical.gpu)?;
        *users -= 1;
        if *users == 0 {
            vmm.handles.remove(&handle);
        }
        Ok(())
    }

    driver Other: cuMemAddressReserve
    (out: Out<u64>, size: usize, alignment: usize, _wanted: u64, flags: c_ulonglong) |driver| {
        let out = out.wanted()?;
        let size = whole_pages(size as u64)?;
        if flags != 0 || (alignment != 0 && !alignment.is_power_of_two()) {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut vmm = lock(&driver.vmm);
        let address = vmm.addresses.take_aligned(size, (alignment as u64).max(GRANULARITY));
        if address.saturating_add(size) > END {
            vmm.addresses = Addresses::from(address);
            return Err(CudaError::OUT_OF_MEMORY);
        }
        vmm.reservations.insert(address, size);
        out.put(address)
    }

    driver Other: cuMemAddressFree (address: u64, size: usize) |driver| {
        let (mut vmm, size) = (lock(&driver.vmm), size as u64);
        let is_mapped = vmm.mappings.range(address..address + size).next().is_some();
        if vmm.reservations.get(&address) != Some(&size) || is_mapped {
            return Err(CudaError::INVALID_VALUE);
        }
        vmm.reservations.remove(&address);
        Ok(())
    }

    driver Other: cuMemMap
    (address: u64, size: usize, offset: usize, handle: c_ulonglong, flags: c_ulonglong) |driver| {
        let size = whole_pages(size as u64)?;
        let mut vmm = lock(&driver.vmm);
        let physical = vmm.handles.get(&handle).ok_or(CudaError::INVALID_VALUE)?.0.clone();
        let reserved = vmm.reservations.range(..=address).next_back();
        let fits = reserved.is_some_and(|(start, length)| address + size <= start + length);
        let is_free = vmm.around(address).is_none() && vmm.mappings.range(address..address + size).next().is_none();
        if offset != 0 || flags != 0 || size > physical.size || !fits || !is_free || !address.is_multiple_of(GRANULARITY) {
            return Err(CudaError::INVALID_VALUE);
        }
        vmm.mappings.insert(address, Mapping { size, physical, handle, access: BTreeMap::new() });
        Ok(())
    }

    driver Free: cuMemUnmap (address: u64, size: usize) |driver| {
        let mut vmm = lock(&driver.vmm);
        for start in vmm.filling(address, whole_pages(size as u64)?)? {
            vmm.mappings.remove(&start);
        }
        backing::forget(address, size as u64);
        Ok(())
    }

    driver Other: cuMemSetAccess (address: u64, size: usize, access: In<Access>, count: usize) |driver| {
        let mut vmm = lock(&driver.vmm);
        let starts = vmm.filling(address, whole_pages(size as u64)?)?;
        for index in 0..count {
            let Access { location_kind, location, flags } = access.at(index).get()?;
            if location_kind != ON_DEVICE as c_uint {
                return Err(CudaError::INVALID_VALUE);
            }
            driver.device(location)?;
            for start in &starts {
                vmm.mappings.entry(*start).and_modify(|mapping| {
                    mapping.access.insert(location, flags);
                });
            }
        }
        Ok(())
    }

    driver Query: cuMemGetAccess (flags: Out<c_ulonglong>, location: In<[c_int; 2]>, address: u64) |driver| {
        let [ON_DEVICE, device] = location.get()? else { return Err(CudaError::INVALID_VALUE) };
        let vmm = lock(&driver.vmm);
        let (_, mapping) = vmm.around(address).ok_or(CudaError::INVALID_VALUE)?;
        flags.put(mapping.access.get(&device).copied().unwrap_or(0).into())
    }

    driver Query: cuMemGetAllocationGranularity (out: Out<usize>, properties: In<Properties>, which: c_uint) |driver| {
        let out = out.wanted()?;
        driver.device(on_gpu(properties.get()?)?)?;
        if which > 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        out.put(GRANULARITY as usize)
    }

    driver Query: cuMemGetAllocationPropertiesFromHandle (out: Out<Properties>, handle: c_ulonglong) |driver| {
        let vmm = lock(&driver.vmm);
        out.put(vmm.handles.get(&handle).ok_or(CudaError::INVALID_VALUE)?.0.properties)
    }

    driver Other: cuMemRetainAllocationHandle (out: Out<c_ulonglong>, address: u64) |driver| {
        let out = out.wanted()?;
        let mut vmm = lock(&driver.vmm);
        let (_, mapping) = vmm.around(address).ok_or(CudaError::INVALID_VALUE)?;
        let (handle, physical) = (mapping.handle, mapping.physical.clone());
        vmm.handles.entry(handle).or_insert((physical, 0)).1 += 1;
        out.put(handle)
    }

    driver Other: cuMemExportToShareableHandle
    (out: Out<c_int>, handle: c_ulonglong, kind: c_uint, flags: c_ulonglong) |driver| {
        let out = out.wanted()?;
        let vmm = lock(&driver.vmm);
        let physical = &vmm.handles.get(&handle).ok_or(CudaError::INVALID_VALUE)?.0;
        if flags != 0 || kind != DESCRIPTOR || physical.properties.handle_types & DESCRIPTOR == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        if physical.share.get().is_none() {
            let share = driver.state().share(physical.gpu, driver.process.client, physical.size);
            let _ = physical.share.set(share.ok_or(CudaError::OUT_OF_MEMORY)?);
        }
        let share = physical.share.get().ok_or(CudaError::OUT_OF_MEMORY)?;
        out.put(descriptor::of(*share).map_err(|_| CudaError::OPERATING_SYSTEM)?)
    }

    driver Other: cuMemImportFromShareableHandle (out: Out<c_ulonglong>, from: usize, kind: c_uint) |driver| {
        let out = out.wanted()?;
        let share = descriptor::read(from as c_int).filter(|_| kind == DESCRIPTOR).ok_or(CudaError::INVALID_VALUE)?;
        let mut vmm = lock(&driver.vmm);
        if let Some(known) = vmm.of_share(share) {
            return out.put(vmm.adopt(known));
        }
        let held = driver.state().hold_share(share, driver.process.client);
        let (gpu, size) = held.ok_or(CudaError::INVALID_VALUE)?;
        let location = driver.visible.iter().position(|visible| *visible == gpu).ok_or(CudaError::INVALID_DEVICE)?;
        let properties = Properties {
            kind: 1,
            handle_types: DESCRIPTOR,
            location_kind: 1,
            location: location as c_int,
            windows: std::ptr::null(),
            flags: [0; 8],
        };
        let physical = Physical { gpu, size, properties, driver, share: OnceLock::from(share) };
        out.put(vmm.adopt(Arc::new(physical)))
    }

    driver Other: cuMemGetHandleForAddressRange () |_| {
        Err(CudaError::NOT_SUPPORTED)
    }
}
