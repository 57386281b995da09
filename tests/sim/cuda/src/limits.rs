//! What a context can be tuned with; kept, and without effect but for the size of stacks beyond the usual.

use std::ffi::{c_int, c_uint};

use crate::abi::{In, Out, api};
use crate::driver::lock;
use crate::errors::CudaError;
use crate::stacks::{self, Stacks};

/// The stack of a thread if nobody asks for more.
pub(crate) const STACK: usize = 1024;
/// `CU_LIMIT_STACK_SIZE`.
const STACK_SIZE: c_uint = 0;

pub(crate) struct Limits {
    /// By `CUlimit`.
    values: [usize; 7],
    cache: c_int,
    shared_memory: c_int,
    pub stacks: Stacks,
}

impl Limits {
    pub fn stack(&self) -> usize {
        self.values[STACK_SIZE as usize]
    }

    pub fn set_stack(&mut self, each: usize) {
        self.values[STACK_SIZE as usize] = each;
    }
}

impl Default for Limits {
    fn default() -> Self {
        // Stack, printf buffer, device heap, nesting depth, pending launches, L2 fetch, persisting L2.
        Self {
            values: [STACK, 1 << 20, 8 << 20, 2, 2048, 64, 0],
            cache: 0,
            shared_memory: 0,
            stacks: Stacks::default(),
        }
    }
}

api! {
    context Other: cuCtxGetLimit (out: Out<usize>, limit: c_uint) |context| {
        let limits = lock(&context.limits);
        out.put(*limits.values.get(limit as usize).ok_or(CudaError::UNSUPPORTED_LIMIT)?)
    }

    context Other: cuCtxSetLimit (limit: c_uint, value: usize) |context| {
        if limit == STACK_SIZE {
            stacks::enlarge(context, value)?;
        }
        let mut limits = lock(&context.limits);
        *limits.values.get_mut(limit as usize).ok_or(CudaError::UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    context Other: cuCtxGetCacheConfig (out: Out<c_int>) |context| {
        out.put(lock(&context.limits).cache)
    }

    context Other: cuCtxSetCacheConfig (config: c_int) |context| {
        lock(&context.limits).cache = config;
        Ok(())
    }

    context Other: cuCtxGetSharedMemConfig (out: Out<c_int>) |context| {
        out.put(lock(&context.limits).shared_memory)
    }

    context Other: cuCtxSetSharedMemConfig (config: c_int) |context| {
        lock(&context.limits).shared_memory = config;
        Ok(())
    }

    context Other: cuCtxGetStreamPriorityRange (least: Out<c_int>, greatest: Out<c_int>) |_| {
        least.put_if_wanted(0);
        greatest.put_if_wanted(-5);
        Ok(())
    }

    context Other: cuCtxResetPersistingL2Cache | cuCtxEnablePeerAccess | cuCtxDisablePeerAccess () |_| {
        Ok(())
    }

    context Other: cuCtxGetExecAffinity (_affinity: In<()>, _kind: c_int) |_| {
        Err(CudaError::UNSUPPORTED_EXEC_AFFINITY)
    }
}
