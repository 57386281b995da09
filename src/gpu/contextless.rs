//! A GPU without a context on it: memory comes from the CUDA driver by handle, and NVML tells how much is free.
//!
//! On an H100 (driver 580.159.04) this costs 3 MiB of device memory instead of 263, lets the GPU go idle (73 W instead of
//! 123), and leaves out the driver's event thread, which wakes ten times a second. The price: nvidia-smi shows the memory
//! as used, but not by whom.

use super::{CallError, Device, Handle, Memory, Nvml, NvmlError, Sharing};
use crate::units::ByteSize;

/// A GPU, and NVML to ask about it.
pub struct Contextless {
    device: Device,
    sharing: Sharing,
    nvml: Nvml,
}

impl Contextless {
    /// # Errors
    /// There is no NVML, so that nobody tells how much memory is free.
    pub fn open(device: &Device, sharing: Sharing) -> Result<Self, CallError> {
        let nvml = Nvml::open().map_err(|error| asked(&error))?;
        Ok(Self { device: device.clone(), sharing, nvml })
    }

    /// Free memory, and total memory as CUDA counts it, which leaves out what driver and firmware keep.
    pub fn memory(&self) -> Result<Memory, CallError> {
        let free = self.nvml.memory(self.device.uuid).map_err(|error| asked(&error))?.free;
        Ok(Memory { free, total: self.device.total()? })
    }

    pub fn allocate(&self, size: ByteSize) -> Result<Handle, CallError> {
        self.device.create(size, self.sharing)
    }
}

fn asked(error: &NvmlError) -> CallError {
    CallError::of_nvml(error.to_string())
}
