//! Streams and events. All work is done at once, so waiting never takes time; it only lets pools give back.

use std::ffi::{c_int, c_uint};
use std::time::Instant;

use crate::abi::{In, Out, Result, api};
use crate::context::Context;
use crate::driver::Driver;
use crate::errors::CudaError;
use crate::handles::{Handle, Thing};
use crate::pool;

/// The handles of the default stream: null, and the legacy and the per-thread one by name.
fn is_default(stream: Handle) -> bool {
    stream.addr() <= 2
}

pub(crate) fn known(driver: &Driver, stream: Handle) -> Result<Option<(u32, i32, usize)>> {
    if is_default(stream) {
        return Ok(None);
    }
    match driver.handles.get(stream)? {
        Thing::Stream { flags, priority, context, .. } => Ok(Some((flags, priority, context))),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

fn create(context: &Context, out: Out<Handle>, flags: c_uint, priority: c_int) -> Result {
    let out = out.wanted()?;
    if flags > 1 {
        return Err(CudaError::INVALID_VALUE);
    }
    let driver = context.driver();
    out.put(driver.handles.add(driver, Thing::Stream { flags, priority, context: context.handle, captured: None }))
}

/// What has been captured of a stream up to now, where it is being captured.
pub(crate) fn captured(driver: &Driver, stream: Handle) -> Result<Option<u64>> {
    if is_default(stream) {
        return Ok(None);
    }
    match driver.handles.get(stream)? {
        Thing::Stream { captured, .. } => Ok(captured),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

pub(crate) fn capture(driver: &Driver, stream: Handle, local: Option<u64>) -> Result {
    driver.handles.change(stream, |thing| match thing {
        Thing::Stream { captured, .. } => {
            *captured = local;
            Some(())
        }
        _ => None,
    })
}

/// What an invalidated capture has captured.
pub(crate) const INVALIDATED: u64 = u64::MAX;

/// To wait for a stream that is being captured, alone or with its whole context, is an error and the end of its capture.
pub(crate) fn may_wait(driver: &Driver, is_waited_for: impl Fn(Handle, usize) -> bool) -> Result {
    let mut waits = Ok(());
    driver.handles.change_all(|handle, thing| {
        if let Thing::Stream { captured: captured @ Some(_), context, .. } = thing
            && is_waited_for(handle, *context)
        {
            *captured = Some(INVALIDATED);
            waits = Err(CudaError::STREAM_CAPTURE_UNSUPPORTED);
        }
    });
    waits
}

fn recorded(driver: &Driver, event: Handle) -> Result<Option<Instant>> {
    match driver.handles.get(event)? {
        Thing::Event { recorded } => Ok(recorded),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

fn record(driver: &Driver, event: Handle, stream: Handle) -> Result {
    known(driver, stream)?;
    driver.handles.change(event, |thing| match thing {
        Thing::Event { recorded } => {
            *recorded = Some(Instant::now());
            Some(())
        }
        _ => None,
    })
}

api! {
    context Other: cuStreamCreate (out: Out<Handle>, flags: c_uint) |context| {
        create(context, out, flags, 0)
    }

    context Other: cuStreamCreateWithPriority (out: Out<Handle>, flags: c_uint, priority: c_int) |context| {
        create(context, out, flags, priority.clamp(-5, 0))
    }

    context Other: cuStreamDestroy | cuStreamDestroy_v2 (stream: Handle) |context| {
        if is_default(stream) {
            return Err(CudaError::INVALID_HANDLE);
        }
        context.driver().handles.remove(stream, |thing| matches!(thing, Thing::Stream { .. })).map(|_| ())
    }

    context Other: cuStreamSynchronize | cuStreamSynchronize_ptsz (stream: Handle) |context| {
        known(context.driver(), stream)?;
        may_wait(context.driver(), |other, _| other == stream)?;
        pool::settle(context.driver(), context.device());
        Ok(())
    }

    context Other: cuStreamQuery | cuStreamQuery_ptsz | cuStreamWaitEvent | cuStreamWaitEvent_ptsz
    (stream: Handle) |context| {
        known(context.driver(), stream).map(|_| ())
    }

    context Other: cuStreamGetFlags | cuStreamGetFlags_ptsz (stream: Handle, out: Out<c_uint>) |context| {
        out.put(known(context.driver(), stream)?.map_or(0, |(flags, ..)| flags))
    }

    context Other: cuStreamGetPriority | cuStreamGetPriority_ptsz (stream: Handle, out: Out<c_int>) |context| {
        out.put(known(context.driver(), stream)?.map_or(0, |(_, priority, _)| priority))
    }

    context Other: cuStreamGetId | cuStreamGetId_ptsz (stream: Handle, out: Out<u64>) |context| {
        known(context.driver(), stream)?;
        out.put(stream.addr() as u64)
    }

    context Other: cuStreamGetCtx | cuStreamGetCtx_ptsz (stream: Handle, out: Out<Handle>) |context| {
        let of = known(context.driver(), stream)?.map_or(context.handle, |(.., of)| of);
        out.put(std::ptr::without_provenance_mut(of))
    }

    context Other: cuStreamGetCtx_v2 | cuStreamGetCtx_v2_ptsz
    (stream: Handle, out: Out<Handle>, green: Out<Handle>) |context| {
        let of = known(context.driver(), stream)?.map_or(context.handle, |(.., of)| of);
        green.put_if_wanted(std::ptr::null_mut());
        out.put(std::ptr::without_provenance_mut(of))
    }

    context Other: cuStreamGetDevice | cuStreamGetDevice_ptsz (stream: Handle, out: Out<c_int>) |context| {
        known(context.driver(), stream)?;
        out.put(context.ordinal)
    }

    context Other: cuStreamIsCapturing | cuStreamIsCapturing_ptsz | cuStreamGetCaptureInfo
    | cuStreamGetCaptureInfo_ptsz | cuStreamGetCaptureInfo_v2 | cuStreamGetCaptureInfo_v2_ptsz
    | cuStreamGetCaptureInfo_v3 | cuStreamGetCaptureInfo_v3_ptsz (stream: Handle, status: Out<c_int>) |context| {
        status.put(match captured(context.driver(), stream)? {
            None => 0,
            Some(INVALIDATED) => 2,
            Some(_) => 1,
        })
    }

    context Other: cuThreadExchangeStreamCaptureMode (mode: Out<c_int>) |_| {
        mode.put(mode.get()?)
    }

    context Other: cuLaunchHostFunc | cuLaunchHostFunc_ptsz
    (stream: Handle, function: Option<extern "C" fn(Handle)>, data: Handle) |context| {
        known(context.driver(), stream)?;
        function.ok_or(CudaError::INVALID_VALUE)?(data);
        Ok(())
    }

    context Other: cuStreamAddCallback | cuStreamAddCallback_ptsz
    (stream: Handle, function: Option<extern "C" fn(Handle, c_int, Handle)>, data: Handle, _flags: c_uint) |context| {
        known(context.driver(), stream)?;
        function.ok_or(CudaError::INVALID_VALUE)?(stream, 0, data);
        Ok(())
    }

    context Other: cuEventCreate (out: Out<Handle>, _flags: c_uint) |context| {
        let driver = context.driver();
        out.wanted()?.put(driver.handles.add(driver, Thing::Event { recorded: None }))
    }

    driver Other: cuEventDestroy | cuEventDestroy_v2 (event: Handle) |driver| {
        driver.handles.remove(event, |thing| matches!(thing, Thing::Event { .. })).map(|_| ())
    }

    context Other: cuEventRecord | cuEventRecord_ptsz (event: Handle, stream: Handle) |context| {
        record(context.driver(), event, stream)
    }

    context Other: cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz
    (event: Handle, stream: Handle, _flags: c_uint) |context| {
        record(context.driver(), event, stream)
    }

    context Other: cuEventQuery (event: Handle) |context| {
        recorded(context.driver(), event).map(|_| ())
    }

    context Other: cuEventSynchronize (event: Handle) |context| {
        recorded(context.driver(), event)?;
        pool::settle(context.driver(), context.device());
        Ok(())
    }

    context Other: cuEventElapsedTime | cuEventElapsedTime_v2
    (milliseconds: Out<f32>, start: Handle, end: Handle) |context| {
        let driver = context.driver();
        let (start, end) = (recorded(driver, start)?, recorded(driver, end)?);
        let (start, end) = start.zip(end).ok_or(CudaError::INVALID_HANDLE)?;
        let forth = end.saturating_duration_since(start).as_secs_f32();
        milliseconds.put((forth - start.saturating_duration_since(end).as_secs_f32()) * 1000.0)
    }

    context Other: cuStreamAttachMemAsync | cuStreamAttachMemAsync_ptsz | cuStreamCopyAttributes
    | cuStreamCopyAttributes_ptsz | cuStreamSetAttribute | cuStreamSetAttribute_ptsz | cuStreamWaitValue32_v2
    | cuStreamWaitValue32_v2_ptsz | cuStreamWaitValue64_v2 | cuStreamWaitValue64_v2_ptsz
    | cuStreamWriteValue32_v2 | cuStreamWriteValue32_v2_ptsz | cuStreamWriteValue64_v2
    | cuStreamWriteValue64_v2_ptsz | cuProfilerStart | cuProfilerStop | cuFlushGPUDirectRDMAWrites () |_| {
        Ok(())
    }

    context Other: cuStreamGetAttribute | cuStreamGetAttribute_ptsz
    (stream: Handle, _which: c_int, _value: In<c_int>) |context| {
        known(context.driver(), stream)?;
        Err(CudaError::NOT_SUPPORTED)
    }
}
