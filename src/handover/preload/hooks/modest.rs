//! Calls that take memory of which nobody tells the size: streams, events, pinned memory, access to memory of others, code
//! that is loaded when it is first asked for. Nothing is counted; on out of memory the holder gives way by guess.

use crate::driver::Status;
use crate::holder::{Need, Turn};
use crate::hook::{Hook, NEWEST, hook};
use crate::hooks::{A_LITTLE, CODE, current_gpu, insist};

fn modestly(need: Need, call: impl FnMut() -> Status) -> Status {
    insist(&mut Turn::default(), current_gpu, need, call)
}

/// Defines such hooks by what they need, and their table. Arguments are integers and pointers, which travel alike.
macro_rules! modest {
    ($($need:ident {
        $($hook:ident = $name:ident, $symbol:literal, $base:literal, $since:literal ($($argument:ident),*);)*
    })*) => {
        pub const HOOKS: &[&Hook] = &[$($(&$hook,)*)* &IPC_OPEN];

        $($(hook! {
            $hook = $symbol, $base, ($since, NEWEST), false;
            fn $name($($argument: usize),*) |real| {
                modestly($need, || real($($argument),*))
            }
        })*)*
    };
}

modest! {
    A_LITTLE {
        STREAM_CREATE = cuStreamCreate, c"cuStreamCreate", c"cuStreamCreate", 2000 (a, b);
        STREAM_PRIORITY = cuStreamCreateWithPriority, c"cuStreamCreateWithPriority", c"cuStreamCreateWithPriority", 5050 (a, b, c);
        EVENT_CREATE = cuEventCreate, c"cuEventCreate", c"cuEventCreate", 2000 (a, b);
        HOST_ALLOC = cuMemHostAlloc, c"cuMemHostAlloc", c"cuMemHostAlloc", 2020 (a, b, c);
        ALLOC_HOST = cuMemAllocHost_v2, c"cuMemAllocHost_v2", c"cuMemAllocHost", 3020 (a, b);
        HOST_REGISTER = cuMemHostRegister_v2, c"cuMemHostRegister_v2", c"cuMemHostRegister", 6050 (a, b, c);
        POOL_ACCESS = cuMemPoolSetAccess, c"cuMemPoolSetAccess", c"cuMemPoolSetAccess", 11020 (a, b, c);
        POOL_ATTRIBUTE = cuMemPoolSetAttribute, c"cuMemPoolSetAttribute", c"cuMemPoolSetAttribute", 11020 (a, b, c);
        IMPORT = cuMemImportFromShareableHandle, c"cuMemImportFromShareableHandle", c"cuMemImportFromShareableHandle", 10020 (a, b, c);
        SET_ACCESS = cuMemSetAccess, c"cuMemSetAccess", c"cuMemSetAccess", 10020 (a, b, c, d);
    }
    CODE {
        MODULE_FUNCTION = cuModuleGetFunction, c"cuModuleGetFunction", c"cuModuleGetFunction", 2000 (a, b, c);
        MODULE_GLOBAL = cuModuleGetGlobal_v2, c"cuModuleGetGlobal_v2", c"cuModuleGetGlobal", 3020 (a, b, c, d);
        LIBRARY_KERNEL = cuLibraryGetKernel, c"cuLibraryGetKernel", c"cuLibraryGetKernel", 12000 (a, b, c);
        LIBRARY_MODULE = cuLibraryGetModule, c"cuLibraryGetModule", c"cuLibraryGetModule", 12000 (a, b);
        LIBRARY_GLOBAL = cuLibraryGetGlobal, c"cuLibraryGetGlobal", c"cuLibraryGetGlobal", 12000 (a, b, c, d);
        KERNEL_FUNCTION = cuKernelGetFunction, c"cuKernelGetFunction", c"cuKernelGetFunction", 12000 (a, b);
        KERNEL_ATTRIBUTE = cuKernelSetAttribute, c"cuKernelSetAttribute", c"cuKernelSetAttribute", 12000 (a, b, c, d);
        FUNCTION_ATTRIBUTE = cuFuncSetAttribute, c"cuFuncSetAttribute", c"cuFuncSetAttribute", 9000 (a, b, c);
        FUNCTION_LOAD = cuFuncLoad, c"cuFuncLoad", c"cuFuncLoad", 12040 (a);
    }
}

/// `CUipcMemHandle`, which travels by value.
#[repr(C)]
#[derive(Clone, Copy)]
struct IpcHandle([u64; 8]);

hook! {
    IPC_OPEN = c"cuIpcOpenMemHandle_v2", c"cuIpcOpenMemHandle", (11000, NEWEST), false;
    fn cuIpcOpenMemHandle_v2(address: usize, handle: IpcHandle, flags: u32) |real| {
        modestly(A_LITTLE, || real(address, handle, flags))
    }
}
