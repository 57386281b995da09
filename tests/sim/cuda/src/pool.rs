//! The stream-ordered allocator. A pool takes memory of the GPU in large steps and gives back at the next wait what
//! exceeds its threshold.

use std::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex};

use gpu_sim_state::GRANULARITY;

use crate::abi::{In, Out, Result, api};
use crate::arena::Kind;
use crate::context::Context;
use crate::driver::{Device, Driver, lock};
use crate::errors::CudaError;
use crate::handles::Handle;
use crate::memory;
use crate::stream;

/// A pool grows by this much, or by less if there is less.
const STEP: u64 = 32 << 20;
const SMALLEST: u64 = 512;

pub(crate) struct Pool {
    pub handle: usize,
    ordinal: i32,
    is_default: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Memory of the GPU.
    reserved: u64,
    reserved_high: u64,
    /// Memory of allocations.
    used: u64,
    used_high: u64,
    threshold: u64,
    reuse: [c_int; 3],
    is_destroyed: bool,
}

/// `CUmemPoolProps`, as far as it is looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location_kind: c_uint,
    location: c_int,
}

impl Pool {
    pub fn new(driver: &Driver, ordinal: i32, is_default: bool) -> Arc<Self> {
        let counts = Counts { reuse: [1; 3], ..Counts::default() };
        Arc::new(Self { handle: driver.new_handle(), ordinal, is_default, counts: Mutex::new(counts) })
    }

    fn of_handle(driver: &Driver, handle: Handle) -> Result<Arc<Self>> {
        lock(&driver.pools).get(&handle.addr()).cloned().ok_or(CudaError::INVALID_VALUE)
    }

    fn as_handle(&self) -> Handle {
        std::ptr::without_provenance_mut(self.handle)
    }

    fn allocate(&self, driver: &Driver, size: u64) -> Result<u64> {
        if size == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let device = driver.device(self.ordinal)?;
        driver.present(device.gpu)?;
        let mut counts = lock(&self.counts);
        let rounded = size.checked_next_multiple_of(SMALLEST).ok_or(CudaError::OUT_OF_MEMORY)?;
        let used = counts.used.checked_add(rounded).ok_or(CudaError::OUT_OF_MEMORY)?;
        if let Some(missing) = used.checked_sub(counts.reserved).filter(|missing| *missing > 0) {
            let take = |bytes: u64| driver.state().take(device.gpu, driver.process.client, bytes).map(|()| bytes);
            let steps = [STEP, GRANULARITY].into_iter().filter_map(|step| missing.checked_next_multiple_of(step));
            let grown = steps.into_iter().find_map(|bytes| take(bytes).ok()).ok_or(CudaError::OUT_OF_MEMORY)?;
            counts.reserved += grown;
            counts.reserved_high = counts.reserved_high.max(counts.reserved);
        }
        counts.used = used;
        counts.used_high = counts.used_high.max(used);
        Ok(lock(&device.arena).place(size, self.handle, Kind::Pool(self.handle)))
    }

    /// Counts an allocation as freed; its memory stays with the pool.
    pub fn freed(&self, driver: &Driver, size: u64) {
        let mut counts = lock(&self.counts);
        counts.used -= size.next_multiple_of(SMALLEST);
        if counts.is_destroyed && counts.used == 0 {
            self.trim(driver, &mut counts, 0);
        }
    }

    /// Gives back what is neither in use nor below `keep`.
    fn trim(&self, driver: &Driver, counts: &mut Counts, keep: u64) {
        let kept = counts.used.next_multiple_of(GRANULARITY).max(keep);
        let surplus = counts.reserved.saturating_sub(kept) / GRANULARITY * GRANULARITY;
        if surplus > 0
            && let Ok(device) = driver.device(self.ordinal)
        {
            counts.reserved -= surplus;
            driver.state().give(device.gpu, driver.process.client, surplus);
        }
    }

    fn reset(&self, driver: &Driver, device: &Device) {
        lock(&device.arena).remove_context(self.handle);
        let mut counts = lock(&self.counts);
        counts.used = 0;
        self.trim(driver, &mut counts, 0);
    }
}

/// A wait on this GPU: its pools give back what they need not keep.
pub(crate) fn settle(driver: &Driver, device: &Device) {
    for pool in on(driver, device) {
        let mut counts = lock(&pool.counts);
        let keep = counts.threshold;
        pool.trim(driver, &mut counts, keep);
    }
}

/// The last context of this GPU is gone, and with it all that its pools had given out.
pub(crate) fn reset(driver: &Driver, device: &Device) {
    for pool in on(driver, device) {
        pool.reset(driver, device);
    }
}

fn on(driver: &Driver, device: &Device) -> Vec<Arc<Pool>> {
    lock(&driver.pools).values().filter(|pool| pool.ordinal == device.ordinal).cloned().collect()
}

fn allocate(context: &Context, out: Out<u64>, size: usize, pool: &Pool, on: Handle) -> Result {
    let out = out.wanted()?;
    stream::known(context.driver(), on)?;
    out.put(pool.allocate(context.driver(), size as u64)?)
}

fn current(device: &Device) -> Arc<Pool> {
    lock(&device.pool).clone()
}

/// Those of a location that is a GPU.
fn at(driver: &Driver, location: In<[c_int; 2]>) -> Result<&Device> {
    match location.get()? {
        [1, ordinal] => driver.device(ordinal),
        _ => Err(CudaError::NOT_SUPPORTED),
    }
}

api! {
    context Alloc: cuMemAllocAsync | cuMemAllocAsync_ptsz (out: Out<u64>, size: usize, stream: Handle) |context| {
        allocate(context, out, size, &current(context.device()), stream)
    }

    context Alloc: cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz
    (out: Out<u64>, size: usize, pool: Handle, stream: Handle) |context| {
        let pool = Pool::of_handle(context.driver(), pool)?;
        allocate(context, out, size, &pool, stream)
    }

    context Free: cuMemFreeAsync | cuMemFreeAsync_ptsz (address: u64, stream: Handle) |context| {
        stream::known(context.driver(), stream)?;
        memory::free(context.driver(), address)
    }

    driver Query: cuDeviceGetDefaultMemPool (out: Out<Handle>, ordinal: c_int) |driver| {
        out.put(driver.device(ordinal)?.default_pool.as_handle())
    }

    driver Query: cuDeviceGetMemPool (out: Out<Handle>, ordinal: c_int) |driver| {
        out.put(current(driver.device(ordinal)?).as_handle())
    }

    driver Other: cuDeviceSetMemPool (ordinal: c_int, pool: Handle) |driver| {
        let device = driver.device(ordinal)?;
        let pool = Pool::of_handle(driver, pool)?;
        if pool.ordinal != ordinal {
            return Err(CudaError::INVALID_VALUE);
        }
        *lock(&device.pool) = pool;
        Ok(())
    }

    driver Query: cuMemGetDefaultMemPool (out: Out<Handle>, location: In<[c_int; 2]>, _kind: c_uint) |driver| {
        out.put(at(driver, location)?.default_pool.as_handle())
    }

    driver Query: cuMemGetMemPool (out: Out<Handle>, location: In<[c_int; 2]>, _kind: c_uint) |driver| {
        out.put(current(at(driver, location)?).as_handle())
    }

    driver Other: cuMemSetMemPool (location: In<[c_int; 2]>, _kind: c_uint, pool: Handle) |driver| {
        let device = at(driver, location)?;
        *lock(&device.pool) = Pool::of_handle(driver, pool)?;
        Ok(())
    }

    driver Other: cuMemPoolCreate (out: Out<Handle>, properties: In<Properties>) |driver| {
        let out = out.wanted()?;
        let properties = properties.get()?;
        if properties.kind != 1 || properties.location_kind != 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        driver.device(properties.location)?;
        let pool = Pool::new(driver, properties.location, false);
        lock(&driver.pools).insert(pool.handle, pool.clone());
        out.put(pool.as_handle())
    }

    driver Other: cuMemPoolDestroy (handle: Handle) |driver| {
        let pool = Pool::of_handle(driver, handle)?;
        if pool.is_default {
            return Err(CudaError::INVALID_VALUE);
        }
        let device = driver.device(pool.ordinal)?;
        let mut set = lock(&device.pool);
        if set.handle == pool.handle {
            *set = device.default_pool.clone();
        }
        let mut counts = lock(&pool.counts);
        counts.is_destroyed = true;
        // What is still allocated keeps its memory until it is freed.
        pool.trim(driver, &mut counts, 0);
        if counts.used == 0 {
            lock(&driver.pools).remove(&pool.handle);
        }
        Ok(())
    }

    driver Free: cuMemPoolTrimTo (pool: Handle, keep: usize) |driver| {
        let pool = Pool::of_handle(driver, pool)?;
        pool.trim(driver, &mut lock(&pool.counts), keep as u64);
        Ok(())
    }

    driver Query: cuMemPoolGetAttribute (pool: Handle, which: c_int, value: Out<u64>) |driver| {
        let pool = Pool::of_handle(driver, pool)?;
        let counts = lock(&pool.counts);
        match which {
            1..=3 => value.cast().put(counts.reuse[which as usize - 1]),
            4 => value.put(counts.threshold),
            5 => value.put(counts.reserved),
            6 => value.put(counts.reserved_high),
            7 => value.put(counts.used),
            8 => value.put(counts.used_high),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    driver Other: cuMemPoolSetAttribute (pool: Handle, which: c_int, value: In<u64>) |driver| {
        let pool = Pool::of_handle(driver, pool)?;
        let mut counts = lock(&pool.counts);
        match (which, counts.reserved, counts.used) {
            (1..=3, ..) => counts.reuse[which as usize - 1] = value.cast().get()?,
            (4, ..) => counts.threshold = value.get()?,
            // The high marks can only be reset.
            (6, reserved, _) if value.get()? == 0 => counts.reserved_high = reserved,
            (8, _, used) if value.get()? == 0 => counts.used_high = used,
            _ => return Err(CudaError::INVALID_VALUE),
        }
        Ok(())
    }

    driver Other: cuMemPoolSetAccess (pool: Handle) |driver| {
        Pool::of_handle(driver, pool).map(|_| ())
    }

    driver Query: cuMemPoolGetAccess (flags: Out<c_int>, pool: Handle, location: In<[c_int; 2]>) |driver| {
        let pool = Pool::of_handle(driver, pool)?;
        let here = at(driver, location)?.ordinal == pool.ordinal;
        flags.put(if here { 3 } else { 0 })
    }

    driver Other: cuMemPoolExportToShareableHandle | cuMemPoolImportFromShareableHandle | cuMemPoolExportPointer
    | cuMemPoolImportPointer () |_| {
        Err(CudaError::NOT_SUPPORTED)
    }
}
