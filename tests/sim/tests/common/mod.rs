//! The simulated `libcuda.so.1`, called by symbol from the test's own process.
#![allow(dead_code, reason = "not every file needs all of it")]

use std::ffi::c_void;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use gpu_sim::{GB, Sandbox};
use libloading::os::unix::Library;

pub const INVALID_VALUE: i32 = 1;
pub const OUT_OF_MEMORY: i32 = 2;
pub const NOT_INITIALIZED: i32 = 3;
pub const INVALID_DEVICE: i32 = 101;
pub const INVALID_CONTEXT: i32 = 201;

/// The machine of all tests of a file: a process has one driver. Each test takes a GPU of its own.
pub fn machine() -> &'static (Sandbox, Library) {
    static MACHINE: OnceLock<(Sandbox, Library)> = OnceLock::new();
    MACHINE.get_or_init(|| {
        // What lives as long as the process is never dropped, so the next run clears up.
        let test = std::env::current_exe().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test.file_name().unwrap());
        let _ = std::fs::remove_dir_all(&directory);
        let sandbox = Sandbox::builder().gpus(16).memory(8 * GB).build_in(&directory).unwrap();
        for (name, value) in sandbox.environment() {
            // SAFETY: every test comes through here before it does anything that reads the environment.
            unsafe { std::env::set_var(name, value) };
        }
        let path = sandbox.libraries().join("libcuda.so.1");
        // SAFETY: the library has no constructors.
        let library = unsafe { Library::open(Some(path), libloading::os::unix::RTLD_NOW) }.unwrap();
        (sandbox, library)
    })
}

/// `call!("cuMemAlloc_v2", &raw mut address, 5_usize)`: the result code. Integers must have the width that C has.
#[macro_export]
macro_rules! call {
    ($name:literal $(, $argument:expr)*) => {{
        let (_, library) = $crate::common::machine();
        // SAFETY: the arguments are those of the function.
        #[allow(clippy::macro_metavars_in_unsafe, reason = "the arguments are plain values")]
        unsafe {
            let symbol = library.get::<*const ()>(concat!($name, "\0")).unwrap();
            $crate::common::invoke!(*symbol $(, $argument)*)
        }
    }};
}

macro_rules! invoke {
    ($symbol:expr) => {
        std::mem::transmute::<*const (), unsafe extern "C" fn() -> i32>($symbol)()
    };
    ($symbol:expr, $a:expr) => {
        std::mem::transmute::<*const (), unsafe extern "C" fn(_) -> i32>($symbol)($a)
    };
    ($symbol:expr, $a:expr, $b:expr) => {
        std::mem::transmute::<*const (), unsafe extern "C" fn(_, _) -> i32>($symbol)($a, $b)
    };
    ($symbol:expr, $a:expr, $b:expr, $c:expr) => {
        std::mem::transmute::<*const (), unsafe extern "C" fn(_, _, _) -> i32>($symbol)($a, $b, $c)
    };
    ($symbol:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
        std::mem::transmute::<*const (), unsafe extern "C" fn(_, _, _, _) -> i32>($symbol)($a, $b, $c, $d)
    };
    ($symbol:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        std::mem::transmute::<*const (), unsafe extern "C" fn(_, _, _, _, _) -> i32>($symbol)($a, $b, $c, $d, $e)
    };
}
pub(crate) use invoke;

/// Initialises the driver and makes the GPU's primary context current on this thread.
pub fn with_context(gpu: i32) -> *mut c_void {
    let mut context = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuInit", 0_u32), 0);
    assert_eq!(call!("cuDevicePrimaryCtxRetain", &raw mut context, gpu), 0);
    assert_eq!(call!("cuCtxSetCurrent", context), 0);
    context
}
