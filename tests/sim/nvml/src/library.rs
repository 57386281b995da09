//! The library itself: start, end, versions.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::Ordering::Relaxed;

use crate::abi::{Gpu, Out, USERS, api};
use crate::errors::NvmlError;

api! {
    always: nvmlInit | nvmlInit_v2 () |_| {
        USERS.fetch_add(1, Relaxed);
        Ok(())
    }

    always: nvmlInitWithFlags (_flags: c_uint) |_| {
        USERS.fetch_add(1, Relaxed);
        Ok(())
    }

    library: nvmlShutdown () |_| {
        USERS.fetch_sub(1, Relaxed);
        Ok(())
    }

    library: nvmlSystemGetDriverVersion (version: Out<c_char>, length: c_uint) |state| {
        put(version, &state.driver_version.get(), length)
    }

    library: nvmlSystemGetNVMLVersion (version: Out<c_char>, length: c_uint) |state| {
        put(version, &format!("13.{}", state.driver_version.get()), length)
    }

    library: nvmlSystemGetCudaDriverVersion | nvmlSystemGetCudaDriverVersion_v2 (version: Out<c_int>) |state| {
        version.put(state.cuda_version.load(Relaxed) as c_int)
    }

    library: nvmlSystemGetProcessName (pid: c_uint, name: Out<c_char>, length: c_uint) |_| {
        let name = name.wanted()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| NvmlError::NOT_FOUND)?;
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        // This one function cuts what does not fit.
        name.put_text(words.join(" ").trim_end(), c_int::try_from(length).unwrap_or(c_int::MAX))
    }

    library: nvmlDeviceGetCount | nvmlDeviceGetCount_v2 (count: Out<c_uint>) |state| {
        count.put(Gpu::all(state).count() as c_uint)
    }

    library: nvmlUnitGetCount (count: Out<c_uint>) |_| {
        count.put(0)
    }
}

/// Writes a text that must fit with its NUL.
pub(crate) fn put(out: Out<c_char>, text: &str, length: c_uint) -> crate::abi::Result {
    let out = out.wanted()?;
    if text.len() >= length as usize {
        return Err(NvmlError::INSUFFICIENT_SIZE);
    }
    out.put_text(text, c_int::try_from(length).unwrap_or(c_int::MAX))
}
