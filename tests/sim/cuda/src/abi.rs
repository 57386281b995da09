//! How C comes in: the macro that declares the driver's functions.

use std::ffi::CStr;

use crate::errors::CudaError;

pub(crate) type Result<T = ()> = std::result::Result<T, CudaError>;

pub(crate) type Out<T> = gpu_sim_state::pointers::Out<T, CudaError>;
pub(crate) type In<T> = gpu_sim_state::pointers::In<T, CudaError>;
pub(crate) type Text = gpu_sim_state::pointers::Text<CudaError>;

/// A symbol of the library.
pub(crate) struct Symbol {
    pub name: &'static CStr,
    pub function: *const (),
}

// SAFETY: the pointer is to a function.
unsafe impl Sync for Symbol {}

/// Declares functions of the driver:
///
/// `context Alloc: cuMemAlloc_v2 | another_name (address: Out<u64>, size: usize) |context| { ... }`
///
/// The first word is what must be there for the call (`always`, `driver`: after `cuInit`, `context`: current), and what
/// the body is given; the second is the family that decides what the call costs. All names get the same body.
macro_rules! api {
    ($($level:ident $family:ident: $($name:ident)|+ ($($arguments:tt)*) |$with:pat_param| $body:block)*) => {
        $($crate::abi::api!(@ $level $family [$($name)+] ($($arguments)*) $with, $body);)*

        pub(crate) static SYMBOLS: &[$crate::abi::Symbol] = &[$($($crate::abi::Symbol {
            name: match ::std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!(),
            },
            function: $name as *const (),
        },)+)*];
    };
    (@ $level:ident $family:ident [$($name:ident)+] $arguments:tt $with:pat_param, $body:block) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name $arguments -> ::std::ffi::c_int {
                static FUNCTION: ::gpu_sim_state::Function = ::gpu_sim_state::Function::new(stringify!($name));
                let body = |$with: $crate::entry::$level::Given<'_>| -> $crate::abi::Result { $body };
                $crate::errors::code($crate::entry::$level::call(&FUNCTION, ::gpu_sim_state::Family::$family, body))
            }
        )+
    };
}
pub(crate) use api;
