//! Sizes as people write them and as the rest of the program counts them.
//!
//! Owns every spelling in the contract's table of sizes, what it means on one GPU, and the errors that
//! name the value and the nearest valid spelling. Knows no driver: memory figures come in as numbers.

mod amount;
mod change;
mod error;
mod number;
mod parse;
mod per_gpu;
mod size;
#[cfg(test)]
mod tests;

pub use amount::{Amount, Memory, Share};
pub use change::Change;
pub use error::SpecError;
pub use per_gpu::{NamedGpu, PerGpu};
pub use size::ByteSize;

/// What `--reserve` takes.
pub type ReserveSpec = PerGpu<Amount>;

/// What `resize` takes.
pub type ResizeSpec = PerGpu<Change>;
