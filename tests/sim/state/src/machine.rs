//! What a sandbox's machine is made of.

use std::sync::atomic::Ordering::Relaxed;

use crate::layout::{ComputeMode, MAX_GPUS, Shared};

#[derive(Debug, Clone)]
pub struct Machine {
    pub gpus: Vec<GpuConfig>,
    /// As `cuDriverGetVersion` gives it: 13000 is CUDA 13.0.
    pub cuda_version: u32,
    pub driver_version: String,
    /// Answers like the toolkit's stub library.
    pub is_stub: bool,
    /// The GPUs, by index in PCI order, as CUDA numbers them unless told to follow the PCI bus. Empty: the same.
    pub fastest_first: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct GpuConfig {
    pub name: String,
    pub total_bytes: u64,
    /// What the driver takes for itself.
    pub reserved_bytes: u64,
    /// What the driver reports as free but gives to nobody: 2 MiB on an H100.
    pub withheld_bytes: u64,
    /// What a context costs.
    pub context_bytes: u64,
    pub compute_mode: ComputeMode,
    pub utilization_percent: u32,
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self {
            name: "NVIDIA Simulated GPU".to_owned(),
            total_bytes: 24 << 30,
            reserved_bytes: 0,
            withheld_bytes: 0,
            context_bytes: 500 << 20,
            compute_mode: ComputeMode::Default,
            utilization_percent: 0,
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            gpus: vec![GpuConfig::default(); 2],
            cuda_version: 13000,
            driver_version: "580.65.06".to_owned(),
            is_stub: false,
            fastest_first: Vec::new(),
        }
    }
}

impl Machine {
    pub(crate) fn write(&self, shared: &Shared) {
        shared.cuda_version.store(self.cuda_version, Relaxed);
        shared.driver_version.set(&self.driver_version);
        shared.is_stub.store(self.is_stub.into(), Relaxed);
        let gpus = self.gpus.iter().take(MAX_GPUS);
        shared.gpu_count.store(gpus.len() as u32, Relaxed);
        for (index, (gpu, config)) in (0_u32..).zip(shared.gpus.iter().zip(gpus)) {
            gpu.name.set(&config.name);
            // Bytes that differ from the first on, so that a short prefix is unique.
            let first = 0xa0_u8.wrapping_add((index as u8).wrapping_mul(0x11));
            for (byte, value) in gpu.uuid.iter().zip([first].into_iter().chain(0x51_u8..)) {
                byte.store(value, Relaxed);
            }
            gpu.pci_domain.store(0, Relaxed);
            gpu.pci_bus.store(0x17 + 0x1a * (index % 8) + index / 8, Relaxed);
            gpu.total.store(config.total_bytes, Relaxed);
            gpu.reserved.store(config.reserved_bytes, Relaxed);
            gpu.withheld.store(config.withheld_bytes, Relaxed);
            gpu.context_cost.store(config.context_bytes, Relaxed);
            gpu.compute_mode.store(config.compute_mode as u32, Relaxed);
            gpu.utilization.store(config.utilization_percent, Relaxed);
            let fastest = self.fastest_first.get(index as usize).copied().unwrap_or(index);
            shared.fastest_first[index as usize].store(fastest, Relaxed);
        }
    }
}

impl Shared {
    pub fn number_of_gpus(&self) -> usize {
        self.gpu_count.load(Relaxed) as usize
    }

    pub fn uuid(&self, gpu: usize) -> [u8; 16] {
        std::array::from_fn(|byte| self.gpus[gpu].uuid[byte].load(Relaxed))
    }

    /// As NVML and `nvidia-smi -L` write it.
    pub fn uuid_text(&self, gpu: usize) -> String {
        let dash = |index: usize| if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        let bytes = self.uuid(gpu).into_iter().enumerate();
        bytes.fold("GPU-".to_owned(), |text, (index, byte)| format!("{text}{}{byte:02x}", dash(index)))
    }
}
