//! The Rust crate `cudarc`, with its own loader and its stream-ordered slices, takes the simulation for a driver.

use cudarc::driver::{CudaContext, DriverError};
use gpu_sim::{GB, MB, Sandbox};

/// Runs this test file's other test on a machine: a process finds the driver by the environment it was started with.
#[test]
fn cudarc_runs_on_the_machine() {
    let sandbox = Sandbox::builder().memory(4 * GB).build();
    let mut command = sandbox.command(std::env::current_exe().unwrap());
    let output = command.args(["--ignored", "--exact", "on_the_machine"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(sandbox.peak(1), (512 + 500) * MB);
    assert_eq!(sandbox.peak(0), 0);
}

#[test]
#[ignore = "started by the other"]
fn on_the_machine() -> Result<(), DriverError> {
    assert_eq!(CudaContext::device_count()?, 2);
    let context = CudaContext::new(1)?;
    let stream = context.new_stream()?;
    let sent: Vec<u8> = (0..=255).collect();
    let slice = stream.clone_htod(&sent)?;
    assert_eq!(stream.clone_dtoh(&slice)?, sent);
    drop(slice);
    let zeros = stream.alloc_zeros::<u8>(500 * MB as usize)?;
    assert_eq!(stream.clone_dtoh(&zeros.slice(0..8))?, [0; 8]);
    assert!(stream.alloc_zeros::<u8>(4 * GB as usize).is_err());
    drop(zeros);
    stream.synchronize()
}
