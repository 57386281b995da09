//! The look-ups. Most clients never link against the driver: they ask `dlsym`, and then `cuGetProcAddress`, for its
//! functions, and get ours in their place. The real look-up always comes first; nothing appears that would not be there.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use crate::driver::{SUCCESS, Status};
use crate::hook::{Hook, NEWEST, hook};
use crate::{hooks, objects};

pub const HOOKS: &[&Hook] = &[&GET, &GET_PER_THREAD, &GET_V2, &GET_V2_PER_THREAD];

/// The next `dlsym` behind ours, once found.
static REAL_DLSYM: AtomicUsize = AtomicUsize::new(0);

extern "C" fn find_real_dlsym() -> usize {
    let found = objects::next_definition(c"dlsym").unwrap_or(nothing as *const () as usize);
    // A C library that keeps it in a library of its own may load that later.
    if found != nothing as *const () as usize {
        REAL_DLSYM.store(found, Relaxed);
    }
    found
}

extern "C" fn nothing(_handle: *mut c_void, _name: *const c_char) -> *mut c_void {
    core::ptr::null_mut()
}

// `dlsym` looks at its return address to tell who asks: `RTLD_NEXT` means "behind the caller", and a caller has libraries of
// its own in scope. So for everything but the names of hooks ours jumps to the real one as if it were not there; a name
// that does not begin with `cu` or `nv` costs a comparison.

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn dlsym(_handle: *mut c_void, _name: *const c_char) -> *mut c_void {
    core::arch::naked_asm!(
        "test rsi, rsi",
        "jz 2f",
        "cmp byte ptr [rsi], 0x63",
        "jne 1f",
        "cmp byte ptr [rsi + 1], 0x75",
        "je 3f",
        "jmp 2f",
        "1:",
        "cmp byte ptr [rsi], 0x6e",
        "jne 2f",
        "cmp byte ptr [rsi + 1], 0x76",
        "je 3f",
        "2:", // As if we were not there.
        "mov rax, qword ptr [rip + {real}]",
        "test rax, rax",
        "jz 4f",
        "jmp rax",
        "3:", // Perhaps the name of a hook.
        "push rdi",
        "push rsi",
        "mov rdx, qword ptr [rsp + 16]",
        "sub rsp, 8",
        "call {look_up}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "test rdx, rdx",
        "jz 2b",
        "ret",
        "4:", // The first time.
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {find}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "jmp rax",
        real = sym REAL_DLSYM,
        find = sym find_real_dlsym,
        look_up = sym look_up,
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn dlsym(_handle: *mut c_void, _name: *const c_char) -> *mut c_void {
    core::arch::naked_asm!(
        "cbz x1, 2f",
        "ldrb w2, [x1]",
        "cmp w2, 0x63",
        "b.ne 1f",
        "ldrb w2, [x1, 1]",
        "cmp w2, 0x75",
        "b.eq 3f",
        "b 2f",
        "1:",
        "cmp w2, 0x6e",
        "b.ne 2f",
        "ldrb w2, [x1, 1]",
        "cmp w2, 0x76",
        "b.eq 3f",
        "2:", // As if we were not there.
        "adrp x16, {real}",
        "ldr x16, [x16, :lo12:{real}]",
        "cbz x16, 4f",
        "br x16",
        "3:", // Perhaps the name of a hook.
        "stp x29, x30, [sp, -32]!",
        "mov x29, sp",
        "stp x0, x1, [sp, 16]",
        "mov x2, x30",
        "bl {look_up}",
        "mov x3, x0",
        "mov x4, x1",
        "ldp x0, x1, [sp, 16]",
        "ldp x29, x30, [sp], 32",
        "cbz x4, 2b",
        "mov x0, x3",
        "ret",
        "4:", // The first time.
        "stp x29, x30, [sp, -32]!",
        "mov x29, sp",
        "stp x0, x1, [sp, 16]",
        "bl {find}",
        "mov x16, x0",
        "ldp x0, x1, [sp, 16]",
        "ldp x29, x30, [sp], 32",
        "br x16",
        real = sym REAL_DLSYM,
        find = sym find_real_dlsym,
        look_up = sym look_up,
    )
}

/// What `dlsym` is to do: return `address`, or if not `decided` go on as if it were the real one. In two registers.
#[repr(C)]
struct Decision {
    address: usize,
    decided: usize,
}

impl Decision {
    const AS_IF_ABSENT: Self = Self { address: 0, decided: 0 };

    fn answer(address: usize) -> Self {
        Self { address, decided: 1 }
    }
}

/// `RTLD_DEFAULT` and `RTLD_NEXT` (dlsym(3)).
const DEFAULT: usize = 0;
const BEHIND_CALLER: usize = usize::MAX;

unsafe extern "C" fn look_up(handle: usize, name: *const c_char, caller: usize) -> Decision {
    // SAFETY: the caller's C string; `dlsym` has looked at its first bytes.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(hook) = hooks::for_symbol(name) else { return Decision::AS_IF_ABSENT };
    match handle {
        // Who asks for what is behind it stands before the driver itself, and has been found by our clients.
        BEHIND_CALLER => Decision::AS_IF_ABSENT,
        DEFAULT if hook.real().is_some() => Decision::AS_IF_ABSENT,
        DEFAULT => Decision::answer(real_dlsym(BEHIND_CALLER, name)),
        _ => Decision::answer(replaced(hook, handle, name, caller)),
    }
}

fn replaced(hook: &Hook, handle: usize, name: &CStr, caller: usize) -> usize {
    let found = real_dlsym(handle, name);
    if found == 0 {
        return found;
    }
    if objects::is_own(found) {
        // Through the main program's handle ours is found even without a driver; then nothing is to be found.
        return if hook.real().is_some() { found } else { real_dlsym(BEHIND_CALLER, name) };
    }
    // The driver looks up its own functions: it wants its own.
    if objects::are_neighbours(found, caller) || !hook.may_replace(found) {
        return found;
    }
    hook.entry.0 as usize
}

/// The real `dlsym`, which takes this library for the caller.
fn real_dlsym(handle: usize, name: &CStr) -> usize {
    let known = REAL_DLSYM.load(Relaxed);
    let address = if known == 0 { find_real_dlsym() } else { known };
    // SAFETY: the address is that of a `dlsym`, or of `nothing`, which has the same signature.
    let dlsym = unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(usize, *const c_char) -> usize>(address) };
    // SAFETY: a handle of the caller's, or one that every process has, and a C string.
    unsafe { dlsym(handle, name.as_ptr()) }
}

/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`.
const PER_THREAD: u64 = 2;
/// The newest CUDA version whose variants are all known here.
const KNOWN_VERSION: i32 = 13050;

/// Puts ours in the place of what the driver has found for `name`.
///
/// # Safety
/// Both are as `cuGetProcAddress` took them, and it has succeeded.
unsafe fn replace(name: *const c_char, place: *mut usize, version: i32, flags: u64) {
    // SAFETY: promised by the caller.
    let (name, found) = unsafe { (CStr::from_ptr(name), *place) };
    if found != 0
        && let Some(hook) = variant(name, found, version, flags)
        && hook.may_replace(found)
    {
        // SAFETY: promised by the caller.
        unsafe { *place = hook.entry.0 as usize };
    }
}

/// The hook for the variant that the driver has chosen. Its address tells where the driver exports it; else it is the one
/// that the driver's documentation gives for that version and those flags.
fn variant(name: &CStr, found: usize, version: i32, flags: u64) -> Option<&'static Hook> {
    let hooks = || hooks::all().filter(|hook| !hook.base.is_empty() && (hook.base == name || hook.symbol == name));
    let documented = |hook: &&Hook| (hook.versions.0..hook.versions.1).contains(&version) || hook.symbol == name;
    let threaded = |hook: &&Hook| hook.per_thread == (flags & PER_THREAD != 0);
    let exported = |hook: &&Hook| objects::definition_beside(found, hook.symbol) == Some(found);
    // Several names may stand for one function.
    let by_address = hooks().filter(exported);
    if let Some(hook) = by_address.max_by_key(|hook| (documented(hook), threaded(hook))) {
        return Some(hook);
    }
    let is_other_variant = objects::definition_beside(found, name) == Some(found);
    if is_other_variant || version > KNOWN_VERSION {
        return None;
    }
    hooks().filter(documented).max_by_key(threaded)
}

hook! {
    GET = c"cuGetProcAddress", c"cuGetProcAddress", (11030, 12000), false;
    fn cuGetProcAddress(name: *const c_char, place: *mut usize, version: i32, flags: u64) |real| {
        let status = real(name, place, version, flags);
        got(status, name, place, version, flags)
    }
}

hook! {
    GET_PER_THREAD = c"cuGetProcAddress_ptsz", c"", (0, 0), true;
    fn cuGetProcAddress_ptsz(name: *const c_char, place: *mut usize, version: i32, flags: u64) |real| {
        let status = real(name, place, version, flags);
        got(status, name, place, version, flags | PER_THREAD)
    }
}

hook! {
    GET_V2 = c"cuGetProcAddress_v2", c"cuGetProcAddress", (12000, NEWEST), false;
    fn cuGetProcAddress_v2(name: *const c_char, place: *mut usize, version: i32, flags: u64, found: usize) |real| {
        let status = real(name, place, version, flags, found);
        got(status, name, place, version, flags)
    }
}

hook! {
    GET_V2_PER_THREAD = c"cuGetProcAddress_v2_ptsz", c"", (0, 0), true;
    fn cuGetProcAddress_v2_ptsz(name: *const c_char, place: *mut usize, version: i32, flags: u64, found: usize) |real| {
        let status = real(name, place, version, flags, found);
        got(status, name, place, version, flags | PER_THREAD)
    }
}

fn got(status: Status, name: *const c_char, place: *mut usize, version: i32, flags: u64) -> Status {
    if status == SUCCESS {
        // SAFETY: the driver has read the one and written to the other.
        unsafe { replace(name, place, version, flags) };
    }
    status
}
