//! The simulated `libcuda.so.1`: the driver API over the machine in [`gpu_sim_state`].
//!
//! Strict where the real driver is strict, and idle where it would compute: kernels do not run. Functions are written
//! with `abi::api`, one family a file; `versions.txt` says since which CUDA version each symbol is there.
#![expect(unsafe_code, reason = "the C interface of the driver")]

mod abi;
mod arena;
mod array;
mod backing;
mod context;
mod copy;
mod descriptor;
mod device;
mod driver;
mod entry;
mod errors;
mod graph;
mod handles;
mod host;
mod limits;
mod lookup;
mod memory;
mod module;
mod pointer;
mod pool;
mod primary;
mod ptx;
mod stacks;
mod stream;
mod unsupported;
mod visible;
mod vmm;
