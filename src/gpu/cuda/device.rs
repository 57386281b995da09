//! A visible GPU: what it is, without a context on it.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;

use cudarc::driver::sys::{CUdevice, CUdevice_attribute, CUuuid};

use super::{CallError, Driver};
use crate::gpu::GpuUuid;
use crate::units::ByteSize;

/// How GPUs may be used by several processes, `CU_DEVICE_ATTRIBUTE_COMPUTE_MODE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeMode {
    Default,
    Prohibited,
    ExclusiveProcess,
}

impl fmt::Display for ComputeMode {
    /// As nvidia-smi spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "Default",
            Self::Prohibited => "Prohibited",
            Self::ExclusiveProcess => "Exclusive_Process",
        })
    }
}

/// A visible GPU.
#[derive(Clone)]
pub struct Device {
    pub(super) driver: &'static Driver,
    pub(super) device: CUdevice,
    /// The CUDA ordinal.
    pub ordinal: u32,
    pub uuid: GpuUuid,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("ordinal", &self.ordinal).field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl Device {
    pub(super) fn open(driver: &'static Driver, ordinal: c_int) -> Result<Self, CallError> {
        let mut device = 0;
        // SAFETY: the pointer is to a live device handle.
        let result = unsafe { (driver.functions.device)(&raw mut device, ordinal) };
        driver.check("cuDeviceGet", result)?;
        let mut uuid = CUuuid { bytes: [0; 16] };
        // SAFETY: the pointer is to a live UUID, and the device handle is the driver's.
        let result = unsafe { (driver.functions.device_uuid)(&raw mut uuid, device) };
        driver.check("cuDeviceGetUuid", result)?;
        let uuid = GpuUuid(uuid.bytes.map(|byte| byte.to_ne_bytes()[0]));
        Ok(Self { driver, device, ordinal: ordinal.unsigned_abs(), uuid })
    }

    pub fn name(&self) -> Result<String, CallError> {
        self.text("cuDeviceGetName", self.driver.functions.device_name)
    }

    /// Whether it is a MIG instance. The driver API has no attribute for it; the name of an instance tells its profile, such
    /// as `NVIDIA H200 MIG 1g.18gb`.
    pub fn is_instance(&self) -> Result<bool, CallError> {
        Ok(self.name()?.contains(" MIG "))
    }

    /// Domain, bus, device and function, such as `0000:65:00.0`.
    pub fn pci_bus_id(&self) -> Result<String, CallError> {
        self.text("cuDeviceGetPCIBusId", self.driver.functions.device_bus_id)
    }

    pub fn total(&self) -> Result<ByteSize, CallError> {
        let mut total = 0;
        // SAFETY: the pointer is to a live size, and the device handle is the driver's.
        let result = unsafe { (self.driver.functions.device_total)(&raw mut total, self.device) };
        self.driver.check("cuDeviceTotalMem", result)?;
        Ok(ByteSize::new(total as u64))
    }

    pub fn compute_mode(&self) -> Result<ComputeMode, CallError> {
        // The values of CUcomputemode.
        Ok(match self.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)? {
            2 => ComputeMode::Prohibited,
            3 => ComputeMode::ExclusiveProcess,
            _ => ComputeMode::Default,
        })
    }

    pub(super) fn attribute(&self, attribute: CUdevice_attribute) -> Result<c_int, CallError> {
        let mut value = 0;
        // SAFETY: the pointer is to a live integer, and the device handle is the driver's.
        let result = unsafe { (self.driver.functions.device_attribute)(&raw mut value, attribute, self.device) };
        self.driver.check("cuDeviceGetAttribute", result)?;
        Ok(value)
    }

    fn text(
        &self,
        call: &'static str,
        function: unsafe extern "C" fn(*mut c_char, c_int, CUdevice) -> c_int,
    ) -> Result<String, CallError> {
        let mut text = [0_u8; 128];
        // SAFETY: the buffer is as long as said, and the device handle is the driver's.
        let result = unsafe { function(text.as_mut_ptr().cast(), text.len() as c_int, self.device) };
        self.driver.check(call, result)?;
        let text = CStr::from_bytes_until_nul(&text).map(CStr::to_owned).unwrap_or_else(|_| CString::default());
        Ok(text.to_string_lossy().into_owned())
    }
}
