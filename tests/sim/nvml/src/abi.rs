//! How C comes in: the macro that declares the library's functions, and what must be there for a call.

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use gpu_sim_state::{ClientKind, Family, Function, Process, State};

use crate::errors::NvmlError;

pub(crate) type Result<T = ()> = std::result::Result<T, NvmlError>;
pub(crate) type Out<T> = gpu_sim_state::pointers::Out<T, NvmlError>;
pub(crate) type Text = gpu_sim_state::pointers::Text<NvmlError>;

/// How often the library is initialised.
pub(crate) static USERS: AtomicU32 = AtomicU32::new(0);

/// A GPU as callers name it: its number and one, so that null is none.
pub(crate) type Handle = *const c_void;

pub(crate) fn handle(gpu: usize) -> Handle {
    std::ptr::without_provenance(gpu + 1)
}

/// A GPU of the machine.
pub(crate) struct Gpu {
    pub state: &'static State,
    pub index: usize,
}

impl std::ops::Deref for Gpu {
    type Target = gpu_sim_state::Gpu;

    fn deref(&self) -> &gpu_sim_state::Gpu {
        &self.state.gpus[self.index]
    }
}

impl Gpu {
    pub fn all(state: &'static State) -> impl Iterator<Item = Self> {
        (0..state.number_of_gpus()).map(move |index| Self { state, index })
    }

    pub fn present(self) -> Result<Self> {
        if self.is_lost.load(Relaxed) == 0 { Ok(self) } else { Err(NvmlError::GPU_IS_LOST) }
    }
}

/// Calls that need no initialised library.
pub(crate) fn always(function: &Function) -> Result<&'static State> {
    let process = Process::get(ClientKind::Nvml).map_err(|_| NvmlError::DRIVER_NOT_LOADED)?;
    process.enter(function, Family::Nvml).map_err(NvmlError)?;
    Ok(&process.state)
}

/// Calls that need `nvmlInit`.
pub(crate) fn library(function: &Function) -> Result<&'static State> {
    let state = always(function)?;
    if USERS.load(Relaxed) == 0 { Err(NvmlError::UNINITIALIZED) } else { Ok(state) }
}

/// Calls on a GPU that is there.
pub(crate) fn device(function: &Function, handle: Handle) -> Result<Gpu> {
    let state = library(function)?;
    let index = handle.addr().wrapping_sub(1);
    let known = index < state.number_of_gpus();
    if known { Gpu { state, index }.present() } else { Err(NvmlError::INVALID_ARGUMENT) }
}

/// Declares functions of the library:
///
/// `device: nvmlDeviceGetName (name: Out<c_char>, length: c_uint) |gpu| { ... }`
///
/// The first word is what must be there for the call (`always`, `library`: initialised, `device`: a handle of a GPU
/// comes before the arguments), and what the body is given. All names get the same body.
macro_rules! api {
    ($($level:ident: $($name:ident)|+ ($($arguments:tt)*) |$with:pat_param| $body:block)*) => {
        $($crate::abi::api!(@ $level [$($name)+] ($($arguments)*) $with, $body);)*
    };
    (@ device $names:tt ($($arguments:tt)*) $with:pat_param, $body:block) => {
        $crate::abi::api!(@@ $names (device: $crate::abi::Handle, $($arguments)*) device (device) $with, $body);
    };
    (@ $level:ident $names:tt $arguments:tt $with:pat_param, $body:block) => {
        $crate::abi::api!(@@ $names $arguments $level () $with, $body);
    };
    (@@ [$($name:ident)+] $arguments:tt $level:ident $handle:tt $with:pat_param, $body:block) => {
        $($crate::abi::api!(@@@ $name $arguments $level $handle $with, $body);)+
    };
    (@@@ $name:ident $arguments:tt $level:ident ($($handle:ident)?) $with:pat_param, $body:block) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name $arguments -> ::std::ffi::c_int {
            static FUNCTION: ::gpu_sim_state::Function = ::gpu_sim_state::Function::new(stringify!($name));
            let result = $crate::abi::$level(&FUNCTION $(, $handle)?);
            $crate::errors::code(result.and_then(|$with| -> $crate::abi::Result { $body }))
        }
    };
}
pub(crate) use api;
