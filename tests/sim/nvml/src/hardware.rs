//! Temperature, power, clocks: figures of an idle card, so that monitors have something to show.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use crate::abi::{Out, api};
use crate::errors::NvmlError;
use crate::library::put;

api! {
    device: nvmlDeviceGetTemperature (_sensor: c_int, degrees: Out<c_uint>) |_| {
        degrees.put(34)
    }

    device: nvmlDeviceGetTemperatureThreshold (_kind: c_int, degrees: Out<c_uint>) |_| {
        degrees.put(90)
    }

    device: nvmlDeviceGetPowerUsage (milliwatts: Out<c_uint>) |_| {
        milliwatts.put(72_000)
    }

    device: nvmlDeviceGetEnforcedPowerLimit | nvmlDeviceGetPowerManagementLimit
    | nvmlDeviceGetPowerManagementDefaultLimit (milliwatts: Out<c_uint>) |_| {
        milliwatts.put(700_000)
    }

    device: nvmlDeviceGetFanSpeed (_percent: Out<c_uint>) |_| {
        // The card is cooled by its host.
        Err(NvmlError::NOT_SUPPORTED)
    }

    device: nvmlDeviceGetClockInfo | nvmlDeviceGetMaxClockInfo (_kind: c_int, megahertz: Out<c_uint>) |_| {
        megahertz.put(1980)
    }

    device: nvmlDeviceGetPerformanceState | nvmlDeviceGetPowerState (state: Out<c_int>) |_| {
        state.put(0)
    }

    device: nvmlDeviceGetPersistenceMode (mode: Out<c_int>) |_| {
        mode.put(1)
    }

    device: nvmlDeviceGetDisplayMode | nvmlDeviceGetDisplayActive (mode: Out<c_int>) |_| {
        mode.put(0)
    }

    device: nvmlDeviceGetEccMode (current: Out<c_int>, pending: Out<c_int>) |_| {
        current.put(1)?;
        pending.put(1)
    }

    device: nvmlDeviceGetTotalEccErrors (_kind: c_int, _counter: c_int, count: Out<c_ulonglong>) |_| {
        count.put(0)
    }

    device: nvmlDeviceGetPcieThroughput (_counter: c_int, kilobytes: Out<c_uint>) |_| {
        kilobytes.put(0)
    }

    device: nvmlDeviceGetCurrPcieLinkGeneration | nvmlDeviceGetMaxPcieLinkGeneration (generation: Out<c_uint>) |_| {
        generation.put(5)
    }

    device: nvmlDeviceGetCurrPcieLinkWidth | nvmlDeviceGetMaxPcieLinkWidth (width: Out<c_uint>) |_| {
        width.put(16)
    }

    device: nvmlDeviceGetClock (_kind: c_int, _which: c_int, megahertz: Out<c_uint>) |_| {
        megahertz.put(1980)
    }

    device: nvmlDeviceGetNumFans | nvmlDeviceGetVirtualizationMode | nvmlDeviceGetRetiredPagesPendingStatus
    | nvmlDeviceGetPcieReplayCounter | nvmlDeviceGetHostVgpuMode (number: Out<c_uint>) |_| {
        number.put(0)
    }

    device: nvmlDeviceGetNumGpuCores (cores: Out<c_uint>) |_| {
        cores.put(16_896)
    }

    device: nvmlDeviceGetMemoryBusWidth (bits: Out<c_uint>) |_| {
        bits.put(6144)
    }

    device: nvmlDeviceGetPowerManagementMode (mode: Out<c_uint>) |_| {
        mode.put(1)
    }

    device: nvmlDeviceGetPowerManagementLimitConstraints (least: Out<c_uint>, most: Out<c_uint>) |_| {
        least.put(200_000)?;
        most.put(700_000)
    }

    device: nvmlDeviceGetTotalEnergyConsumption | nvmlDeviceGetSupportedClocksEventReasons
    | nvmlDeviceGetSupportedClocksThrottleReasons | nvmlDeviceGetSupportedEventTypes (number: Out<c_ulonglong>) |_| {
        number.put(0)
    }

    device: nvmlDeviceGetCurrentClocksEventReasons | nvmlDeviceGetCurrentClocksThrottleReasons
    (reasons: Out<c_ulonglong>) |_| {
        // The GPU is idle.
        reasons.put(1)
    }

    device: nvmlDeviceGetVbiosVersion (version: Out<c_char>, length: c_uint) |_| {
        put(version, "96.00.A5.00.01", length)
    }
}
