//! The simulated `libnvidia-ml.so.1`: the management library over the machine in [`gpu_sim_state`].
//!
//! It sees all GPUs in the order of their PCI bus, whatever `CUDA_VISIBLE_DEVICES` says.
#![expect(unsafe_code, reason = "the C interface of the library")]

mod abi;
mod errors;
mod gpu;
mod hardware;
mod library;
mod memory;
mod processes;
mod unsupported;
