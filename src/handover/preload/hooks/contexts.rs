//! What takes memory of which nobody tells the size: contexts, code and graphs. Out of memory, the holder gives way by
//! guess; afterwards the holder is told to look at NVML. And the end of contexts, with which their memory is freed.

use crate::driver::{self, SUCCESS, Status};
use crate::holder::{Need, Turn};
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::{CODE, current_gpu, insist};
use crate::protocol::{CONTEXT, LITTLE};
use crate::state::{state, switched};

pub const HOOKS: &[&Hook] = &[
    &PRIMARY_RETAIN,
    &PRIMARY_RELEASE,
    &PRIMARY_RELEASE_V1,
    &PRIMARY_RESET,
    &PRIMARY_RESET_V1,
    &CREATE_V2,
    &CREATE_V3,
    &CREATE_V4,
    &DESTROY,
    &DESTROY_V1,
    &SET_CURRENT,
    &PUSH,
    &PUSH_V1,
    &POP,
    &POP_V1,
    &MODULE_LOAD,
    &MODULE_DATA,
    &MODULE_DATA_EX,
    &MODULE_FAT,
    &LIBRARY_DATA,
    &LIBRARY_FILE,
    &GRAPH_INSTANTIATE_V1,
    &GRAPH_INSTANTIATE_V2,
    &GRAPH_WITH_FLAGS,
    &GRAPH_WITH_PARAMS,
    &GRAPH_WITH_PARAMS_PER_THREAD,
    &GRAPH_UPLOAD,
    &GRAPH_UPLOAD_PER_THREAD,
    &GRAPH_LAUNCH,
    &GRAPH_LAUNCH_PER_THREAD,
];

/// What a context takes, and what is needed right after it. Asking for it a chunk at a time would cost a try for each, and a
/// try takes a tenth of a second.
const NEW_CONTEXT: Need = Need::About(CONTEXT + LITTLE);

/// Says hello beforehand: NVML may show the context, and to whom it belongs, before the driver has finished it.
fn say_hello() {
    if let Some(state) = state() {
        state.membership();
    }
}

fn create(device: i32, call: impl FnMut() -> Status) -> Status {
    say_hello();
    let mut turn = Turn::default();
    let status = insist(&mut turn, || driver::uuid(device), NEW_CONTEXT, call);
    if status == SUCCESS {
        switched();
        if let Some(state) = state() {
            state.context_made(device);
        }
    }
    status
}

fn load(call: impl FnMut() -> Status) -> Status {
    let mut turn = Turn::default();
    let status = insist(&mut turn, current_gpu, CODE, call);
    if status == SUCCESS {
        news();
    }
    status
}

fn news() {
    if let Some(state) = state() {
        state.unsized_news();
    }
}

hook! {
    PRIMARY_RETAIN = c"cuDevicePrimaryCtxRetain", c"cuDevicePrimaryCtxRetain", (7000, NEWEST), false;
    fn cuDevicePrimaryCtxRetain(context: *mut u64, device: i32) |real| {
        say_hello();
        let mut turn = Turn::default();
        let status = insist(&mut turn, || driver::uuid(device), NEW_CONTEXT, || real(context, device));
        if status == SUCCESS {
            // SAFETY: where the driver succeeded it has written the handle.
            primary_retained(device, unsafe { *context });
        }
        status
    }
}

/// Clients retain a context many times; the first time creates it.
fn primary_retained(device: i32, context: u64) {
    let Some(state) = state() else { return };
    let Ok(place) = usize::try_from(device) else { return };
    let before = state.primary.lock().get_mut(place).map(|known| core::mem::replace(known, context));
    if before != Some(context) {
        state.context_made(device);
    }
}

/// After a release or a reset: forgets what was in the primary context if it is gone.
fn primary_released(device: i32, status: Status) -> Status {
    let gone = || {
        let state = state()?;
        // Until the driver says that it is still there: a driver that does not tell has reset it as asked.
        if status != SUCCESS || driver::primary_is_active(device) == Some(true) {
            return None;
        }
        let context = core::mem::take(state.primary.lock().get_mut(usize::try_from(device).ok()?)?);
        (context != 0).then(|| state.context_gone(context))
    };
    gone();
    status
}

hook! {
    PRIMARY_RELEASE = c"cuDevicePrimaryCtxRelease_v2", c"cuDevicePrimaryCtxRelease", (11000, NEWEST), false;
    fn cuDevicePrimaryCtxRelease_v2(device: i32) |real| {
        primary_released(device, real(device))
    }
}

hook! {
    PRIMARY_RELEASE_V1 = c"cuDevicePrimaryCtxRelease", c"cuDevicePrimaryCtxRelease", (7000, 11000), false;
    fn cuDevicePrimaryCtxRelease(device: i32) |real| {
        primary_released(device, real(device))
    }
}

hook! {
    PRIMARY_RESET = c"cuDevicePrimaryCtxReset_v2", c"cuDevicePrimaryCtxReset", (11000, NEWEST), false;
    fn cuDevicePrimaryCtxReset_v2(device: i32) |real| {
        primary_released(device, real(device))
    }
}

hook! {
    PRIMARY_RESET_V1 = c"cuDevicePrimaryCtxReset", c"cuDevicePrimaryCtxReset", (7000, 11000), false;
    fn cuDevicePrimaryCtxReset(device: i32) |real| {
        primary_released(device, real(device))
    }
}

hook! {
    CREATE_V2 = c"cuCtxCreate_v2", c"cuCtxCreate", (3020, 11040), false;
    fn cuCtxCreate_v2(context: *mut u64, flags: u32, device: i32) |real| {
        create(device, || real(context, flags, device))
    }
}

hook! {
    CREATE_V3 = c"cuCtxCreate_v3", c"cuCtxCreate", (11040, 12050), false;
    fn cuCtxCreate_v3(context: *mut u64, affinities: usize, count: i32, flags: u32, device: i32) |real| {
        create(device, || real(context, affinities, count, flags, device))
    }
}

hook! {
    CREATE_V4 = c"cuCtxCreate_v4", c"cuCtxCreate", (12050, NEWEST), false;
    fn cuCtxCreate_v4(context: *mut u64, parameters: usize, flags: u32, device: i32) |real| {
        create(device, || real(context, parameters, flags, device))
    }
}

fn destroyed(context: u64, status: Status) -> Status {
    if status == SUCCESS
        && let Some(state) = state()
    {
        state.context_gone(context);
    }
    status
}

hook! {
    DESTROY = c"cuCtxDestroy_v2", c"cuCtxDestroy", (4000, NEWEST), false;
    fn cuCtxDestroy_v2(context: u64) |real| {
        destroyed(context, real(context))
    }
}

hook! {
    DESTROY_V1 = c"cuCtxDestroy", c"cuCtxDestroy", (2000, 4000), false;
    fn cuCtxDestroy(context: u64) |real| {
        destroyed(context, real(context))
    }
}

hook! {
    SET_CURRENT = c"cuCtxSetCurrent", c"cuCtxSetCurrent", (4000, NEWEST), false;
    fn cuCtxSetCurrent(context: u64) |real| {
        let status = real(context);
        switched();
        status
    }
}

hook! {
    PUSH = c"cuCtxPushCurrent_v2", c"cuCtxPushCurrent", (4000, NEWEST), false;
    fn cuCtxPushCurrent_v2(context: u64) |real| {
        let status = real(context);
        switched();
        status
    }
}

hook! {
    PUSH_V1 = c"cuCtxPushCurrent", c"cuCtxPushCurrent", (2000, 4000), false;
    fn cuCtxPushCurrent(context: u64) |real| {
        let status = real(context);
        switched();
        status
    }
}

hook! {
    POP = c"cuCtxPopCurrent_v2", c"cuCtxPopCurrent", (4000, NEWEST), false;
    fn cuCtxPopCurrent_v2(context: usize) |real| {
        let status = real(context);
        switched();
        status
    }
}

hook! {
    POP_V1 = c"cuCtxPopCurrent", c"cuCtxPopCurrent", (2000, 4000), false;
    fn cuCtxPopCurrent(context: usize) |real| {
        let status = real(context);
        switched();
        status
    }
}

hook! {
    MODULE_LOAD = c"cuModuleLoad", c"cuModuleLoad", (2000, NEWEST), false;
    fn cuModuleLoad(module: usize, file: usize) |real| {
        load(|| real(module, file))
    }
}

hook! {
    MODULE_DATA = c"cuModuleLoadData", c"cuModuleLoadData", (2000, NEWEST), false;
    fn cuModuleLoadData(module: usize, image: usize) |real| {
        load(|| real(module, image))
    }
}

hook! {
    MODULE_DATA_EX = c"cuModuleLoadDataEx", c"cuModuleLoadDataEx", (2010, NEWEST), false;
    fn cuModuleLoadDataEx(module: usize, image: usize, count: u32, options: usize, values: usize) |real| {
        load(|| real(module, image, count, options, values))
    }
}

hook! {
    MODULE_FAT = c"cuModuleLoadFatBinary", c"cuModuleLoadFatBinary", (2000, NEWEST), false;
    fn cuModuleLoadFatBinary(module: usize, image: usize) |real| {
        load(|| real(module, image))
    }
}

hook! {
    LIBRARY_DATA = c"cuLibraryLoadData", c"cuLibraryLoadData", (12000, NEWEST), false;
    fn cuLibraryLoadData(library: usize, image: usize, jit: usize, jit_values: usize, jit_count: u32, options: usize,
                         values: usize, count: u32) |real| {
        load(|| real(library, image, jit, jit_values, jit_count, options, values, count))
    }
}

hook! {
    LIBRARY_FILE = c"cuLibraryLoadFromFile", c"cuLibraryLoadFromFile", (12000, NEWEST), false;
    fn cuLibraryLoadFromFile(library: usize, file: usize, jit: usize, jit_values: usize, jit_count: u32, options: usize,
                             values: usize, count: u32) |real| {
        load(|| real(library, file, jit, jit_values, jit_count, options, values, count))
    }
}

// Under the name of the first two, drivers and headers of different versions mean three or five arguments. Passing five on
// serves both: they travel in registers, and a function that takes fewer does not look at the others.

hook! {
    GRAPH_INSTANTIATE_V1 = c"cuGraphInstantiate", c"cuGraphInstantiate", (10000, 11000), false;
    fn cuGraphInstantiate(exec: usize, graph: usize, third: usize, fourth: usize, fifth: usize) |real| {
        load(|| real(exec, graph, third, fourth, fifth))
    }
}

hook! {
    GRAPH_INSTANTIATE_V2 = c"cuGraphInstantiate_v2", c"cuGraphInstantiate", (11000, NEWEST), false;
    fn cuGraphInstantiate_v2(exec: usize, graph: usize, third: usize, fourth: usize, fifth: usize) |real| {
        load(|| real(exec, graph, third, fourth, fifth))
    }
}

hook! {
    GRAPH_WITH_FLAGS = c"cuGraphInstantiateWithFlags", c"cuGraphInstantiateWithFlags", (11040, NEWEST), false;
    fn cuGraphInstantiateWithFlags(exec: usize, graph: usize, flags: u64) |real| {
        load(|| real(exec, graph, flags))
    }
}

hook! {
    GRAPH_WITH_PARAMS = c"cuGraphInstantiateWithParams", c"cuGraphInstantiateWithParams", (12000, NEWEST), false;
    fn cuGraphInstantiateWithParams(exec: usize, graph: usize, parameters: usize) |real| {
        load(|| real(exec, graph, parameters))
    }
}

hook! {
    GRAPH_WITH_PARAMS_PER_THREAD = c"cuGraphInstantiateWithParams_ptsz", c"cuGraphInstantiateWithParams", (12000, NEWEST), true;
    fn cuGraphInstantiateWithParams_ptsz(exec: usize, graph: usize, parameters: usize) |real| {
        load(|| real(exec, graph, parameters))
    }
}

hook! {
    GRAPH_UPLOAD = c"cuGraphUpload", c"cuGraphUpload", (11010, NEWEST), false;
    fn cuGraphUpload(exec: usize, stream: usize) |real| {
        load(|| real(exec, stream))
    }
}

hook! {
    GRAPH_UPLOAD_PER_THREAD = c"cuGraphUpload_ptsz", c"cuGraphUpload", (11010, NEWEST), true;
    fn cuGraphUpload_ptsz(exec: usize, stream: usize) |real| {
        load(|| real(exec, stream))
    }
}

/// Launched again and again: no news of a success.
fn launch(call: impl FnMut() -> Status) -> Status {
    insist(&mut Turn::default(), current_gpu, CODE, call)
}

hook! {
    GRAPH_LAUNCH = c"cuGraphLaunch", c"cuGraphLaunch", (10000, NEWEST), false;
    fn cuGraphLaunch(exec: usize, stream: usize) |real| {
        launch(|| real(exec, stream))
    }
}

hook! {
    GRAPH_LAUNCH_PER_THREAD = c"cuGraphLaunch_ptsz", c"cuGraphLaunch", (10000, NEWEST), true;
    fn cuGraphLaunch_ptsz(exec: usize, stream: usize) |real| {
        launch(|| real(exec, stream))
    }
}
