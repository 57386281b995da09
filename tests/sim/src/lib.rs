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
//! - change: [`State::set_utilization`], [`State::set_compute_mode`], [`State::lose_gpu`], [`State::set_delay`],
//!   [`State::set_lag`], [`State::inject`] with [`Fault`], [`State::heal`]
//! - read: [`State::used`], [`State::used_by`], [`State::peak`], [`State::peak_by`], [`State::processes`],
//!   [`State::contexts_of`], [`State::calls`], [`State::all_calls`]; all but `processes` also after a process's end
//! - prove what happened in between: [`State::mark`] before, [`State::extremes`] or [`State::trace`] after
//! - wait: [`Sandbox::wait_for`], which wakes at each change and fails the test after a while
//! - others on the machine: [`Sandbox::occupy`] (memory of this process), [`Sandbox::hog`] and [`Sandbox::thief`]
//!   (processes), [`Sandbox::client`] (a job under a script; [`Script::start`] takes any command that ends in one)
//!
//! GPUs are given by their index in PCI order, which is nvidia-smi's. Sizes are bytes.

mod builder;
mod libraries;
mod parts;
mod sandbox;

pub use builder::Builder;
pub use gpu_sim_state::{
    ComputeMode, DIRECTORY, Event, Family, Fault, GRANULARITY, GpuConfig, Machine, Mark, Seen, State,
};
pub use libraries::Variant;
pub use parts::{Hog, Occupant, Script, Thief};
pub use sandbox::{Sandbox, program};

pub const KB: u64 = 1 << 10;
pub const MB: u64 = 1 << 20;
pub const GB: u64 = 1 << 30;

/// `CUDA_ERROR_UNKNOWN`: what calls on a lost GPU return.
pub const UNKNOWN_ERROR: i32 = 999;
