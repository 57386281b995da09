//! The simulated machine: its GPUs, who uses how much of them, and the faults that a test has asked for.
//!
//! All of it lies in one file that every process of a sandbox maps. Nothing in it can be lost with a process: a client
//! holds a record lock on its own byte of a second file, the kernel drops that lock when the process ends in whatever
//! way, and whoever looks at a GPU gives back what dead clients held. The locks are robust mutexes, whose next owner
//! mends what a dead owner left half done.
#![expect(unsafe_code, reason = "shared memory, record locks, futexes")]

mod clients;
mod faults;
mod layout;
mod lock;
mod machine;
mod map;
mod memory;
mod names;
pub mod pointers;
mod process;
mod shares;
mod trace;
mod wait;

pub use clients::{Client, ClientKind};
pub use faults::{Family, Fault};
pub use layout::{ComputeMode, GRANULARITY, Gpu, MAX_GPUS, Shared};
pub use machine::{GpuConfig, Machine};
pub use map::State;
pub use memory::{NoMemory, Seen};
pub use names::Function;
pub use process::Process;
pub use shares::Share;
pub use trace::{Event, Mark};

/// Names the directory of the sandbox to every process in it.
pub const DIRECTORY: &str = "GPU_SIM_DIR";
