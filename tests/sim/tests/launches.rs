//! Launches: what a function's local memory takes of the GPU. Each test has a GPU of its own.
#![expect(unsafe_code, reason = "calls into the driver and the system")]

mod common;

use std::ffi::{CString, c_void};
use std::ptr;

use common::{OUT_OF_MEMORY, machine, with_context};
use gpu_sim::{GB, MB};

const CONTEXT: u64 = 500 * MB;
/// As many threads as the GPU can run at a time.
const THREADS: u64 = 132 * 2048;
/// What code takes, in pages.
const CODE: u64 = 2 * MB;

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    sizes: [u32; 6],
    shared: u32,
    stream: *mut c_void,
    attributes: *mut c_void,
    count: u32,
}

fn used(gpu: usize) -> u64 {
    machine().0.used(gpu)
}

fn in_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(2 * MB)
}

/// A function that needs as many bytes of local memory.
fn function(local: usize) -> *mut c_void {
    let program = format!(".version 7.0\n.visible .entry deep()\n{{\n.local .align 16 .b8 stack[{local}];\n}}\n");
    let program = CString::new(program).unwrap();
    let (mut module, mut function) = (ptr::null_mut::<c_void>(), ptr::null_mut::<c_void>());
    assert_eq!(call!("cuModuleLoadData", &raw mut module, program.as_ptr()), 0);
    assert_eq!(call!("cuModuleGetFunction", &raw mut function, module, c"deep".as_ptr()), 0);
    function
}

fn launch(function: *mut c_void) -> i32 {
    launch_on(ptr::null_mut(), function)
}

fn launch_on(stream: *mut c_void, function: *mut c_void) -> i32 {
    let config = Config { sizes: [1, 1, 1, 32, 1, 1], shared: 0, stream, attributes: ptr::null_mut(), count: 0 };
    call!("cuLaunchKernelEx", &raw const config, function, ptr::null::<c_void>(), ptr::null::<c_void>())
}

fn stack_limit() -> usize {
    let mut each = 0_usize;
    assert_eq!(call!("cuCtxGetLimit", &raw mut each, 0_u32), 0);
    each
}

#[test]
fn a_function_tells_its_local_memory() {
    with_context(0);
    let (deep, mut bytes) = (function(4096), 0_i32);
    assert_eq!(call!("cuFuncGetAttribute", &raw mut bytes, 3_i32, deep), 0);
    assert_eq!(bytes, 4096);
}

#[test]
fn stacks_grow_with_the_deepest_launch_and_stay() {
    with_context(1);
    let functions = [512, 2048, 4096].map(function);
    assert_eq!(used(1), CONTEXT + CODE);
    for (function, each) in [(0, 1024), (2, 4096), (1, 4096), (2, 4096)] {
        assert_eq!(launch(functions[function]), 0);
        assert_eq!(used(1), CONTEXT + CODE + in_pages((each - 1024) * THREADS));
        assert_eq!(stack_limit(), each as usize);
    }
}

#[test]
fn a_launch_is_refused_where_its_stacks_find_no_room() {
    with_context(2);
    let (deep, deeper) = (function(2048), function(32768));
    assert_eq!(launch(deep), 0);
    assert_eq!(launch(deeper), OUT_OF_MEMORY);
    assert_eq!(used(2), CONTEXT + CODE, "the smaller stacks are gone as well");
    let mut all = 0_u64;
    assert_eq!(call!("cuMemAlloc_v2", &raw mut all, (8 * GB - used(2)) as usize), 0);
    assert_eq!(launch(deep), OUT_OF_MEMORY);
    assert_eq!(call!("cuMemFree_v2", all), 0);
    assert_eq!(launch(deep), 0);
}

#[test]
fn a_captured_launch_takes_its_stacks_with_the_graph() {
    with_context(4);
    let (deep, mut stream) = (function(2048), ptr::null_mut::<c_void>());
    let (mut graph, mut executable) = (stream, stream);
    assert_eq!(call!("cuStreamCreate", &raw mut stream, 1_u32), 0);
    assert_eq!(call!("cuStreamBeginCapture_v2", stream, 2_i32), 0);
    assert_eq!(launch_on(stream, deep), 0);
    assert_eq!(call!("cuStreamEndCapture", stream, &raw mut graph), 0);
    assert_eq!(used(4), CONTEXT + CODE);
    assert_eq!(call!("cuGraphInstantiateWithFlags", &raw mut executable, graph, 0_u64), 0);
    assert_eq!(used(4), CONTEXT + CODE + in_pages(1024 * THREADS));
    assert_eq!(call!("cuGraphLaunch", executable, stream), 0);
}

#[test]
fn a_program_takes_what_its_variables_need() {
    with_context(3);
    let program = c".version 7.0\n.global .align 4 .b8 table[1073741824];\n";
    let mut module = ptr::null_mut::<c_void>();
    assert_eq!(call!("cuModuleLoadData", &raw mut module, program.as_ptr()), 0);
    assert!(used(3) >= CONTEXT + GB);
    assert_eq!(call!("cuModuleUnload", module), 0);
    assert_eq!(used(3), CONTEXT);
}
