//! What the driver knows of an address.

use std::ffi::{c_int, c_uint, c_void};

use crate::abi::{In, Out, Result, api};
use crate::arena::Kind;
use crate::context::Context;
use crate::driver::Driver;
use crate::errors::CudaError;
use crate::{host, memory, vmm};

enum Known {
    Device { ordinal: i32, start: u64, size: u64, context: usize, kind: Option<Kind> },
    Host { start: u64 },
}

fn known(driver: &Driver, address: u64) -> Option<Known> {
    if let Some((ordinal, found)) = memory::around(driver, address) {
        let context = if matches!(found.kind, Kind::Pool(_)) { 0 } else { found.context };
        let (start, size, kind) = (found.address, found.size, Some(found.kind));
        return Some(Known::Device { ordinal, start, size, context, kind });
    }
    if let Some((ordinal, start, size)) = vmm::around(driver, address) {
        return Some(Known::Device { ordinal, start, size, context: 0, kind: None });
    }
    Some(Known::Host { start: host::around(address as usize)?.start as u64 })
}

/// `CUpointer_attribute`, written in the width that each has.
fn put(context: &Context, out: Out<c_void>, which: c_int, address: u64) -> Result {
    let Some(known) = known(context.driver(), address) else { return Err(CudaError::INVALID_VALUE) };
    let flag = |is_so: bool| out.cast::<u8>().put(is_so.into());
    match (which, &known) {
        (1, Known::Device { context, .. }) => out.cast::<usize>().put(*context),
        (1, Known::Host { .. }) => out.cast::<usize>().put(context.handle),
        (2, Known::Device { .. }) => out.cast::<c_uint>().put(2),
        (2, Known::Host { .. }) => out.cast::<c_uint>().put(1),
        (3, _) => out.cast::<u64>().put(address),
        (4, Known::Host { .. }) => out.cast::<u64>().put(address),
        (6, _) => flag(true),
        (7, Known::Device { start, .. } | Known::Host { start }) => out.cast::<u64>().put(*start),
        (8, Known::Device { kind, .. }) => flag(*kind == Some(Kind::Managed)),
        (8 | 10, _) => flag(false),
        (9, Known::Device { ordinal, .. }) => out.cast::<c_int>().put(*ordinal),
        (9, Known::Host { .. }) => out.cast::<c_int>().put(context.ordinal),
        (11, Known::Device { start, .. } | Known::Host { start }) => out.cast::<u64>().put(*start),
        (12, Known::Device { size, .. }) => out.cast::<u64>().put(*size),
        (13, _) => flag(true),
        (14 | 15, _) => out.cast::<u64>().put(0),
        (16, _) => out.cast::<u64>().put(3),
        (17, Known::Device { kind: Some(Kind::Pool(pool)), .. }) => out.cast::<usize>().put(*pool),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

api! {
    context Query: cuPointerGetAttribute (out: Out<c_void>, which: c_int, address: u64) |context| {
        put(context, out.wanted()?, which, address)
    }

    context Query: cuPointerGetAttributes
    (count: c_uint, which: In<c_int>, out: In<Out<c_void>>, address: u64) |context| {
        for index in 0..count as usize {
            let (which, out) = (which.at(index).get()?, out.at(index).get()?);
            // Here an address that the driver does not know is no error: the caller finds zero.
            if put(context, out, which, address).is_err() {
                match which {
                    2 | 9 => out.cast::<c_uint>().put(if which == 9 { -2_i32 as c_uint } else { 0 })?,
                    6 | 8 | 10 | 13 => out.cast::<u8>().put(0)?,
                    _ => out.cast::<u64>().put(0)?,
                }
            }
        }
        Ok(())
    }

    context Other: cuPointerSetAttribute (_value: In<c_int>, _which: c_int, address: u64) |context| {
        known(context.driver(), address).map(|_| ()).ok_or(CudaError::INVALID_VALUE)
    }
}
