//! The primary context of a GPU, which all of a process's libraries share and count their use of.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::abi::{Out, api};
use crate::context::Context;
use crate::driver::lock;
use crate::errors::CudaError;

pub(crate) struct Primary {
    /// The same through all lives of the context.
    handle: usize,
    users: u32,
    flags: u32,
    context: Option<Arc<Context>>,
}

impl Primary {
    pub fn new(handle: usize) -> Self {
        Self { handle, users: 0, flags: 0, context: None }
    }

    fn end(&mut self) {
        self.users = 0;
        if let Some(context) = self.context.take() {
            context.destroy();
        }
    }
}

api! {
    driver Context: cuDevicePrimaryCtxRetain (out: Out<*mut c_void>, ordinal: c_int) |driver| {
        let out = out.wanted()?;
        let device = driver.device(ordinal)?;
        driver.present(device.gpu)?;
        let mut primary = lock(&device.primary);
        if primary.context.is_none() {
            primary.context = Some(Context::create(driver, ordinal, primary.flags, Some(primary.handle))?);
        }
        primary.users += 1;
        out.put(std::ptr::without_provenance_mut(primary.handle))
    }

    driver Context: cuDevicePrimaryCtxRelease | cuDevicePrimaryCtxRelease_v2 (ordinal: c_int) |driver| {
        let mut primary = lock(&driver.device(ordinal)?.primary);
        if primary.users == 0 {
            return Err(CudaError::INVALID_CONTEXT);
        }
        primary.users -= 1;
        if primary.users == 0 {
            primary.end();
        }
        Ok(())
    }

    driver Context: cuDevicePrimaryCtxReset | cuDevicePrimaryCtxReset_v2 (ordinal: c_int) |driver| {
        lock(&driver.device(ordinal)?.primary).end();
        Ok(())
    }

    driver Other: cuDevicePrimaryCtxGetState
    (ordinal: c_int, flags: Out<c_uint>, is_active: Out<c_int>) |driver| {
        let primary = lock(&driver.device(ordinal)?.primary);
        flags.put(primary.flags)?;
        is_active.put(primary.context.is_some().into())
    }

    driver Other: cuDevicePrimaryCtxSetFlags | cuDevicePrimaryCtxSetFlags_v2
    (ordinal: c_int, flags: c_uint) |driver| {
        let mut primary = lock(&driver.device(ordinal)?.primary);
        if flags & !0x7f != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Relaxed);
        }
        Ok(())
    }
}
