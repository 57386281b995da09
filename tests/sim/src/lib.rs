//! The simulated driver for tests: a [`Sandbox`] is a machine with GPUs, in which commands run.
//!
//! ```no_run
//! use gpu_sim::{GB, Sandbox};
//! let sandbox = Sandbox::builder().gpus(2).memory(24 * GB).build();
//! let status = sandbox.command("nvidia-smi").status();
//! ```
//!
//! Each process in it loads the sandbox's `libcuda.so.1` and `libnvidia-ml.so.1`. The test changes and reads the machine
//! while they run; everything that [`State`] can do, a sandbox can ([`Sandbox`] derefs to it):
//!
//! - change: `set_utilization`, `set_compute_mode`, `lose_gpu`, `set_delay`, `inject`, `heal`, `set_lag`
//! - read: `used`, `used_by`, `peak`, `peak_by`, `processes`, `contexts_of`, `calls(pid, function)`, `all_calls`
//! - prove what happened in between: `traced` before, `trace` or `lowest` after
//! - wait: [`Sandbox::wait_for`], which wakes at each change and fails the test after a while
//! - others on the machine: [`Sandbox::occupy`] (no process of its own), [`Sandbox::hog`], [`Sandbox::thief`],
//!   [`Sandbox::client`] (a job under a script)

mod builder;
mod libraries;
mod sandbox;

pub use builder::Builder;
pub use gpu_sim_state::{ComputeMode, Event, Family, Fault, GRANULARITY, GpuConfig, Machine, State};
pub use libraries::Variant;
pub use sandbox::Sandbox;

pub const KB: u64 = 1 << 10;
pub const MB: u64 = 1 << 20;
pub const GB: u64 = 1 << 30;

/// `CUDA_ERROR_UNKNOWN`: what calls on a lost GPU return.
pub const UNKNOWN_ERROR: i32 = 999;
