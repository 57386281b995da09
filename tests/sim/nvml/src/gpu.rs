//! Which GPU is which.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::Ordering::Relaxed;

use gpu_sim_state::State;

use crate::abi::{Gpu, Handle, Out, Result, Text, api, handle};
use crate::errors::NvmlError;
use crate::library::put;

/// `nvmlPciInfo_t` of version 3; version 2 ends before `bus_id`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PciInfo {
    legacy_bus_id: [u8; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
    subsystem_id: c_uint,
    bus_id: [u8; 32],
}

/// As `nvidia-smi -q` writes it.
fn bus_id(gpu: &Gpu, domain_digits: usize) -> String {
    let (domain, bus) = (gpu.pci_domain.load(Relaxed), gpu.pci_bus.load(Relaxed));
    format!("{domain:0domain_digits$X}:{bus:02X}:00.0")
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|index| text.as_bytes().get(index).copied().unwrap_or(0))
}

fn pci(gpu: &Gpu) -> PciInfo {
    PciInfo {
        legacy_bus_id: padded(&bus_id(gpu, 4)),
        domain: gpu.pci_domain.load(Relaxed),
        bus: gpu.pci_bus.load(Relaxed),
        device: 0,
        device_id: 0x2335_10de,
        subsystem_id: 0x18be_10de,
        bus_id: padded(&bus_id(gpu, 8)),
    }
}

/// Domain, bus and device of a written bus id; what is left out is 0.
fn parsed(text: &str) -> Option<(u32, u32, u32)> {
    let (place, _function) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = place.rsplit(':').map(|part| u32::from_str_radix(part, 16).ok());
    let (device, bus) = (parts.next()??, parts.next()??);
    Some((parts.next().unwrap_or(Some(0))?, bus, device))
}

fn found(state: &'static State, out: Out<Handle>, is_it: impl Fn(&Gpu) -> bool) -> Result {
    let out = out.wanted()?;
    let gpu = Gpu::all(state).find(is_it).ok_or(NvmlError::NOT_FOUND)?.present()?;
    out.put(handle(gpu.index))
}

api! {
    library: nvmlDeviceGetHandleByIndex | nvmlDeviceGetHandleByIndex_v2 (index: c_uint, out: Out<Handle>) |state| {
        let out = out.wanted()?;
        let gpu = Gpu::all(state).nth(index as usize).ok_or(NvmlError::INVALID_ARGUMENT)?.present()?;
        out.put(handle(gpu.index))
    }

    library: nvmlDeviceGetHandleByUUID (uuid: Text, out: Out<Handle>) |state| {
        let uuid = uuid.get()?.to_string_lossy();
        found(state, out, |gpu| state.uuid_text(gpu.index) == uuid)
    }

    library: nvmlDeviceGetHandleByPciBusId | nvmlDeviceGetHandleByPciBusId_v2
    (text: Text, out: Out<Handle>) |state| {
        let place = parsed(&text.get()?.to_string_lossy()).ok_or(NvmlError::NOT_FOUND)?;
        found(state, out, |gpu| place == (gpu.pci_domain.load(Relaxed), gpu.pci_bus.load(Relaxed), 0))
    }

    device: nvmlDeviceGetIndex | nvmlDeviceGetMinorNumber (index: Out<c_uint>) |gpu| {
        index.put(gpu.index as c_uint)
    }

    device: nvmlDeviceGetName (name: Out<c_char>, length: c_uint) |gpu| {
        put(name, &gpu.name.get(), length)
    }

    device: nvmlDeviceGetUUID (uuid: Out<c_char>, length: c_uint) |gpu| {
        put(uuid, &gpu.state.uuid_text(gpu.index), length)
    }

    device: nvmlDeviceGetSerial (serial: Out<c_char>, length: c_uint) |gpu| {
        put(serial, &format!("16533220{:05}", gpu.index), length)
    }

    device: nvmlDeviceGetPciInfo_v3 (out: Out<PciInfo>) |gpu| {
        out.put(pci(&gpu))
    }

    device: nvmlDeviceGetPciInfo | nvmlDeviceGetPciInfo_v2 (out: Out<[c_uint; 13]>) |gpu| {
        let info = pci(&gpu);
        let id: [u8; 16] = info.legacy_bus_id;
        let word = |at: usize| c_uint::from_ne_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]);
        let numbers = [info.domain, info.bus, info.device, info.device_id, info.subsystem_id];
        let words = [0, 4, 8, 12].map(word).into_iter().chain(numbers).chain([u32::MAX; 4]);
        words.enumerate().try_for_each(|(index, word)| out.cast::<c_uint>().at(index).put(word))
    }

    device: nvmlDeviceGetBrand (brand: Out<c_int>) |_| {
        brand.put(14)
    }

    device: nvmlDeviceGetArchitecture (architecture: Out<c_uint>) |_| {
        architecture.put(9)
    }

    device: nvmlDeviceGetCudaComputeCapability (major: Out<c_int>, minor: Out<c_int>) |_| {
        major.put(9)?;
        minor.put(0)
    }

    device: nvmlDeviceGetBoardId (id: Out<c_uint>) |gpu| {
        id.put(gpu.pci_bus.load(Relaxed) << 8)
    }

    device: nvmlDeviceGetMultiGpuBoard (is_multi: Out<c_uint>) |_| {
        is_multi.put(0)
    }

    device: nvmlDeviceGetMigMode (current: Out<c_uint>, pending: Out<c_uint>) |_| {
        current.put(0)?;
        pending.put(0)
    }

    device: nvmlDeviceGetMaxMigDeviceCount (count: Out<c_uint>) |_| {
        count.put(7)
    }

    device: nvmlDeviceGetMigDeviceHandleByIndex (_index: c_uint, _out: Out<Handle>) |_| {
        Err(NvmlError::NOT_FOUND)
    }

    device: nvmlDeviceIsMigDeviceHandle (is_mig: Out<c_uint>) |_| {
        is_mig.put(0)
    }
}
