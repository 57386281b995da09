//! Arrays: device memory of a shape.

use std::ffi::{c_int, c_uint};

use crate::abi::{In, Out, Result, api};
use crate::arena::Kind;
use crate::context::Context;
use crate::errors::CudaError;
use crate::handles::{Handle, Thing};
use crate::memory;

/// `CUDA_ARRAY_DESCRIPTOR`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flat {
    width: usize,
    height: usize,
    format: c_int,
    channels: c_uint,
}

/// `CUDA_ARRAY3D_DESCRIPTOR`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Deep {
    width: usize,
    height: usize,
    depth: usize,
    format: c_int,
    channels: c_uint,
    flags: c_uint,
}

impl Deep {
    /// A dimension that is not used is 0.
    fn bytes(&self) -> Result<u64> {
        let element = match self.format {
            0x01 | 0x08 => 1,
            0x02 | 0x09 | 0x10 => 2,
            0x03 | 0x0a | 0x20 => 4,
            _ => return Err(CudaError::INVALID_VALUE),
        };
        if !matches!(self.channels, 1 | 2 | 4) || self.width == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let sizes = [self.width, self.height.max(1), self.depth.max(1), self.channels as usize];
        let product = sizes.into_iter().try_fold(element, usize::checked_mul);
        product.map(|bytes| bytes as u64).ok_or(CudaError::OUT_OF_MEMORY)
    }
}

fn create(context: &Context, out: Out<Handle>, shape: Deep) -> Result {
    let out = out.wanted()?;
    let memory = memory::allocate(context, shape.bytes()?, Kind::Linear)?;
    let last = [shape.format as usize, shape.channels as usize, shape.flags as usize];
    let descriptor = [shape.width, shape.height, shape.depth, last[0], last[1], last[2]];
    let driver = context.driver();
    out.put(driver.handles.add(driver, Thing::Array { memory, descriptor }))
}

fn descriptor(context: &Context, array: Handle) -> Result<Deep> {
    let Thing::Array { descriptor: [width, height, depth, format, channels, flags], .. } =
        context.driver().handles.get(array)?
    else {
        return Err(CudaError::INVALID_HANDLE);
    };
    let (format, channels, flags) = (format as c_int, channels as c_uint, flags as c_uint);
    Ok(Deep { width, height, depth, format, channels, flags })
}

api! {
    context Alloc: cuArrayCreate_v2 (out: Out<Handle>, shape: In<Flat>) |context| {
        let Flat { width, height, format, channels } = shape.get()?;
        create(context, out, Deep { width, height, depth: 0, format, channels, flags: 0 })
    }

    context Alloc: cuArray3DCreate_v2 (out: Out<Handle>, shape: In<Deep>) |context| {
        create(context, out, shape.get()?)
    }

    context Alloc: cuMipmappedArrayCreate (out: Out<Handle>, shape: In<Deep>, levels: c_uint) |context| {
        if levels == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        create(context, out, shape.get()?)
    }

    context Free: cuArrayDestroy | cuMipmappedArrayDestroy (array: Handle) |context| {
        match context.driver().handles.remove(array, |thing| matches!(thing, Thing::Array { .. }))? {
            Thing::Array { memory, .. } => memory::free(context.driver(), memory),
            _ => Err(CudaError::INVALID_HANDLE),
        }
    }

    context Other: cuArrayGetDescriptor_v2 (out: Out<Flat>, array: Handle) |context| {
        let Deep { width, height, format, channels, .. } = descriptor(context, array)?;
        out.put(Flat { width, height, format, channels })
    }

    context Other: cuArray3DGetDescriptor_v2 (out: Out<Deep>, array: Handle) |context| {
        out.put(descriptor(context, array)?)
    }

    context Other: cuMipmappedArrayGetLevel (out: Out<Handle>, array: Handle, _level: c_uint) |context| {
        descriptor(context, array)?;
        out.put(array)
    }
}
