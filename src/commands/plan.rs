//! From the options of `hold` and `run` to the holder's plan: names resolved to GPUs, sizes to amounts. Touches no device
//! memory.

use crate::cli::Reservation;
use crate::commands::failure::{Failure, no_gpu_hint};
use crate::control::name::Name;
use crate::exit::Exit;
use crate::gpu::{CallError, ComputeMode, Device, Driver, DriverError, GpuSelector, Kind, Known, Nvml, SelectError};
use crate::gpu::{Selection, VISIBLE_DEVICES, Visibility, Visible, VisibleDevices};
use crate::holder::worker::{Backing, OnShort};
use crate::holder::{Plan, Wanted};
use crate::units::{Amount, ByteSize};

/// A plan, and the chosen GPUs as the caller names them.
pub struct Planned {
    pub plan: Plan,
    pub gpus: Vec<Visible>,
}

/// Turns the options into a plan for a holder that runs `command`.
pub fn plan(options: &Reservation, command: String) -> Result<Planned, Failure> {
    let name = options.name.as_deref().map(str::parse::<Name>).transpose().map_err(Failure::usage)?;
    if options.chunk_size.is_zero() {
        return Err(Failure::usage(anyhow::anyhow!("a chunk of no size: write `--chunk-size 100MB`")));
    }
    let selectors = selectors(&options.gpu)?;
    let driver = Driver::load()?;
    let devices = driver.devices()?;
    let selection = select(&devices, &selectors)?;
    let gpus = match selection {
        Selection::These(gpus) => gpus,
        Selection::Any { count, among } => most_free(count, among)?,
    };
    let amounts = options.reserve.per_gpu(&gpus).map_err(Failure::usage)?;
    let nvml = amounts.contains(&Amount::Auto).then(Nvml::open).and_then(Result::ok);
    let mut wanted = Vec::new();
    for (gpu, amount) in gpus.iter().zip(amounts) {
        let device = devices.iter().find(|device| device.ordinal == gpu.ordinal).ok_or_else(|| no_gpu(&gpu.known))?;
        refuse_mode(device)?;
        refuse_more_than_total(device, amount)?;
        let utilization = nvml.as_ref().and_then(|nvml| nvml.utilization(device.uuid).ok());
        wanted.push(Wanted { device: device.clone(), amount, utilization });
    }
    let plan = Plan {
        name,
        reason: options.reason.clone(),
        command,
        gpus: wanted,
        backing: if options.contextless { Backing::Contextless } else { Backing::Context },
        chunk_size: options.chunk_size,
        on_short: if options.best_effort { OnShort::Keep } else { OnShort::GiveBack },
        timeout: options.timeout,
        log: None,
    };
    Ok(Planned { plan, gpus })
}

/// Reads `--gpu`, whose values are lists.
pub fn selectors(values: &[String]) -> Result<Vec<GpuSelector>, Failure> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .map(|item| item.parse::<GpuSelector>().map_err(Failure::usage))
        .collect()
}

/// `CUDA_VISIBLE_DEVICES` as the environment has it.
pub fn visible_devices() -> VisibleDevices {
    let value = std::env::var_os(VISIBLE_DEVICES).map(|value| value.to_string_lossy().into_owned());
    VisibleDevices::new(value.as_deref())
}

/// What CUDA shows to this process, without a CUDA context. NVML knows best, because it also knows what is hidden.
///
/// # Errors
/// Neither NVML nor the CUDA driver can be asked.
pub fn visibility() -> Result<Visibility, Failure> {
    match Nvml::open().ok().and_then(|nvml| nvml.known().ok()) {
        Some(known) => Ok(visible_devices().apply(&known)),
        None => enumerated(&Driver::load()?.devices()?).map_err(Failure::from),
    }
}

/// The same from CUDA's own list.
fn enumerated(devices: &[Device]) -> Result<Visibility, CallError> {
    let known = devices.iter().map(|device| {
        let kind = if device.is_instance()? { Kind::Instance } else { Kind::Gpu };
        Ok(Known { uuid: device.uuid, pci_bus_id: device.pci_bus_id()?, kind })
    });
    Ok(visible_devices().enumerated(&known.collect::<Result<Vec<_>, CallError>>()?))
}

fn select(devices: &[Device], selectors: &[GpuSelector]) -> Result<Selection, Failure> {
    enumerated(devices)?.select(selectors).map_err(|error| refused(selectors, error))
}

/// Only where CUDA's own list does not explain a refusal is NVML asked.
fn refused(selectors: &[GpuSelector], error: SelectError) -> Failure {
    let whole = Nvml::open().ok().and_then(|nvml| nvml.known().ok()).map(|known| visible_devices().apply(&known));
    let error = whole.and_then(|visibility| visibility.select(selectors).err()).unwrap_or(error);
    match error {
        SelectError::NoneVisible(_) => {
            Failure::new(Exit::NoGpu, error).context("no usable driver or GPU").hint(no_gpu_hint())
        }
        error => Failure::usage(error),
    }
}

/// The `count` GPUs of `among` with the most free memory, lower ordinals first among equals.
fn most_free(count: usize, among: Vec<Visible>) -> Result<Vec<Visible>, Failure> {
    let nvml = Nvml::open().map_err(|error| {
        Failure::new(Exit::NoGpu, error).context("cannot tell which GPU has the most free memory").hint("name the GPUs")
    })?;
    let mut gpus = among;
    gpus.sort_by_key(|gpu| std::cmp::Reverse(nvml.memory(gpu.known.uuid).map_or(ByteSize::ZERO, |memory| memory.free)));
    gpus.truncate(count);
    gpus.sort_by_key(|gpu| gpu.ordinal);
    Ok(gpus)
}

fn no_gpu(known: &Known) -> Failure {
    Failure::from(DriverError::NoGpu).context(format!("{} is gone", known.uuid))
}

/// A prohibited GPU takes no context; saying so beats the driver's error for it.
fn refuse_mode(device: &Device) -> Result<(), Failure> {
    match device.compute_mode()? {
        ComputeMode::Prohibited => Err(Failure::new(
            Exit::NoGpu,
            anyhow::anyhow!("GPU {} is in prohibited compute mode and takes no process", device.ordinal),
        )
        .hint("root can change it: nvidia-smi -c DEFAULT")),
        ComputeMode::Default | ComputeMode::ExclusiveProcess => Ok(()),
    }
}

/// What can never fit is refused before a context takes any device memory.
fn refuse_more_than_total(device: &Device, amount: Amount) -> Result<(), Failure> {
    let total = device.total()?;
    let memory = crate::units::Memory { free: total, total, held: ByteSize::ZERO };
    match amount.resolve(&memory, None, crate::gpu::GRANULARITY) {
        Err(error) if !error.is_shortage() => Err(Failure::usage(error).context(format!("GPU {}", device.ordinal))),
        _ => Ok(()),
    }
}
