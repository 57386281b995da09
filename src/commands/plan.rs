//! From the options of `hold` and `run` to the holder's plan: names resolved to GPUs, sizes to amounts. Touches no device
//! memory.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::cli::{Patience, Reservation};
use crate::commands::failure::Failure;
use crate::commands::talk::shortened;
use crate::control::name::Name;
use crate::exit::Exit;
use crate::gpu::{CallError, ComputeMode, Device, Driver, DriverError, GpuSelector, Kind, Known, Nvml, SelectError};
use crate::gpu::{Selection, VISIBLE_DEVICES, Visibility, Visible, VisibleDevices};
use crate::holder::{Backing, Gpus, Holder, Manner, OnShort, Plan, Waiting, Wanted, process};
use crate::units::{Amount, ByteSize, PerGpu, ReserveSpec};

/// A plan, and the GPUs that it may use, as the caller names them.
pub struct Planned {
    pub plan: Plan,
    pub gpus: Vec<Visible>,
}

/// The holder's GPUs as the caller names them, in the order of the request.
pub fn chosen(gpus: &[Visible], holder: &Holder) -> Vec<Visible> {
    holder.gpus().filter_map(|uuid| gpus.iter().find(|gpu| gpu.known.uuid == uuid).cloned()).collect()
}

/// Turns the options into a plan for a holder that runs `command`.
pub fn plan(options: &Reservation, command: String) -> Result<Planned, Failure> {
    let waiting = waiting(options);
    let outlived = options.until_exit.map(outlived).transpose()?;
    let name = options.name.as_deref().map(str::parse::<Name>).transpose().map_err(Failure::usage)?;
    let selectors = selectors(&options.gpu)?;
    let driver = Driver::load()?;
    let devices = driver.devices()?;
    let (wanted, gpus) = match select(&devices, &selectors)? {
        Selection::These(gpus) => (these(&options.reserve, &gpus, &devices)?, gpus),
        Selection::Any { count, among } => (any(&options.reserve, count, &among, &devices)?, among),
    };
    let plan = Plan {
        name,
        reason: options.reason.clone().map(shortened),
        command: shortened(command),
        gpus: wanted,
        backing: Backing { has_context: !options.contextless, is_lendable: false },
        chunk_size: options.chunk_size,
        on_short: if options.best_effort { OnShort::Keep } else { OnShort::GiveBack },
        waiting,
        // As with timeout(1).
        timeout: options.timeout.filter(|timeout| !timeout.is_zero()),
        outlived,
        log: None,
    };
    Ok(Planned { plan, gpus })
}

/// A descriptor for the process of `--until-exit`. One that has ended already would end the balloon at once.
fn outlived(pid: i32) -> Result<OwnedFd, Failure> {
    process(pid).map_err(|error| {
        Failure::usage(error).context(format!("cannot wait for the end of process {pid}")).hint("see ps -p PID")
    })
}

/// `--wait` counts from here. To wait no time is not to wait, as with flock(1).
fn waiting(options: &Reservation) -> Option<Waiting> {
    let until = match options.wait {
        Some(Patience::For(Duration::ZERO)) => return None,
        Some(Patience::For(time)) => Instant::now().checked_add(time),
        Some(Patience::Forever) => None,
        None if options.greedy => None,
        None => return None,
    };
    let manner = if options.greedy { Manner::PieceByPiece } else { Manner::AllAtOnce };
    Some(Waiting { manner, until })
}

fn these(reserve: &ReserveSpec, gpus: &[Visible], devices: &[Device]) -> Result<Gpus, Failure> {
    let amounts = reserve.per_gpu(gpus).map_err(Failure::usage)?;
    let nvml = amounts.contains(&Amount::Auto).then(Nvml::open).and_then(Result::ok);
    let wish = |(gpu, amount): (&Visible, Amount)| {
        let wanted = wanted(gpu, amount, devices)?;
        let utilization = nvml.as_ref().and_then(|nvml| nvml.utilization(gpu.known.uuid).ok());
        tracing::debug!(gpu = gpu.ordinal, uuid = %gpu.known.uuid, %amount, utilization, "wanted");
        Ok(Wanted { utilization, ..wanted })
    };
    Ok(Gpus::These(gpus.iter().zip(amounts).map(wish).collect::<Result<_, Failure>>()?))
}

/// For any of the GPUs: sizes by GPU hold on that GPU, a list of sizes goes by the order in which they are chosen.
fn any(reserve: &ReserveSpec, count: usize, among: &[Visible], devices: &[Device]) -> Result<Gpus, Failure> {
    let amounts: Vec<Vec<Amount>> = match reserve {
        PerGpu::Named(_) => {
            let amounts = reserve.per_gpu(among).map_err(Failure::usage)?;
            amounts.into_iter().map(|amount| vec![amount; count]).collect()
        }
        PerGpu::Same(_) | PerGpu::InOrder(_) => {
            let amounts = reserve.per_gpu(&among[..count]).map_err(Failure::usage)?;
            vec![amounts; among.len()]
        }
    };
    let wishes = |(gpu, amounts): (&Visible, Vec<Amount>)| {
        amounts.into_iter().map(|amount| wanted(gpu, amount, devices)).collect::<Result<Vec<_>, _>>()
    };
    let (able, unable): (Vec<_>, Vec<_>) = among.iter().zip(amounts).map(wishes).partition(Result::is_ok);
    let able: Vec<Vec<Wanted>> = able.into_iter().filter_map(Result::ok).collect();
    match unable.into_iter().find_map(Result::err) {
        // A GPU that can never take it is none to choose from.
        Some(failure) if able.len() < count => Err(failure),
        _ => Ok(Gpus::Any(able)),
    }
}

/// What is wanted of one GPU, unless it can never take it.
fn wanted(gpu: &Visible, amount: Amount, devices: &[Device]) -> Result<Wanted, Failure> {
    let device = devices.iter().find(|device| device.ordinal == gpu.ordinal).ok_or_else(|| no_gpu(&gpu.known))?;
    refuse_mode(device)?;
    let total = device.total()?;
    refuse_more_than_total(device, total, amount)?;
    Ok(Wanted { device: device.clone(), total, amount, utilization: None })
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
    error.into()
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
        .hint(format!("root can let processes in: nvidia-smi -i {} -c DEFAULT", device.uuid))),
        ComputeMode::Default | ComputeMode::ExclusiveProcess => Ok(()),
    }
}

/// Avoids GPUs in exclusive-process mode where there are others to choose from: such a one takes one process with a
/// context, which would be the holder and not its command.
///
/// # Errors
/// There are no others.
pub fn avoid_exclusive(plan: &mut Plan) -> Result<(), Failure> {
    if !plan.backing.has_context {
        return Ok(());
    }
    let is_exclusive = |wanted: &Wanted| Ok(wanted.device.compute_mode()? == ComputeMode::ExclusiveProcess);
    if let Gpus::Any(among) = &mut plan.gpus {
        let closed =
            among.iter().flat_map(|wishes| wishes.first()).map(is_exclusive).collect::<Result<Vec<_>, CallError>>()?;
        let open: Vec<Vec<Wanted>> =
            among.iter().zip(closed).filter(|(_, is_closed)| !is_closed).map(|(wishes, _)| wishes.clone()).collect();
        // Where there are others to choose from.
        if open.first().is_some_and(|wishes| open.len() >= wishes.len()) {
            *among = open;
        }
    }
    for wanted in plan.gpus.all() {
        if is_exclusive(wanted)? {
            let ordinal = wanted.device.ordinal;
            let why = anyhow::anyhow!(
                "GPU {ordinal} is in exclusive-process compute mode: the balloon would lock the command out"
            );
            return Err(Failure::new(Exit::RunFailed, why)
                .hint("use --contextless; or root can change the mode: nvidia-smi -c DEFAULT"));
        }
    }
    Ok(())
}

/// What can never fit is refused before a context takes any device memory.
fn refuse_more_than_total(device: &Device, total: ByteSize, amount: Amount) -> Result<(), Failure> {
    let memory = crate::units::Memory { free: total, total, held: ByteSize::ZERO };
    match amount.resolve(&memory, None, crate::gpu::GRANULARITY) {
        Err(error) if !error.is_shortage() => Err(Failure::usage(error).context(format!("GPU {}", device.ordinal))),
        _ => Ok(()),
    }
}
