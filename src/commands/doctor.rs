//! `gpu-balloon doctor`: looks at everything that a hold needs, then holds a small balloon on each GPU.

mod hidden;
mod trial;

use std::process::ExitCode;

use crate::cli;
use crate::commands::Failure;
use crate::commands::machine::{Machine, NoGpus, Reading};
use crate::commands::output::{look, print};
use crate::commands::plan::visible_devices;
use crate::control::directory::RuntimeDirectory;
use crate::exit::Exit;
use crate::gpu::{CallError, ComputeMode, Device, Driver, Kind, Nvml, VisibleDevices};
use crate::report::diagnosis::{Diagnosis, Examined, Problem};

/// Raised when a name of the JSON changes its meaning or goes away.
const SCHEMA: u32 = 1;

impl cli::Doctor {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let mut doctor = Doctor::default();
        let diagnosis = doctor.examine();
        print(&if self.json { diagnosis.json() } else { diagnosis.text(look()) })?;
        Ok(doctor.exit.unwrap_or_else(|| Exit::Done.into()))
    }
}

#[derive(Default)]
struct Doctor {
    /// Of the first problem.
    exit: Option<ExitCode>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Doctor {
    fn examine(&mut self) -> Diagnosis {
        let nvml = Nvml::open().inspect_err(|error| self.no_nvml(&error.to_string())).ok();
        let machine = nvml.as_ref().map_or_else(|| Ok(Machine::unknown()), Machine::read);
        let machine = machine.unwrap_or_else(|none: NoGpus| {
            self.no_nvml(&none.to_string());
            Machine::unknown()
        });
        self.notes.extend(machine.unreadable.iter().cloned());
        let driver = Driver::load().map_err(Failure::from);
        let driver = self.problem_unless(driver);
        let devices = driver.and_then(|driver| self.problem_unless(driver.devices().map_err(Failure::from)));
        let cuda_version = driver.and_then(|driver| driver.version().ok());
        let gpus = self.gpus(&machine, devices.as_deref(), nvml.as_ref());
        let directory = RuntimeDirectory::open().map_err(|error| Failure::new(Exit::Failed, error));
        let directory = self.problem_unless(directory);
        Diagnosis {
            schema: SCHEMA,
            is_healthy: self.problems.is_empty(),
            version: env!("CARGO_PKG_VERSION"),
            driver_version: nvml.as_ref().and_then(|nvml| nvml.driver_version().ok()),
            cuda_version: cuda_version.map(|(major, minor)| format!("{major}.{minor}")),
            nvml_version: nvml.as_ref().and_then(|nvml| nvml.version().ok()),
            visible_devices: match visible_devices() {
                VisibleDevices::Unset => None,
                VisibleDevices::Listed(list) => Some(list),
            },
            runtime_directory: directory.map(|directory| directory.path().display().to_string()),
            gpus,
            problems: std::mem::take(&mut self.problems),
            notes: std::mem::take(&mut self.notes),
        }
    }

    /// Holding works without NVML, but not well.
    fn no_nvml(&mut self, why: &str) {
        self.notes.push(format!("{why}: `status` shows no GPUs, and who is in the way of a hold is not known"));
    }

    fn problem_unless<T>(&mut self, outcome: Result<T, Failure>) -> Option<T> {
        outcome.map_err(|failure| self.problem(failure)).ok()
    }

    fn problem(&mut self, failure: Failure) {
        self.exit.get_or_insert(failure.exit);
        let (what, hint) = failure.quoted();
        self.problems.push(Problem { what, hint });
    }

    /// All GPUs that NVML shows, else those that CUDA shows.
    fn gpus(&mut self, machine: &Machine, devices: Option<&[Device]>, nvml: Option<&Nvml>) -> Vec<Examined> {
        let none_visible = devices.is_some_and(<[Device]>::is_empty);
        if none_visible {
            self.problem(Failure::from(crate::gpu::DriverError::NoGpu));
        }
        let device = |gpu: &Reading| devices?.iter().find(|device| device.uuid == gpu.known.uuid);
        let mut examined = Vec::new();
        for gpu in &machine.gpus {
            let mut seen = Examined::from(gpu);
            match device(gpu) {
                Some(device) => self.examine_device(&mut seen, device, nvml),
                None => {
                    seen.gpu_id = machine.ordinal(gpu.known.uuid).filter(|_| devices.is_none());
                    seen.hidden_because = hidden::why(machine, gpu, devices.is_some());
                }
            }
            examined.push(seen);
        }
        for device in devices.unwrap_or_default() {
            if machine.gpu(device.uuid).is_none() {
                match Examined::try_from(device) {
                    Ok(mut seen) => {
                        self.examine_device(&mut seen, device, nvml);
                        examined.push(seen);
                    }
                    Err(error) => self.problem(Failure::from(error).context(format!("GPU {}", device.ordinal))),
                }
            }
        }
        examined
    }

    fn examine_device(&mut self, seen: &mut Examined, device: &Device, nvml: Option<&Nvml>) {
        seen.gpu_id = Some(device.ordinal);
        let mode = device.compute_mode().unwrap_or(ComputeMode::Default);
        if mode == ComputeMode::Prohibited {
            let error = anyhow::anyhow!("GPU {} is in prohibited compute mode and takes no process", device.ordinal);
            return self.problem(Failure::new(Exit::NoGpu, error).hint("root can change it: nvidia-smi -c DEFAULT"));
        }
        if mode == ComputeMode::ExclusiveProcess {
            let ordinal = device.ordinal;
            self.notes
                .push(format!("GPU {ordinal} takes one process only (compute mode {mode}): none beside a holder"));
        }
        match trial::run(device, nvml) {
            Ok(trial) => seen.trial = Some(trial),
            Err(error) => self.problem(failed_trial(device, error)),
        }
    }
}

fn failed_trial(device: &Device, error: CallError) -> Failure {
    let out_of_memory = error.error.is_out_of_memory();
    let exit = if out_of_memory { Exit::NotAvailable } else { Exit::NoGpu };
    let hint = match (out_of_memory, error.error.is_unavailable()) {
        (true, _) => "the GPU is full; `gpu-balloon status` shows by whom",
        (_, true) => "the GPU takes no further process: see its compute mode (nvidia-smi -q -d COMPUTE)",
        _ => "see nvidia-smi, and dmesg for the driver's messages",
    };
    Failure::new(exit, error).context(format!("cannot hold memory on GPU {}", device.ordinal)).hint(hint)
}

impl From<&Reading> for Examined {
    fn from(gpu: &Reading) -> Self {
        Self {
            gpu_id: None,
            nvml_index: gpu.index,
            uuid: gpu.known.id(),
            pci_bus_id: gpu.pci_bus_id(),
            name: gpu.name.clone(),
            total_bytes: gpu.memory.map(|memory| memory.total),
            free_bytes: gpu.memory.map(|memory| memory.free),
            compute_mode: gpu.compute_mode.map(|mode| mode.to_string()),
            is_mig_enabled: gpu.is_mig_enabled,
            is_mig_instance: gpu.known.kind == Kind::Instance,
            hidden_because: None,
            trial: None,
        }
    }
}

/// A GPU of which only CUDA tells.
impl TryFrom<&Device> for Examined {
    type Error = CallError;

    fn try_from(device: &Device) -> Result<Self, CallError> {
        Ok(Self {
            gpu_id: Some(device.ordinal),
            nvml_index: None,
            uuid: device.uuid.to_string(),
            pci_bus_id: Some(device.pci_bus_id()?),
            name: Some(device.name()?),
            total_bytes: Some(device.total()?),
            free_bytes: None,
            compute_mode: Some(device.compute_mode()?.to_string()),
            is_mig_enabled: None,
            is_mig_instance: device.is_instance()?,
            hidden_because: None,
            trial: None,
        })
    }
}
