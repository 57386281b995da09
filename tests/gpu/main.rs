//! The real program on a real GPU. Nothing here runs unless asked for by name, on a machine whose GPUs nobody else uses:
//!
//! ```text
//! cargo test --test gpu -- --ignored --test-threads=1 --nocapture
//! ```
//!
//! `GPU_TESTS_PROGRAM` names another `gpu-balloon` than the one that cargo built, for a machine to which both were
//! carried. A test that needs what the machine lacks (a second GPU, nvidia-smi, PyTorch) says so and passes.

mod agreement;
mod hold;
mod live;
mod machine;
mod several;
