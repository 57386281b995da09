//! Graphs: they can be built and launched, and take nothing but the stacks that the launches captured in them need.

use std::ffi::{c_int, c_uint, c_void};

use crate::abi::{In, Out, Result, api};
use crate::driver::Driver;
use crate::errors::CudaError;
use crate::handles::{Handle, Thing};
use crate::{stacks, stream};

fn add(driver: &'static Driver, out: Out<Handle>, thing: Thing) -> Result {
    out.wanted()?.put(driver.handles.add(driver, thing))
}

/// The local memory that a graph's launches need.
fn graph(driver: &Driver, graph: Handle) -> Result<u64> {
    match driver.handles.get(graph)? {
        Thing::Graph { local } => Ok(local),
        _ => Err(CudaError::INVALID_HANDLE),
    }
}

api! {
    driver Other: cuGraphCreate (out: Out<Handle>, _flags: c_uint) |driver| {
        add(driver, out, Thing::Graph { local: 0 })
    }

    driver Other: cuGraphClone (out: Out<Handle>, original: Handle) |driver| {
        let local = graph(driver, original)?;
        add(driver, out, Thing::Graph { local })
    }

    context Other: cuGraphInstantiate | cuGraphInstantiate_v2 | cuGraphInstantiateWithFlags
    | cuGraphInstantiateWithParams | cuGraphInstantiateWithParams_ptsz (out: Out<Handle>, of: Handle) |context| {
        let local = graph(context.driver(), of)?;
        stacks::enlarge(context, local as usize)?;
        add(context.driver(), out, Thing::Graph { local })
    }

    driver Other: cuGraphDestroy | cuGraphExecDestroy (handle: Handle) |driver| {
        driver.handles.remove(handle, |thing| matches!(thing, Thing::Graph { .. })).map(|_| ())
    }

    context Other: cuGraphLaunch | cuGraphLaunch_ptsz | cuGraphUpload | cuGraphUpload_ptsz
    (executable: Handle, _stream: Handle) |context| {
        stacks::enlarge(context, graph(context.driver(), executable)? as usize)
    }

    driver Other: cuGraphAddEmptyNode | cuGraphAddKernelNode | cuGraphAddKernelNode_v2 | cuGraphAddMemcpyNode
    | cuGraphAddMemsetNode | cuGraphAddHostNode | cuGraphAddChildGraphNode | cuGraphAddEventRecordNode
    | cuGraphAddEventWaitNode (out: Out<Handle>, to: Handle) |driver| {
        graph(driver, to)?;
        add(driver, out, Thing::Node)
    }

    driver Other: cuGraphGetNodes | cuGraphGetRootNodes (of: Handle, _nodes: Out<Handle>, count: Out<usize>) |driver| {
        graph(driver, of)?;
        count.put(0)
    }

    context Other: cuStreamBeginCapture | cuStreamBeginCapture_ptsz | cuStreamBeginCapture_v2
    | cuStreamBeginCapture_v2_ptsz | cuStreamBeginCaptureToGraph | cuStreamBeginCaptureToGraph_ptsz
    (stream: Handle) |context| {
        stream::capture(context.driver(), stream, Some(0))
    }

    context Other: cuStreamEndCapture | cuStreamEndCapture_ptsz (stream: Handle, out: Out<Handle>) |context| {
        let driver = context.driver();
        let local = stream::captured(driver, stream)?.ok_or(CudaError::ILLEGAL_STATE)?;
        stream::capture(driver, stream, None)?;
        if local == stream::INVALIDATED {
            return Err(CudaError::STREAM_CAPTURE_INVALIDATED);
        }
        add(driver, out, Thing::Graph { local })
    }

    driver Other: cuGraphAddDependencies | cuGraphAddDependencies_v2 | cuGraphDestroyNode | cuGraphExecUpdate
    | cuGraphExecUpdate_v2 | cuGraphDebugDotPrint | cuUserObjectRelease | cuUserObjectRetain
    | cuGraphRetainUserObject | cuGraphReleaseUserObject () |_| {
        Ok(())
    }

    driver Other: cuUserObjectCreate (out: Out<Handle>, _object: *mut c_void) |driver| {
        add(driver, out, Thing::Node)
    }

    driver Other: cuDeviceGraphMemTrim (ordinal: c_int) |driver| {
        driver.device(ordinal).map(|_| ())
    }

    driver Other: cuDeviceGetGraphMemAttribute (ordinal: c_int, _which: c_int, value: Out<u64>) |driver| {
        driver.device(ordinal)?;
        value.put(0)
    }

    driver Other: cuDeviceSetGraphMemAttribute (ordinal: c_int, _which: c_int, _value: In<u64>) |driver| {
        driver.device(ordinal).map(|_| ())
    }
}
