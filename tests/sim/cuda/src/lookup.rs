//! Functions by name and CUDA version: `cuGetProcAddress`.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use gpu_sim_state::Process;

use crate::abi::{Out, Result, Symbol, Text, api};
use crate::errors::CudaError;

const LEGACY_STREAM: u64 = 1;
const PER_THREAD_DEFAULT_STREAM: u64 = 2;

/// `CUdriverProcAddressQueryResult`.
const FOUND: c_int = 0;
const NOT_FOUND: c_int = 1;
const VERSION_NOT_SUFFICIENT: c_int = 2;

/// A symbol under its base name.
struct Versioned {
    /// The CUDA version that brought it.
    since: c_int,
    /// The number behind `_v`, 1 without.
    number: u32,
    /// Its name ends in `_ptsz` or `_ptds`.
    is_per_thread: bool,
    address: usize,
}

fn families() -> impl Iterator<Item = &'static Symbol> {
    let families = [
        SYMBOLS,
        crate::array::SYMBOLS,
        crate::context::SYMBOLS,
        crate::copy::SYMBOLS,
        crate::device::SYMBOLS,
        crate::errors::SYMBOLS,
        crate::graph::SYMBOLS,
        crate::host::SYMBOLS,
        crate::limits::SYMBOLS,
        crate::memory::SYMBOLS,
        crate::module::SYMBOLS,
        crate::pointer::SYMBOLS,
        crate::pool::SYMBOLS,
        crate::primary::SYMBOLS,
        crate::stream::SYMBOLS,
        crate::unsupported::SYMBOLS,
        crate::vmm::SYMBOLS,
    ];
    families.into_iter().flatten()
}

fn table() -> &'static HashMap<&'static str, Vec<Versioned>> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Versioned>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let since = versions();
        let mut table: HashMap<_, Vec<_>> = HashMap::new();
        for symbol in families() {
            let Ok(name) = symbol.name.to_str() else { continue };
            let Some(&since) = since.get(name) else { continue };
            let (base, number, is_per_thread) = parts(name);
            let versioned = Versioned { since, number, is_per_thread, address: symbol.function.addr() };
            table.entry(base).or_default().push(versioned);
        }
        table
    })
}

/// Every symbol with the CUDA version that brought it, from lines `version: name name ...`.
fn versions() -> HashMap<&'static str, c_int> {
    let mut since = 0;
    let mut versions = HashMap::new();
    for word in include_str!("versions.txt").split_whitespace() {
        match word.strip_suffix(':') {
            Some(version) => since = version.parse().unwrap_or(0),
            None => _ = versions.insert(word, since),
        }
    }
    versions
}

/// Base name, version number, and whether it is for per-thread default streams.
fn parts(name: &str) -> (&str, u32, bool) {
    let shared = name.strip_suffix("_ptsz").or_else(|| name.strip_suffix("_ptds"));
    let is_per_thread = shared.is_some();
    let name = shared.unwrap_or(name);
    match name.rsplit_once("_v").and_then(|(base, number)| Some((base, number.parse().ok()?))) {
        Some((base, number)) => (base, number, is_per_thread),
        None => (name, 1, is_per_thread),
    }
}

/// The newest symbol of a driver of this version that a program built for `version` can call.
fn find(driver: c_int, name: &str, version: c_int, flags: u64) -> std::result::Result<usize, c_int> {
    let symbols = table().get(name).into_iter().flatten().filter(|symbol| symbol.since <= driver);
    let symbols: Vec<&Versioned> = symbols.collect();
    if symbols.is_empty() {
        return Err(NOT_FOUND);
    }
    // Where there are variants for per-thread streams, a program that wants them gets no other.
    let wants_per_thread = flags & PER_THREAD_DEFAULT_STREAM != 0 && symbols.iter().any(|symbol| symbol.is_per_thread);
    let fitting = symbols.iter().filter(|symbol| symbol.is_per_thread == wants_per_thread && symbol.since <= version);
    fitting
        .max_by_key(|symbol| (symbol.since, symbol.number))
        .map(|symbol| symbol.address)
        .ok_or(VERSION_NOT_SUFFICIENT)
}

fn look_up(
    process: &Process,
    name: Text,
    version: c_int,
    flags: u64,
) -> Result<std::result::Result<*mut c_void, c_int>> {
    if flags & !(LEGACY_STREAM | PER_THREAD_DEFAULT_STREAM) != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let driver = process.state.cuda_version.load(Relaxed) as c_int;
    let name = name.get()?.to_str().map_err(|_| CudaError::INVALID_VALUE)?;
    Ok(find(driver, name, version, flags).map(std::ptr::with_exposed_provenance_mut))
}

api! {
    always Query: cuGetProcAddress (name: Text, out: Out<*mut c_void>, version: c_int, flags: u64) |process| {
        let out = out.wanted()?;
        out.put(look_up(process, name, version, flags)?.map_err(|_| CudaError::NOT_FOUND)?)
    }

    always Query: cuGetProcAddress_v2
    (name: Text, out: Out<*mut c_void>, version: c_int, flags: u64, status: Out<c_int>) |process| {
        let out = out.wanted()?;
        let found = look_up(process, name, version, flags)?;
        status.put_if_wanted(found.err().unwrap_or(FOUND));
        out.put(found.unwrap_or(std::ptr::null_mut()))
    }

    always Query: cuGetExportTable (table: Out<*const c_void>, _id: *const c_void) |_| {
        // What a driver says to a table that it does not know. The runtime library asks for some and ends here.
        table.put(std::ptr::null())?;
        Err(CudaError::INVALID_VALUE)
    }
}
