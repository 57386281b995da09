//! The GPUs as CUDA shows them.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::Ordering::Relaxed;

use crate::abi::{Out, Result, Text, api};
use crate::driver::Driver;
use crate::errors::CudaError;

const MULTIPROCESSORS: c_int = 132;
const THREADS_OF_A_MULTIPROCESSOR: c_int = 2048;
/// As many threads as a GPU can run at a time.
pub(crate) const THREADS: u64 = MULTIPROCESSORS as u64 * THREADS_OF_A_MULTIPROCESSOR as u64;

/// `CUdevice_attribute` and what a GPU of compute capability 9.0 says.
fn attribute(driver: &Driver, gpu: usize, attribute: c_int) -> Result<c_int> {
    let gpu = &driver.state().gpus[gpu];
    Ok(match attribute {
        1..=3 => 1024,   // threads of a block, x and y of its size
        4 => 64,         // z of a block
        5 => i32::MAX,   // x of a grid
        6 | 7 => 65535,  // y, z of a grid
        8 => 48 << 10,   // shared memory of a block
        9 => 64 << 10,   // constant memory
        10 => 32,        // warp
        11 => i32::MAX,  // pitch
        12 => 65536,     // registers of a block
        13 => 1_980_000, // clock rate, kHz
        14 => 512,       // texture alignment
        15 => 1,         // gpu overlap
        16 => MULTIPROCESSORS,
        17 | 18 => 0, // kernel timeout, integrated
        19 => 1,      // can map host memory
        20 => gpu.compute_mode.load(Relaxed) as c_int,
        21..=30 | 42..=45 | 48 | 52..=69 | 77 => 16384, // textures and surfaces
        31 => 1,                                        // concurrent kernels
        32 => 1,                                        // ECC
        33 => gpu.pci_bus.load(Relaxed) as c_int,
        34 => 0,         // PCI device
        35 => 0,         // TCC
        36 => 2_619_000, // memory clock, kHz
        37 => 5120,      // memory bus width
        38 => 50 << 20,  // L2 cache
        39 => THREADS_OF_A_MULTIPROCESSOR,
        40 => 3, // copy engines
        41 => 1, // unified addressing
        50 => gpu.pci_domain.load(Relaxed) as c_int,
        75 => 9, // compute capability
        76 => 0,
        78..=80 => 1,    // stream priorities, L1 caches
        81 => 228 << 10, // shared memory of a multiprocessor
        82 => 65536,     // registers of a multiprocessor
        83 => 1,         // managed memory
        84 | 85 => 0,    // board of several GPUs
        86..=91 => 1,    // native atomics and the like
        92..=96 => 1,
        97 => 227 << 10,      // shared memory of a block, if asked for
        98 | 99 | 101 => 1,   // flush, host register, paged memory
        102 | 103 => 1,       // virtual memory management, export as descriptors
        104 | 105 => 0,       // Windows handles
        106 => 32,            // blocks of a multiprocessor
        108 => 32 << 20,      // persisting L2
        109 => 128 << 20,     // access policy window
        110 => 1,             // virtual memory management with GPUDirect RDMA
        111 => 1 << 10,       // shared memory that the driver keeps
        115 => 1,             // memory pools
        117 => 1,             // flushes of RDMA writes
        119 => 1,             // kinds of handles for pools: descriptors
        120 | 122 | 123 => 1, // clusters and others
        _ => 0,
    })
}

fn bus_id(driver: &Driver, gpu: usize) -> String {
    let gpu = &driver.state().gpus[gpu];
    format!("{:04x}:{:02x}:00.0", gpu.pci_domain.load(Relaxed), gpu.pci_bus.load(Relaxed))
}

fn by_bus_id(driver: &Driver, text: &str) -> Option<c_int> {
    let (place, _function) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = place.rsplit(':').map(|part| u32::from_str_radix(part, 16));
    let (device, bus) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let domain = parts.next().unwrap_or(Ok(0)).ok()?;
    let fits = |gpu: usize| {
        let gpu = &driver.state().gpus[gpu];
        device == 0 && gpu.pci_bus.load(Relaxed) == bus && gpu.pci_domain.load(Relaxed) == domain
    };
    driver.visible.iter().position(|gpu| fits(*gpu)).map(|ordinal| ordinal as c_int)
}

fn total(driver: &Driver, ordinal: c_int) -> Result<u64> {
    let gpu = &driver.state().gpus[driver.device(ordinal)?.gpu];
    Ok(gpu.total.load(Relaxed) - gpu.reserved.load(Relaxed))
}

api! {
    always Init: cuInit (flags: c_uint) |process| {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        Driver::init(process)
    }

    always Query: cuDriverGetVersion (version: Out<c_int>) |process| {
        version.put(process.state.cuda_version.load(Relaxed) as c_int)
    }

    driver Query: cuDeviceGetCount (count: Out<c_int>) |driver| {
        count.put(driver.devices.len() as c_int)
    }

    driver Query: cuDeviceGet (device: Out<c_int>, ordinal: c_int) |driver| {
        let device = device.wanted()?;
        driver.device(ordinal)?;
        device.put(ordinal)
    }

    driver Query: cuDeviceGetName (name: Out<c_char>, length: c_int, ordinal: c_int) |driver| {
        let gpu = driver.device(ordinal)?.gpu;
        name.put_text(&driver.state().gpus[gpu].name.get(), length)
    }

    driver Query: cuDeviceGetUuid | cuDeviceGetUuid_v2 (uuid: Out<[u8; 16]>, ordinal: c_int) |driver| {
        uuid.put(driver.state().uuid(driver.device(ordinal)?.gpu))
    }

    driver Query: cuDeviceGetLuid (_luid: Out<u64>, _mask: Out<c_uint>, ordinal: c_int) |driver| {
        driver.device(ordinal)?;
        Err(CudaError::NOT_SUPPORTED)
    }

    driver Query: cuDeviceTotalMem_v2 (bytes: Out<usize>, ordinal: c_int) |driver| {
        bytes.put(total(driver, ordinal)? as usize)
    }

    driver Query: cuDeviceTotalMem (bytes: Out<c_uint>, ordinal: c_int) |driver| {
        bytes.put(u32::try_from(total(driver, ordinal)?).unwrap_or(u32::MAX))
    }

    driver Query: cuDeviceGetAttribute (out: Out<c_int>, which: c_int, ordinal: c_int) |driver| {
        let gpu = driver.device(ordinal)?.gpu;
        if which < 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        out.put(attribute(driver, gpu, which)?)
    }

    driver Query: cuDeviceComputeCapability (major: Out<c_int>, minor: Out<c_int>, ordinal: c_int) |driver| {
        driver.device(ordinal)?;
        major.put(9)?;
        minor.put(0)
    }

    driver Query: cuDeviceGetProperties (properties: Out<[c_int; 14]>, ordinal: c_int) |driver| {
        let gpu = driver.device(ordinal)?.gpu;
        let of = |which| attribute(driver, gpu, which).unwrap_or(0);
        // threads, block (3), grid (3), shared, constant, warp, pitch, registers, clock, texture alignment
        let numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        properties.put(numbers.map(of))
    }

    driver Query: cuDeviceGetPCIBusId (text: Out<c_char>, length: c_int, ordinal: c_int) |driver| {
        let gpu = driver.device(ordinal)?.gpu;
        text.put_text(&bus_id(driver, gpu), length)
    }

    driver Query: cuDeviceGetByPCIBusId (out: Out<c_int>, text: Text) |driver| {
        let text = text.get()?.to_str().map_err(|_| CudaError::INVALID_VALUE)?;
        out.put(by_bus_id(driver, text).ok_or(CudaError::INVALID_DEVICE)?)
    }

    driver Query: cuDeviceCanAccessPeer (can: Out<c_int>, ordinal: c_int, peer: c_int) |driver| {
        driver.device(ordinal)?;
        driver.device(peer)?;
        can.put((ordinal != peer).into())
    }

    driver Query: cuDeviceGetP2PAttribute (out: Out<c_int>, which: c_int, ordinal: c_int, peer: c_int) |driver| {
        driver.device(ordinal)?;
        driver.device(peer)?;
        if ordinal == peer {
            return Err(CudaError::INVALID_DEVICE);
        }
        out.put((which != 1).into())
    }

    driver Query: cuDeviceGetExecAffinitySupport (out: Out<c_int>, _kind: c_int, ordinal: c_int) |driver| {
        driver.device(ordinal)?;
        out.put(0)
    }

    driver Query: cuDeviceGetTexture1DLinearMaxWidth
    (width: Out<usize>, _format: c_int, _channels: c_uint, ordinal: c_int) |driver| {
        driver.device(ordinal)?;
        width.put(1 << 28)
    }
}
