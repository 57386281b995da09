//! stub
use super::*;
pub struct Nvml;
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct NvmlError;
pub struct GpuProcess {
    pub pid: u32,
    pub used_bytes: Option<u64>,
}
impl Nvml {
    pub fn open() -> Result<Self, NvmlError> {
        Err(NvmlError)
    }
    pub fn known(&self) -> Result<Vec<Known>, NvmlError> {
        Err(NvmlError)
    }
    pub fn utilization(&self, _: GpuUuid) -> Result<u32, NvmlError> {
        Err(NvmlError)
    }
    pub fn processes(&self, _: GpuUuid) -> Result<Vec<GpuProcess>, NvmlError> {
        Err(NvmlError)
    }
    pub fn memory(&self, _: GpuUuid) -> Result<Memory, NvmlError> {
        Err(NvmlError)
    }
}
