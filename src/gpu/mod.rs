//! The GPUs: their identity, which of them are visible and chosen, the CUDA driver API and NVML.

mod contextless;
mod cuda;
mod nvml;
mod select;
mod uuid;
mod visible;

pub use contextless::Contextless;
#[cfg(test)]
pub use cuda::CudaError;
pub use cuda::{
    CallError, Chunk, ComputeMode, Context, Device, Driver, DriverError, GRANULARITY, Handle, Sharing, order_at_start,
    order_by_pci_bus,
};
pub use nvml::{GpuProcess, MemoryUse, Nvml, NvmlError};
pub use select::{GpuSelector, SelectError, Selection};
pub use uuid::GpuUuid;
pub use visible::{Cut, Kind, Known, VARIABLE as VISIBLE_DEVICES, Visibility, Visible, VisibleDevices};

use crate::units::ByteSize;

/// The memory of a GPU as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub free: ByteSize,
    pub total: ByteSize,
}
