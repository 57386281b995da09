//! The GPUs: their identity, the CUDA driver API and NVML.

mod uuid;

pub use uuid::GpuUuid;
