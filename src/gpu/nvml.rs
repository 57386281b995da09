//! NVML, the driver's management library: the only file that names `nvml-wrapper`.
//!
//! It shows all GPUs of the machine and costs no device memory, unlike a CUDA context. A GPU is found by its UUID only:
//! NVML's indices know nothing of `CUDA_VISIBLE_DEVICES`. Source of every call: <https://docs.nvidia.com/deploy/nvml-api/>.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use nvml_wrapper::enum_wrappers::device::ComputeMode as WrappedMode;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError as Code;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use crate::gpu::{ComputeMode, GpuUuid, Kind, Known};
use crate::units::ByteSize;

/// The library by the name that the driver's packages install; `libnvidia-ml.so` may be the toolkit's stub.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// `NVML_DEVICE_MIG_ENABLE`.
const MIG_ENABLED: u32 = 1;

/// Why NVML gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum NvmlError {
    #[error("{LIBRARY} cannot be loaded: {0}")]
    NoLibrary(String),
    /// The call, and NVML's name of the error.
    #[error("{call}: {error}")]
    Call { call: &'static str, error: String },
    #[error("NVML shows no {0}")]
    NoSuchGpu(GpuUuid),
}

impl NvmlError {
    /// The kernel's half of the driver is of another version than the library.
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::Call { error, .. } if *error == name(&Code::LibRmVersionMismatch))
    }
}

/// The memory of a GPU as nvidia-smi shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    pub total: ByteSize,
    pub used: ByteSize,
    /// What `cuMemGetInfo` gives as free.
    pub free: ByteSize,
    /// What driver and firmware keep for themselves. It counts as used where the driver does not tell it apart.
    pub reserved: ByteSize,
}

/// A process that has memory on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuProcess {
    pub pid: u32,
    /// `None` where the driver does not tell.
    pub used_bytes: Option<u64>,
}

/// Where NVML has a device: handles cannot outlive the library that gave them.
#[derive(Debug, Clone)]
struct Place {
    known: Known,
    index: u32,
    /// The number of a MIG instance on its GPU.
    instance: Option<u32>,
}

/// The loaded and initialised library, and the devices it showed then.
pub struct Nvml {
    inner: nvml_wrapper::Nvml,
    places: Vec<Place>,
    unreadable: Vec<(u32, NvmlError)>,
}

impl Nvml {
    /// Loads the library and lists the devices.
    ///
    /// # Errors
    /// There is no library, or it finds no driver.
    pub fn open() -> Result<Self, NvmlError> {
        let inner = nvml_wrapper::Nvml::builder().lib_path(OsStr::new(LIBRARY)).init().map_err(failed("nvmlInit"))?;
        if inner.lib().nvmlShutdown.is_err() {
            // Dropping it would call the missing function, which the wrapper takes for a reason to panic.
            std::mem::forget(inner);
            return Err(NvmlError::Call { call: "nvmlShutdown", error: missing() });
        }
        let mut nvml = Self { inner, places: Vec::new(), unreadable: Vec::new() };
        nvml.enumerate()?;
        Ok(nvml)
    }

    /// Lists the devices in the order of the PCI bus, as CUDA does under `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
    fn enumerate(&mut self) -> Result<(), NvmlError> {
        let count = self.inner.device_count().map_err(failed("nvmlDeviceGetCount"))?;
        let mut on_bus = Vec::new();
        for index in 0..count {
            match self.gpu(index) {
                Ok((address, place)) => on_bus.push((address, place)),
                // A GPU that is lost or forbidden to this user must not hide the others.
                Err(error) => self.unreadable.push((index, error)),
            }
        }
        on_bus.sort_by_key(|(address, _)| *address);
        for (_, place) in on_bus {
            let instances = self.instances(&place);
            self.places.push(place);
            self.places.extend(instances);
        }
        Ok(())
    }

    /// The GPU, and its place on the bus: after all others, in NVML's order, where NVML does not tell.
    fn gpu(&self, index: u32) -> Result<([u32; 3], Place), NvmlError> {
        let device = self.inner.device_by_index(index).map_err(failed("nvmlDeviceGetHandleByIndex"))?;
        let uuid = device.uuid().map_err(failed("nvmlDeviceGetUUID"))?;
        let uuid = uuid.parse().map_err(|_| NvmlError::Call { call: "nvmlDeviceGetUUID", error: uuid })?;
        let (address, pci_bus_id) = match device.pci_info() {
            Ok(pci) => ([pci.domain, pci.bus, pci.device], pci.bus_id),
            Err(_) => ([u32::MAX; 3], String::new()),
        };
        let known = Known { uuid, pci_bus_id, kind: Kind::Gpu };
        Ok((address, Place { known, index, instance: None }))
    }

    /// The MIG instances of a GPU. None where it has none, or where it cannot say.
    fn instances(&self, gpu: &Place) -> Vec<Place> {
        let Ok(device) = self.inner.device_by_index(gpu.index) else { return Vec::new() };
        if !device.mig_mode().is_ok_and(|mode| mode.current == MIG_ENABLED) {
            return Vec::new();
        }
        // The count is of places, some of which may be empty.
        let instances = (0..device.mig_device_count().unwrap_or(0)).filter_map(|instance| {
            let uuid = device.mig_device_by_index(instance).ok()?.uuid().ok()?.parse().ok()?;
            let known = Known { uuid, pci_bus_id: gpu.known.pci_bus_id.clone(), kind: Kind::Instance };
            Some(Place { known, index: gpu.index, instance: Some(instance) })
        });
        instances.collect()
    }

    /// All devices of the machine in the order of the PCI bus, each GPU before its MIG instances.
    pub fn known(&self) -> Result<Vec<Known>, NvmlError> {
        Ok(self.places.iter().map(|place| place.known.clone()).collect())
    }

    /// The GPUs, by index, that NVML counts but cannot describe: lost, or forbidden to this user.
    pub fn unreadable(&self) -> &[(u32, NvmlError)] {
        &self.unreadable
    }

    /// Such as `570.86.15`.
    pub fn driver_version(&self) -> Result<String, NvmlError> {
        self.inner.sys_driver_version().map_err(failed("nvmlSystemGetDriverVersion"))
    }

    /// Such as `12.570.86.15`.
    pub fn version(&self) -> Result<String, NvmlError> {
        self.inner.sys_nvml_version().map_err(failed("nvmlSystemGetNVMLVersion"))
    }

    /// The index that nvidia-smi shows; of a MIG instance, its GPU's.
    pub fn index(&self, uuid: GpuUuid) -> Option<u32> {
        self.places.iter().find(|place| place.known.uuid == uuid).map(|place| place.index)
    }

    pub fn name(&self, uuid: GpuUuid) -> Result<String, NvmlError> {
        self.device(uuid)?.name().map_err(failed("nvmlDeviceGetName"))
    }

    pub fn compute_mode(&self, uuid: GpuUuid) -> Result<ComputeMode, NvmlError> {
        let mode = self.device(uuid)?.compute_mode().map_err(failed("nvmlDeviceGetComputeMode"))?;
        Ok(match mode {
            WrappedMode::Default => ComputeMode::Default,
            WrappedMode::Prohibited => ComputeMode::Prohibited,
            // One thread of one process: no driver that this program runs on has that mode still.
            WrappedMode::ExclusiveThread | WrappedMode::ExclusiveProcess => ComputeMode::ExclusiveProcess,
        })
    }

    /// Whether the GPU is split into MIG instances.
    pub fn mig_enabled(&self, uuid: GpuUuid) -> Result<bool, NvmlError> {
        let mode = self.device(uuid)?.mig_mode().map_err(failed("nvmlDeviceGetMigMode"))?;
        Ok(mode.current == MIG_ENABLED)
    }

    /// How busy the GPU was in the last moments, in percent.
    pub fn utilization(&self, uuid: GpuUuid) -> Result<u32, NvmlError> {
        let rates = self.device(uuid)?.utilization_rates().map_err(failed("nvmlDeviceGetUtilizationRates"))?;
        Ok(rates.gpu)
    }

    /// The memory as nvidia-smi shows it.
    ///
    /// The second version of the call tells what the driver reserves apart from what processes use, as nvidia-smi does; the
    /// first counts it as used, so that an idle GPU looks occupied. Both agree on what is free, and with `cuMemGetInfo`.
    pub fn memory(&self, uuid: GpuUuid) -> Result<MemoryUse, NvmlError> {
        let device = self.device(uuid)?;
        match device.memory_info() {
            Ok(memory) => Ok(MemoryUse {
                total: ByteSize::new(memory.total),
                used: ByteSize::new(memory.used),
                free: ByteSize::new(memory.free),
                reserved: ByteSize::new(memory.reserved),
            }),
            // Drivers before 510 have the first version only; whatever else is wrong, it meets as well.
            Err(_) => self.memory_before_510(&device),
        }
    }

    #[expect(unsafe_code, reason = "the wrapper has no call for the first version")]
    fn memory_before_510(&self, device: &nvml_wrapper::Device<'_>) -> Result<MemoryUse, NvmlError> {
        let call = "nvmlDeviceGetMemoryInfo";
        let function = self.inner.lib().nvmlDeviceGetMemoryInfo.as_ref();
        let function = function.map_err(|_| NvmlError::Call { call, error: missing() })?;
        // SAFETY: the structure is three integers, for which zero is a value.
        let mut memory = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is used while `self`, which gave it, lives.
        let handle = unsafe { device.handle() };
        // SAFETY: the handle is NVML's own, and the pointer is to a live structure of the type the function fills.
        let result = unsafe { function(handle, &raw mut memory) };
        nvml_wrapper::error::nvml_try(result).map_err(failed(call))?;
        Ok(MemoryUse {
            total: ByteSize::new(memory.total),
            used: ByteSize::new(memory.used),
            free: ByteSize::new(memory.free),
            reserved: ByteSize::ZERO,
        })
    }

    /// The processes on a GPU, by pid: those that compute, those that draw, and the clients of MPS.
    pub fn processes(&self, uuid: GpuUuid) -> Result<Vec<GpuProcess>, NvmlError> {
        let device = self.device(uuid)?;
        // Drivers before 510 lack the third version of the calls.
        let compute = listed(|| device.running_compute_processes());
        let compute = compute.or_else(|_| listed(|| device.running_compute_processes_v2()));
        let compute = compute.map_err(failed("nvmlDeviceGetComputeRunningProcesses"))?;
        // Not every GPU knows of the other two kinds; the first list is worth showing without them.
        let graphics = listed(|| device.running_graphics_processes());
        let graphics = graphics.or_else(|_| listed(|| device.running_graphics_processes_v2())).unwrap_or_default();
        let mps = listed(|| device.mps_running_compute_processes()).unwrap_or_default();
        Ok(merged([compute, graphics, mps]))
    }

    fn device(&self, uuid: GpuUuid) -> Result<nvml_wrapper::Device<'_>, NvmlError> {
        let place = self.places.iter().find(|place| place.known.uuid == uuid).ok_or(NvmlError::NoSuchGpu(uuid))?;
        let device = self.inner.device_by_index(place.index).map_err(failed("nvmlDeviceGetHandleByIndex"))?;
        match place.instance {
            None => Ok(device),
            Some(instance) => {
                device.mig_device_by_index(instance).map_err(failed("nvmlDeviceGetMigDeviceHandleByIndex"))
            }
        }
    }
}

/// Asks again when processes started between the two calls, of which the first tells how long the list is.
fn listed(ask: impl Fn() -> Result<Vec<ProcessInfo>, Code>) -> Result<Vec<ProcessInfo>, Code> {
    let again = |outcome| if matches!(outcome, Err(Code::InsufficientSize(_))) { ask() } else { outcome };
    again(again(ask()))
}

/// One entry a process. In one list a process has an entry for each instance it uses; between the lists its memory is the
/// same, told again.
fn merged(lists: [Vec<ProcessInfo>; 3]) -> Vec<GpuProcess> {
    let mut all: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    for list in lists {
        let mut here: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for process in list {
            let used = match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            let sum = here.entry(process.pid).or_default();
            *sum = sum.map_or(used, |sum| Some(sum.saturating_add(used.unwrap_or(0))));
        }
        for (pid, used) in here {
            let largest = all.entry(pid).or_default();
            *largest = (*largest).max(used);
        }
    }
    all.into_iter().map(|(pid, used_bytes)| GpuProcess { pid, used_bytes }).collect()
}

fn failed(call: &'static str) -> impl Fn(Code) -> NvmlError {
    move |error| match error {
        Code::LibloadingError(error) => NvmlError::NoLibrary(error.to_string()),
        error => NvmlError::Call { call, error: name(&error) },
    }
}

fn missing() -> String {
    name(&Code::FunctionNotFound)
}

/// The error as `nvml.h` names it, which is what people search for.
fn name(error: &Code) -> String {
    let name = match error {
        Code::Uninitialized => "UNINITIALIZED",
        Code::InvalidArg => "INVALID_ARGUMENT",
        Code::NotSupported => "NOT_SUPPORTED",
        Code::NoPermission => "NO_PERMISSION",
        Code::NotFound => "NOT_FOUND",
        Code::InsufficientSize(_) => "INSUFFICIENT_SIZE",
        Code::InsufficientPower => "INSUFFICIENT_POWER",
        Code::DriverNotLoaded => "DRIVER_NOT_LOADED",
        Code::Timeout => "TIMEOUT",
        Code::IrqIssue => "IRQ_ISSUE",
        Code::LibraryNotFound => "LIBRARY_NOT_FOUND",
        Code::FunctionNotFound | Code::FailedToLoadSymbol(_) => "FUNCTION_NOT_FOUND",
        Code::CorruptedInfoROM => "CORRUPTED_INFOROM",
        Code::GpuLost => "GPU_IS_LOST",
        Code::ResetRequired => "RESET_REQUIRED",
        Code::OperatingSystem => "OPERATING_SYSTEM",
        Code::LibRmVersionMismatch => "LIB_RM_VERSION_MISMATCH",
        Code::InUse => "IN_USE",
        Code::InsufficientMemory => "MEMORY",
        Code::NoData => "NO_DATA",
        Code::Unknown => "UNKNOWN",
        Code::UnexpectedVariant(code) => return format!("NVML error {code}"),
        other => return other.to_string(),
    };
    format!("NVML_ERROR_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, used_gpu_memory: UsedGpuMemory) -> ProcessInfo {
        ProcessInfo { pid, used_gpu_memory, gpu_instance_id: None, compute_instance_id: None }
    }

    #[test]
    fn a_process_that_computes_and_draws_is_counted_once() {
        let compute = vec![process(7, UsedGpuMemory::Used(300)), process(3, UsedGpuMemory::Unavailable)];
        let graphics = vec![process(7, UsedGpuMemory::Used(300)), process(9, UsedGpuMemory::Used(5))];
        let expected = [(3, None), (7, Some(300)), (9, Some(5))];
        let expected = expected.map(|(pid, used_bytes)| GpuProcess { pid, used_bytes });
        assert_eq!(merged([compute, graphics, Vec::new()]), expected);
    }

    #[test]
    fn a_process_on_two_instances_of_a_gpu_has_the_sum() {
        let compute = vec![process(7, UsedGpuMemory::Used(300)), process(7, UsedGpuMemory::Used(40))];
        assert_eq!(merged([compute, Vec::new(), Vec::new()]), [GpuProcess { pid: 7, used_bytes: Some(340) }]);
    }

    #[test]
    fn a_list_that_grew_meanwhile_is_asked_for_again() {
        let asked = std::cell::Cell::new(0);
        let list = listed(|| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                Err(Code::InsufficientSize(None))
            } else {
                Ok(vec![process(1, UsedGpuMemory::Used(1))])
            }
        });
        assert_eq!((list.map(|list| list.len()).ok(), asked.get()), (Some(1), 2));
    }

    #[test]
    fn errors_have_the_names_of_the_header() {
        assert_eq!(failed("nvmlInit")(Code::DriverNotLoaded).to_string(), "nvmlInit: NVML_ERROR_DRIVER_NOT_LOADED");
        assert_eq!(failed("nvmlInit")(Code::UnexpectedVariant(999_999)).to_string(), "nvmlInit: NVML error 999999");
    }
}
