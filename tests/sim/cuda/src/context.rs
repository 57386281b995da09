//! Contexts: what they cost, who may have them, which one is current.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};

use crate::abi::{In, Out, Result, api};
use crate::driver::{Device, Driver, STACK, lock};
use crate::errors::CudaError;
use crate::limits::Limits;
use crate::{pool, stream};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Context {
    /// What callers call it.
    pub handle: usize,
    pub id: u64,
    pub ordinal: i32,
    pub flags: AtomicU32,
    pub is_primary: bool,
    pub limits: Mutex<Limits>,
    /// What it cost, contexts and loaded code.
    cost: AtomicU64,
    is_destroyed: AtomicBool,
    driver: &'static Driver,
}

impl Context {
    /// Creates a context on a GPU and takes its memory.
    pub fn create(driver: &'static Driver, ordinal: i32, flags: u32, primary: Option<usize>) -> Result<Arc<Self>> {
        let device = driver.device(ordinal)?;
        driver.present(device.gpu)?;
        let state = driver.state();
        if !state.enter_context(device.gpu, driver.process.client) {
            return Err(CudaError::DEVICE_UNAVAILABLE);
        }
        let cost = state.gpus[device.gpu].context_cost.load(Relaxed);
        if state.take(device.gpu, driver.process.client, cost).is_err() {
            state.leave_context(device.gpu, driver.process.client);
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let context = Arc::new(Self {
            handle: primary.unwrap_or_else(|| driver.new_handle()),
            id: NEXT_ID.fetch_add(1, Relaxed),
            ordinal,
            flags: AtomicU32::new(flags),
            is_primary: primary.is_some(),
            limits: Mutex::new(Limits::default()),
            cost: AtomicU64::new(cost),
            is_destroyed: AtomicBool::new(false),
            driver,
        });
        lock(&driver.contexts).insert(context.handle, context.clone());
        Ok(context)
    }

    /// Gives back the context's memory and all that was allocated in it.
    pub fn destroy(&self) {
        if self.is_destroyed.swap(true, AcqRel) {
            return;
        }
        let device = self.device();
        let mut contexts = lock(&self.driver.contexts);
        contexts.remove(&self.handle);
        let is_last = contexts.values().all(|other| other.ordinal != self.ordinal);
        drop(contexts);
        if is_last {
            pool::reset(self.driver, device);
        }
        let freed = lock(&device.arena).remove_context(self.handle);
        let state = self.driver.state();
        state.give(device.gpu, self.driver.process.client, freed + self.cost.load(Relaxed));
        state.leave_context(device.gpu, self.driver.process.client);
    }

    pub fn current() -> Option<Arc<Self>> {
        STACK.with_borrow(|stack| stack.last().cloned())
    }

    pub fn of_handle(driver: &Driver, handle: *mut c_void) -> Result<Arc<Self>> {
        lock(&driver.contexts).get(&handle.addr()).cloned().ok_or(CudaError::INVALID_CONTEXT)
    }

    /// Refuses a context that is destroyed or whose GPU is gone.
    pub fn check(&self) -> Result {
        if self.is_destroyed.load(Acquire) {
            return Err(CudaError::CONTEXT_IS_DESTROYED);
        }
        self.driver.present(self.device().gpu)
    }

    pub fn driver(&self) -> &'static Driver {
        self.driver
    }

    pub fn device(&self) -> &'static Device {
        &self.driver.devices[self.ordinal as usize]
    }

    fn push(self: Arc<Self>) {
        STACK.with_borrow_mut(|stack| stack.push(self));
    }

    fn as_handle(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.handle)
    }
}

fn create(driver: &'static Driver, out: Out<*mut c_void>, flags: u32, ordinal: i32) -> Result {
    let out = out.wanted()?;
    if flags & !0x7f != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let context = Context::create(driver, ordinal, flags, None)?;
    out.put(context.as_handle())?;
    context.push();
    Ok(())
}

fn pop(out: Out<*mut c_void>) -> Result {
    let popped = STACK.with_borrow_mut(Vec::pop).ok_or(CudaError::INVALID_CONTEXT)?;
    out.put_if_wanted(popped.as_handle());
    Ok(())
}

api! {
    driver Context: cuCtxCreate | cuCtxCreate_v2 (out: Out<*mut c_void>, flags: c_uint, ordinal: c_int) |driver| {
        create(driver, out, flags, ordinal)
    }

    driver Context: cuCtxCreate_v3
    (out: Out<*mut c_void>, _affinity: In<c_void>, _count: c_int, flags: c_uint, ordinal: c_int) |driver| {
        create(driver, out, flags, ordinal)
    }

    driver Context: cuCtxCreate_v4
    (out: Out<*mut c_void>, _parameters: *const c_void, flags: c_uint, ordinal: c_int) |driver| {
        create(driver, out, flags, ordinal)
    }

    driver Context: cuCtxDestroy | cuCtxDestroy_v2 | cuCtxDetach (handle: *mut c_void) |driver| {
        let context = Context::of_handle(driver, handle)?;
        if context.is_primary {
            return Err(CudaError::INVALID_CONTEXT);
        }
        context.destroy();
        STACK.with_borrow_mut(|stack| stack.pop_if(|top| top.handle == context.handle));
        Ok(())
    }

    driver Other: cuCtxPushCurrent | cuCtxPushCurrent_v2 (handle: *mut c_void) |driver| {
        Context::of_handle(driver, handle)?.push();
        Ok(())
    }

    driver Other: cuCtxPopCurrent | cuCtxPopCurrent_v2 (out: Out<*mut c_void>) |_| {
        pop(out)
    }

    driver Other: cuCtxSetCurrent (handle: *mut c_void) |driver| {
        let context = if handle.is_null() { None } else { Some(Context::of_handle(driver, handle)?) };
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            stack.extend(context);
        });
        Ok(())
    }

    driver Other: cuCtxGetCurrent (out: Out<*mut c_void>) |_| {
        out.put(Context::current().map_or(std::ptr::null_mut(), |context| context.as_handle()))
    }

    context Other: cuCtxGetDevice (out: Out<c_int>) |context| {
        out.put(context.ordinal)
    }

    driver Other: cuCtxGetDevice_v2 (out: Out<c_int>, handle: *mut c_void) |driver| {
        out.put(of_handle_or_current(driver, handle)?.ordinal)
    }

    driver Other: cuCtxGetApiVersion (handle: *mut c_void, out: Out<c_uint>) |driver| {
        of_handle_or_current(driver, handle)?;
        out.put(3020)
    }

    driver Other: cuCtxGetId (handle: *mut c_void, out: Out<u64>) |driver| {
        out.put(of_handle_or_current(driver, handle)?.id)
    }

    context Other: cuCtxGetFlags (out: Out<c_uint>) |context| {
        out.put(context.flags.load(Relaxed))
    }

    context Other: cuCtxSetFlags (flags: c_uint) |context| {
        context.flags.store(flags, Relaxed);
        Ok(())
    }

    context Other: cuCtxSynchronize () |context| {
        stream::may_wait(context.driver(), |_, of| of == context.handle)?;
        pool::settle(context.driver(), context.device());
        Ok(())
    }

    driver Other: cuCtxSynchronize_v2 (handle: *mut c_void) |driver| {
        let context = of_handle_or_current(driver, handle)?;
        context.check()?;
        stream::may_wait(driver, |_, of| of == context.handle)?;
        pool::settle(driver, context.device());
        Ok(())
    }

    context Other: cuCtxAttach (out: Out<*mut c_void>, _flags: c_uint) |context| {
        out.put(context.as_handle())
    }
}

fn of_handle_or_current(driver: &Driver, handle: *mut c_void) -> Result<Arc<Context>> {
    if handle.is_null() {
        return Context::current().ok_or(CudaError::INVALID_CONTEXT);
    }
    Context::of_handle(driver, handle)
}
