//! The GPUs as NVML shows them, and what `CUDA_VISIBLE_DEVICES` lets CUDA see of them.

use std::collections::BTreeSet;

use crate::commands::Failure;
use crate::commands::plan::visible_devices;
use crate::exit::Exit;
use crate::gpu::{ComputeMode, GpuProcess, GpuUuid, Known, MemoryUse, Nvml, NvmlError, Visibility};
use crate::units::ByteSize;

/// All GPUs at one moment.
pub struct Machine {
    pub visibility: Visibility,
    pub gpus: Vec<Reading>,
    /// What NVML says of the GPUs that it counts but does not describe.
    pub unreadable: Vec<String>,
}

/// Why no GPU can be shown.
#[derive(Debug, thiserror::Error)]
pub enum NoGpus {
    #[error(transparent)]
    Nvml(#[from] NvmlError),
    #[error("NVML shows no GPU")]
    None,
}

impl From<NoGpus> for Failure {
    fn from(error: NoGpus) -> Self {
        let hint = match &error {
            NoGpus::Nvml(NvmlError::NoLibrary(_)) => {
                "install the NVIDIA driver; a container needs --gpus, and `utility` in NVIDIA_DRIVER_CAPABILITIES"
            }
            NoGpus::Nvml(error) if error.is_mismatch() => {
                "the kernel module is of another version than the library; reboot after a driver update"
            }
            NoGpus::Nvml(_) => "see whether nvidia-smi works, and dmesg for the driver's messages",
            NoGpus::None => "see whether nvidia-smi shows a GPU, and whether the container was given one",
        };
        Self::new(Exit::NoGpu, error).context("no usable driver or GPU").hint(hint)
    }
}

/// A GPU as NVML shows it. What it does not tell is `None`, and no processes.
pub struct Reading {
    pub known: Known,
    pub index: Option<u32>,
    pub name: Option<String>,
    pub memory: Option<MemoryUse>,
    pub utilization_percent: Option<u32>,
    pub compute_mode: Option<ComputeMode>,
    pub is_mig_enabled: Option<bool>,
    pub processes: Vec<GpuProcess>,
}

impl Machine {
    /// Asks NVML about every GPU. Creates no CUDA context and does not load CUDA.
    ///
    /// # Errors
    /// NVML shows none.
    pub fn read(nvml: &Nvml) -> Result<Self, NoGpus> {
        let known = nvml.known()?;
        let unreadable = nvml.unreadable().iter();
        let unreadable: Vec<String> =
            unreadable.map(|(index, error)| format!("nvidia-smi's GPU {index} is not shown: {error}")).collect();
        if known.is_empty() && unreadable.is_empty() {
            return Err(NoGpus::None);
        }
        let visibility = visible_devices().apply(&known);
        let gpus = known.into_iter().map(|known| Reading::of(nvml, known)).collect();
        Ok(Self { visibility, gpus, unreadable })
    }

    /// A machine about which nothing is known.
    pub fn unknown() -> Self {
        Self { visibility: visible_devices().apply(&[]), gpus: Vec::new(), unreadable: Vec::new() }
    }

    /// What `--gpu` calls it; `None` where CUDA does not see it.
    pub fn ordinal(&self, uuid: GpuUuid) -> Option<u32> {
        self.visibility.gpus.iter().find(|gpu| gpu.known.uuid == uuid).map(|gpu| gpu.ordinal)
    }

    pub fn gpu(&self, uuid: GpuUuid) -> Option<&Reading> {
        self.gpus.iter().find(|gpu| gpu.known.uuid == uuid)
    }

    /// The memory of a process on a GPU, where NVML shows the process and its memory.
    pub fn used_by(&self, pid: u32, uuid: GpuUuid) -> Option<ByteSize> {
        self.gpu(uuid)?.processes.iter().find(|process| process.pid == pid)?.used_bytes.map(ByteSize::new)
    }

    /// The GPUs on which a process has memory.
    pub fn gpus_of(&self, pid: u32) -> Vec<GpuUuid> {
        let gpus = self.gpus.iter().filter(|gpu| gpu.processes.iter().any(|process| process.pid == pid));
        gpus.map(|gpu| gpu.known.uuid).collect()
    }

    /// Every process with memory on any GPU.
    pub fn pids(&self) -> BTreeSet<u32> {
        self.gpus.iter().flat_map(|gpu| &gpu.processes).map(|process| process.pid).collect()
    }
}

impl Reading {
    fn of(nvml: &Nvml, known: Known) -> Self {
        let uuid = known.uuid;
        Self {
            index: nvml.index(uuid),
            name: nvml.name(uuid).ok(),
            memory: nvml.memory(uuid).ok(),
            utilization_percent: nvml.utilization(uuid).ok(),
            compute_mode: nvml.compute_mode(uuid).ok(),
            is_mig_enabled: nvml.mig_enabled(uuid).ok(),
            processes: nvml.processes(uuid).unwrap_or_default(),
            known,
        }
    }

    pub fn pci_bus_id(&self) -> Option<String> {
        Some(self.known.pci_bus_id.clone()).filter(|bus_id| !bus_id.is_empty())
    }

    /// One of which NVML tells nothing more.
    #[cfg(test)]
    pub fn unread(known: Known) -> Self {
        Self {
            known,
            index: None,
            name: None,
            memory: None,
            utilization_percent: None,
            compute_mode: None,
            is_mig_enabled: None,
            processes: Vec::new(),
        }
    }
}
