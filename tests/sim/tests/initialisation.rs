//! A driver belongs to the process that initialised it. One test, because there is one driver in a process.
#![expect(unsafe_code, reason = "calls into the driver and the system")]

mod common;

use common::{INVALID_VALUE, NOT_INITIALIZED, machine};

#[test]
fn nothing_works_before_cu_init_or_in_a_forked_child() {
    let (sandbox, _) = machine();
    let mut number = 0_i32;
    assert_eq!(call!("cuDeviceGetCount", &raw mut number), NOT_INITIALIZED);
    assert_eq!(call!("cuMemFree_v2", 4096_u64), NOT_INITIALIZED);
    assert_eq!(call!("cuDriverGetVersion", &raw mut number), 0);
    assert_eq!(number, 13000);
    assert_eq!(call!("cuInit", 1_u32), INVALID_VALUE);
    assert_eq!(call!("cuInit", 0_u32), 0);
    assert_eq!(call!("cuInit", 0_u32), 0);
    assert_eq!(call!("cuDeviceGetCount", &raw mut number), 0);
    assert_eq!(number, 16);

    // SAFETY: the child makes calls that take no lock which another thread may hold, and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut count = 0_i32;
        let lost = [call!("cuDeviceGetCount", &raw mut count), call!("cuInit", 0_u32), call!("cuCtxSynchronize")];
        // SAFETY: leaves without running what is the parent's.
        unsafe { libc::_exit(if lost == [NOT_INITIALIZED; 3] { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the child is this process's own.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(call!("cuDeviceGetCount", &raw mut number), 0);
    assert_eq!(sandbox.calls(std::process::id(), "cuInit"), 3);
}
