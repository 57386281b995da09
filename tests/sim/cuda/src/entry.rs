//! The ways into the driver: what must be there for a call, and what its body is given.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gpu_sim_state::{ClientKind, Family, Function, Process};

use crate::abi::Result;
use crate::context::Context;
use crate::driver::Driver;
use crate::errors::CudaError;

/// This process's place in the machine, where the call has been counted and let in.
fn enter(function: &Function, family: Family) -> Result<&'static Process> {
    // Without a machine there is no GPU, which only cuInit tells.
    let process = Process::get(ClientKind::Cuda).map_err(|_| CudaError::NO_DEVICE)?;
    process.enter(function, family).map_err(CudaError)?;
    match process.state.is_stub.load(Relaxed) {
        0 => Ok(process),
        _ => Err(CudaError::STUB_LIBRARY),
    }
}

/// Calls that need no initialised driver.
pub(crate) mod always {
    use super::{Family, Function, Process, Result, enter};

    pub type Given<'a> = &'static Process;

    pub fn call(function: &Function, family: Family, body: impl FnOnce(Given<'_>) -> Result) -> Result {
        body(enter(function, family)?)
    }
}

/// Calls that need `cuInit`.
pub(crate) mod driver {
    use super::{Driver, Family, Function, Result, enter};

    pub type Given<'a> = &'static Driver;

    pub fn call(function: &Function, family: Family, body: impl FnOnce(Given<'_>) -> Result) -> Result {
        body(Driver::get(enter(function, family)?)?)
    }
}

/// Calls that need a current context.
pub(crate) mod context {
    use super::{Arc, Context, CudaError, Driver, Family, Function, Result, enter};

    pub type Given<'a> = &'a Arc<Context>;

    pub fn call(function: &Function, family: Family, body: impl FnOnce(Given<'_>) -> Result) -> Result {
        Driver::get(enter(function, family)?)?;
        let context = Context::current().ok_or(CudaError::INVALID_CONTEXT)?;
        context.check()?;
        body(&context)
    }
}
