//! What a sandbox shall be.

use std::io;
use std::path::Path;
use std::time::Duration;

use gpu_sim_state::{ComputeMode, Family, GpuConfig, Machine, State};

use crate::Sandbox;
use crate::libraries::{self, Variant};

/// Two GPUs of 24 GB and all costs zero, unless told otherwise. What is set for all GPUs can be set for each: a list
/// that is shorter than the number of GPUs goes on with its last value.
#[derive(Debug, Clone)]
pub struct Builder {
    gpus: usize,
    memory: Vec<u64>,
    context: u64,
    reserved: u64,
    withheld: u64,
    utilization: Vec<u32>,
    compute_mode: Vec<ComputeMode>,
    names: Vec<String>,
    machine: Machine,
    variant: Variant,
    delays: Vec<(Family, Duration)>,
    lag: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        let gpu = GpuConfig::default();
        Self {
            gpus: 2,
            memory: vec![gpu.total_bytes],
            context: gpu.context_bytes,
            reserved: gpu.reserved_bytes,
            withheld: gpu.withheld_bytes,
            utilization: vec![0],
            compute_mode: vec![ComputeMode::Default],
            names: vec![gpu.name],
            machine: Machine::default(),
            variant: Variant::default(),
            delays: Vec::new(),
            lag: Duration::ZERO,
        }
    }
}

impl Builder {
    pub fn gpus(mut self, gpus: usize) -> Self {
        self.gpus = gpus;
        self
    }

    /// Bytes of every GPU.
    pub fn memory(self, bytes: u64) -> Self {
        self.memory_each([bytes])
    }

    pub fn memory_each(mut self, bytes: impl Into<Vec<u64>>) -> Self {
        self.memory = bytes.into();
        self
    }

    /// Bytes that a context costs.
    pub fn context(mut self, bytes: u64) -> Self {
        self.context = bytes;
        self
    }

    /// Bytes that the driver keeps for itself.
    pub fn reserved(mut self, bytes: u64) -> Self {
        self.reserved = bytes;
        self
    }

    /// Bytes that the driver reports as free but gives to nobody.
    pub fn withheld(mut self, bytes: u64) -> Self {
        self.withheld = bytes;
        self
    }

    /// Percent.
    pub fn utilization_each(mut self, percent: impl Into<Vec<u32>>) -> Self {
        self.utilization = percent.into();
        self
    }

    pub fn compute_mode_each(mut self, modes: impl Into<Vec<ComputeMode>>) -> Self {
        self.compute_mode = modes.into();
        self
    }

    pub fn name_each(mut self, names: impl Into<Vec<String>>) -> Self {
        self.names = names.into();
        self
    }

    /// How CUDA numbers the GPUs, given by their index in PCI order, unless told to follow the PCI bus.
    pub fn fastest_first(mut self, order: impl Into<Vec<u32>>) -> Self {
        self.machine.fastest_first = order.into();
        self
    }

    /// As `cuDriverGetVersion` gives it. Symbols of later versions are not there.
    pub fn cuda_version(mut self, version: u32) -> Self {
        self.machine.cuda_version = version;
        self
    }

    pub fn driver_version(mut self, version: impl Into<String>) -> Self {
        self.machine.driver_version = version.into();
        self
    }

    /// The library is the toolkit's stub: every call fails.
    pub fn stub(mut self) -> Self {
        self.machine.is_stub = true;
        self
    }

    pub fn without_nvml(mut self) -> Self {
        self.variant.without_nvml = true;
        self
    }

    pub fn without_cuda(mut self) -> Self {
        self.variant.without_cuda = true;
        self
    }

    /// The driver is too old to have this symbol.
    pub fn without_symbol(mut self, symbol: impl Into<String>) -> Self {
        self.variant.without_symbols.push(symbol.into());
        self
    }

    /// What each call of a family costs.
    pub fn delay(mut self, family: Family, delay: Duration) -> Self {
        self.delays.push((family, delay));
        self
    }

    /// How long freed memory still counts as used in what the driver reports.
    pub fn lag(mut self, lag: Duration) -> Self {
        self.lag = lag;
        self
    }

    /// A sandbox of this process's own, gone with the value.
    ///
    /// # Panics
    /// If it cannot be made: a test cannot go on then.
    pub fn build(self) -> Sandbox {
        self.try_build().unwrap_or_else(|error| panic!("cannot make a sandbox: {error}"))
    }

    pub fn try_build(self) -> io::Result<Sandbox> {
        let directory = tempfile::Builder::new().prefix("gpu-sim-").tempdir()?;
        let state = self.lay_out(directory.path())?;
        Ok(Sandbox::new(state, Some(directory)))
    }

    /// A sandbox that stays in `directory`, which must not hold one yet.
    pub fn build_in(self, directory: &Path) -> io::Result<Sandbox> {
        std::fs::create_dir_all(directory)?;
        Ok(Sandbox::new(self.lay_out(directory)?, None))
    }

    fn lay_out(mut self, directory: &Path) -> io::Result<State> {
        self.variant.without_symbols.extend(libraries::newer_than(self.machine.cuda_version));
        libraries::install(&directory.join(crate::sandbox::LIBRARIES), &self.variant)?;
        self.machine.gpus = (0..self.gpus).map(|gpu| self.gpu(gpu)).collect();
        let state = State::create(directory, &self.machine)?;
        for (family, delay) in self.delays {
            state.set_delay(family, delay);
        }
        state.set_lag(self.lag);
        Ok(state)
    }

    fn gpu(&self, index: usize) -> GpuConfig {
        let gpu = GpuConfig::default();
        GpuConfig {
            name: of(&self.names, index).unwrap_or(gpu.name),
            total_bytes: of(&self.memory, index).unwrap_or(gpu.total_bytes),
            reserved_bytes: self.reserved,
            withheld_bytes: self.withheld,
            context_bytes: self.context,
            compute_mode: of(&self.compute_mode, index).unwrap_or(gpu.compute_mode),
            utilization_percent: of(&self.utilization, index).unwrap_or(gpu.utilization_percent),
        }
    }
}

fn of<T: Clone>(list: &[T], index: usize) -> Option<T> {
    list.get(index).or(list.last()).cloned()
}
