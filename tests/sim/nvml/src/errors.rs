//! The library's result codes.

use std::ffi::{CStr, c_char, c_int};

use gpu_sim_state::pointers::Refusal;

/// A code that is not `NVML_SUCCESS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NvmlError(pub c_int);

macro_rules! codes {
    ($($code:literal $name:ident $text:literal)*) => {
        #[expect(dead_code, reason = "the table is complete, the simulation does not need every error")]
        impl NvmlError {
            $(pub const $name: Self = Self($code);)*
        }

        fn described(code: c_int) -> &'static CStr {
            match code {
                0 => c"Success",
                $($code => $text,)*
                _ => c"Unknown Error",
            }
        }
    };
}

codes! {
    1 UNINITIALIZED c"Uninitialized"
    2 INVALID_ARGUMENT c"Invalid Argument"
    3 NOT_SUPPORTED c"Not Supported"
    4 NO_PERMISSION c"Insufficient Permissions"
    5 ALREADY_INITIALIZED c"Already Initialized"
    6 NOT_FOUND c"Not Found"
    7 INSUFFICIENT_SIZE c"Insufficient Size"
    8 INSUFFICIENT_POWER c"Insufficient External Power"
    9 DRIVER_NOT_LOADED c"Driver Not Loaded"
    10 TIMEOUT c"Timeout"
    11 IRQ_ISSUE c"Interrupt Request Issue"
    12 LIBRARY_NOT_FOUND c"NVML Shared Library Not Found"
    13 FUNCTION_NOT_FOUND c"Function Not Found"
    14 CORRUPTED_INFOROM c"Corrupted infoROM"
    15 GPU_IS_LOST c"GPU is lost"
    16 RESET_REQUIRED c"GPU requires reset"
    17 OPERATING_SYSTEM c"GPU access blocked by the operating system"
    18 LIB_RM_VERSION_MISMATCH c"Driver/library version mismatch"
    19 IN_USE c"In use by another client"
    20 MEMORY c"Insufficient Memory"
    21 NO_DATA c"No data"
    25 ARGUMENT_VERSION_MISMATCH c"Argument version mismatch"
    999 UNKNOWN c"Unknown Error"
}

impl Refusal for NvmlError {
    const NULL_POINTER: Self = Self::INVALID_ARGUMENT;
}

pub(crate) fn code(result: Result<(), NvmlError>) -> c_int {
    result.err().map_or(0, |NvmlError(code)| code)
}

/// Needs no initialised library, and works where nothing else does.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: c_int) -> *const c_char {
    described(code).as_ptr()
}
