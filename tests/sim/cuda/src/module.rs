//! Code: it loads, costs memory, has every function that is asked for, and does nothing.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use crate::abi::{In, Out, Result, Text, api};
use crate::arena::Kind;
use crate::context::Context;
use crate::driver::Driver;
use crate::errors::CudaError;
use crate::handles::{Handle, Thing};
use crate::memory;
use crate::ptx::{self, Declared};
use crate::{stacks, stream};

/// What a loaded module takes of its context's memory beside its variables.
const CODE: u64 = 64 << 10;

fn load(context: &Context, out: Out<Handle>, Declared { global, local }: Declared) -> Result {
    let out = out.wanted()?;
    let code = memory::allocate(context, CODE + global, Kind::Linear)?;
    let driver = context.driver();
    out.put(driver.handles.add(driver, Thing::Module { code, local }))
}

fn load_file(context: &Context, out: Out<Handle>, file: Text) -> Result {
    let file = file.get()?.to_str().map_err(|_| CudaError::FILE_NOT_FOUND)?;
    std::fs::metadata(file).map_err(|_| CudaError::FILE_NOT_FOUND)?;
    load(context, out, Declared::default())
}

fn unload(context: &Context, module: Handle) -> Result {
    let driver = context.driver();
    match driver.handles.remove(module, |thing| matches!(thing, Thing::Module { .. }))? {
        // Gone already if the context went first.
        Thing::Module { code, .. } => memory::free(driver, code).or(Ok(())),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

fn function(context: &Context, out: Out<Handle>, module: Handle, name: Text) -> Result {
    let out = out.wanted()?;
    let name = name.get()?.to_string_lossy().into_owned();
    let driver = context.driver();
    match driver.handles.get(module)? {
        Thing::Module { .. } => out.put(driver.handles.add(driver, Thing::Function { module: module.addr(), name })),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

/// What each thread of a function needs of local memory.
fn local(driver: &Driver, function: Handle) -> Result<u64> {
    let Thing::Function { module, .. } = driver.handles.get(function)? else { return Err(CudaError::INVALID_HANDLE) };
    match driver.handles.get(std::ptr::without_provenance_mut(module))? {
        Thing::Module { local, .. } => Ok(local),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

/// `CUlaunchConfig`, as far as it is of interest.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Config {
    sizes: [c_uint; 6],
    shared: c_uint,
    stream: Handle,
}

fn launch(context: &Context, function: Handle, config: Config) -> Result {
    let driver = context.driver();
    let local = local(driver, function)?;
    if config.sizes.contains(&0) {
        return Err(CudaError::INVALID_VALUE);
    }
    match stream::captured(driver, config.stream)? {
        Some(stream::INVALIDATED) => Err(CudaError::STREAM_CAPTURE_INVALIDATED),
        Some(before) => stream::capture(driver, config.stream, Some(before.max(local))),
        None => stacks::enlarge(context, local as usize),
    }
}

/// `CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES`.
const LOCAL_SIZE_BYTES: c_int = 3;

fn attribute(which: c_int) -> c_int {
    match which {
        0 => 1024,   // threads of a block
        5 | 6 => 90, // versions of PTX and binary
        _ => 0,
    }
}

api! {
    context Alloc: cuModuleLoad | cuLibraryLoadFromFile (out: Out<Handle>, file: Text) |context| {
        load_file(context, out, file)
    }

    context Alloc: cuModuleLoadData | cuModuleLoadDataEx | cuModuleLoadFatBinary | cuLibraryLoadData
    (out: Out<Handle>, image: In<u8>) |context| {
        load(context, out, ptx::declared(image)?)
    }

    context Free: cuModuleUnload | cuLibraryUnload (module: Handle) |context| {
        unload(context, module)
    }

    context Other: cuModuleGetFunction | cuLibraryGetKernel (out: Out<Handle>, module: Handle, name: Text) |context| {
        function(context, out, module, name)
    }

    context Other: cuKernelGetFunction | cuLibraryGetModule | cuFuncGetModule
    (out: Out<Handle>, of: Handle) |context| {
        match context.driver().handles.get(of)? {
            Thing::Function { module, .. } if module == of.addr() => Err(CudaError::INVALID_HANDLE),
            _ => out.put(of),
        }
    }

    context Other: cuFuncGetName | cuKernelGetName (out: Out<*const c_char>, function: Handle) |context| {
        let Thing::Function { name, .. } = context.driver().handles.get(function)? else {
            return Err(CudaError::INVALID_HANDLE);
        };
        // As long-lived as the driver promises.
        let name = CString::new(name).map_err(|_| CudaError::INVALID_VALUE)?;
        out.put(name.into_raw().cast_const())
    }

    context Other: cuModuleGetFunctionCount | cuLibraryGetKernelCount (count: Out<c_uint>, _module: Handle) |_| {
        count.put(0)
    }

    context Other: cuModuleGetGlobal_v2 | cuLibraryGetGlobal | cuLibraryGetManaged
    (_address: Out<u64>, _size: Out<usize>, _module: Handle, _name: Text) |_| {
        Err(CudaError::NOT_FOUND)
    }

    driver Other: cuModuleGetLoadingMode (mode: Out<c_int>) |_| {
        mode.put(2)
    }

    context Other: cuFuncGetAttribute | cuKernelGetAttribute
    (value: Out<c_int>, which: c_int, of: Handle) |context| {
        match which {
            LOCAL_SIZE_BYTES => value.put(local(context.driver(), of)? as c_int),
            _ => value.put(attribute(which)),
        }
    }

    context Other: cuFuncIsLoaded (state: Out<c_int>, _function: Handle) |_| {
        state.put(1)
    }

    context Other: cuFuncLoad | cuFuncSetAttribute | cuKernelSetAttribute | cuFuncSetCacheConfig
    | cuKernelSetCacheConfig | cuFuncSetSharedMemConfig | cuFuncSetBlockShape | cuFuncSetSharedSize () |_| {
        Ok(())
    }

    context Other: cuLaunchKernel | cuLaunchKernel_ptsz | cuLaunchCooperativeKernel | cuLaunchCooperativeKernel_ptsz
    (function: Handle, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint, shared: c_uint,
     stream: Handle) |context| {
        launch(context, function, Config { sizes: [gx, gy, gz, bx, by, bz], shared, stream })
    }

    context Other: cuLaunchKernelEx | cuLaunchKernelEx_ptsz (config: In<Config>, function: Handle) |context| {
        launch(context, function, config.get()?)
    }

    context Other: cuOccupancyMaxActiveBlocksPerMultiprocessor
    | cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags (blocks: Out<c_int>, _function: Handle) |_| {
        blocks.put(2)
    }

    context Other: cuOccupancyMaxPotentialBlockSize | cuOccupancyMaxPotentialBlockSizeWithFlags
    (grid: Out<c_int>, block: Out<c_int>) |_| {
        grid.put(264)?;
        block.put(1024)
    }

    context Other: cuOccupancyAvailableDynamicSMemPerBlock (size: Out<usize>) |_| {
        size.put(48 << 10)
    }

    context Other: cuLinkCreate | cuLinkCreate_v2
    (_count: c_uint, _options: In<c_int>, _values: In<*const c_void>, out: Out<Handle>) |context| {
        let driver = context.driver();
        out.wanted()?.put(driver.handles.add(driver, Thing::Link))
    }

    context Other: cuLinkAddData | cuLinkAddData_v2 | cuLinkAddFile | cuLinkAddFile_v2 (link: Handle) |context| {
        context.driver().handles.get(link).map(|_| ())
    }

    context Other: cuLinkComplete (link: Handle, image: Out<*const c_void>, size: Out<usize>) |context| {
        static IMAGE: [u8; 64] = *b"\x7fELF simulated code                                             ";
        context.driver().handles.get(link)?;
        size.put_if_wanted(IMAGE.len());
        image.put(IMAGE.as_ptr().cast())
    }

    context Other: cuLinkDestroy (link: Handle) |context| {
        context.driver().handles.remove(link, |thing| matches!(thing, Thing::Link)).map(|_| ())
    }
}
