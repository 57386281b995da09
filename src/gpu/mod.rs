//! The GPUs: their identity, the CUDA driver API and NVML.

mod cuda;
mod uuid;

pub use cuda::{CallError, Chunk, ComputeMode, Context, CudaError, Device, Driver, DriverError, GRANULARITY};
pub use cuda::order_by_pci_bus;
pub use uuid::GpuUuid;

use crate::units::ByteSize;

/// The memory of a GPU as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub free: ByteSize,
    pub total: ByteSize,
}
