//! The Rust crate `cudarc`, with its own loader and its stream-ordered slices, as a job.

use cudarc::driver::{CudaContext, DriverError};
use gpu_sim::{GB, MB};

use crate::harness::Running;
use crate::harness::{CONTEXT, Machine};

#[test]
fn cudarc_is_followed() {
    let machine = Machine::new();
    let mut command = machine.program("run --gpu 1 --reserve 4GB --");
    command.arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "handover::cudarc::as_a_job", "--nocapture"]);
    let mut job = Running::start(&mut command);
    let mut reaches = |mark: &str| while !job.line().ends_with(mark) {};
    reaches("allocated");
    machine.wait_for("job + balloon = reservation", |state| state.used(1) == 4 * GB + CONTEXT);
    job.say("go on");
    let mut reaches = |mark: &str| while !job.line().ends_with(mark) {};
    reaches("freed");
    machine.wait_for("what was freed is the balloon's", |state| {
        state.used(1) == 4 * GB + CONTEXT && state.used_by(1, job.pid()) == 4 * GB
    });
    job.close_stdin();
    job.wait().exits(0);
    assert_eq!((machine.peak(0), machine.used(1)), (0, 0));
}

/// It sees one GPU, the reserved one.
#[test]
#[ignore = "the job of the test above"]
fn as_a_job() -> Result<(), DriverError> {
    let mut line = String::new();
    assert_eq!(CudaContext::device_count()?, 1);
    let context = CudaContext::new(0)?;
    let stream = context.new_stream()?;
    let sent: Vec<u8> = (0..=255).collect();
    let slice = stream.clone_htod(&sent)?;
    assert_eq!(stream.clone_dtoh(&slice)?, sent);
    let zeros = stream.alloc_zeros::<u8>(500 * MB as usize)?;
    say("allocated");
    std::io::stdin().read_line(&mut line).expect("stdin is open");
    drop((slice, zeros));
    stream.synchronize()?;
    say("freed");
    std::io::stdin().read_line(&mut line).expect("stdin is open");
    Ok(())
}

/// Past the test runner.
fn say(what: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{what}").expect("stdout is open");
}
