//! What the real library exports and the simulation does not do: graphics, external memory, multicast, old 32-bit calls.

use crate::abi::api;
use crate::errors::CudaError;

api! {
    driver Other: cuArray3DCreate | cuArray3DGetDescriptor | cuArrayCreate | cuArrayGetDescriptor |
    cuArrayGetMemoryRequirements | cuArrayGetPlane | cuArrayGetSparseProperties |
    cuCheckpointProcessCheckpoint | cuCheckpointProcessGetRestoreThreadId | cuCheckpointProcessGetState |
    cuCheckpointProcessLock | cuCheckpointProcessRestore | cuCheckpointProcessUnlock | cuCoredumpGetAttribute
    | cuCoredumpGetAttributeGlobal | cuCoredumpSetAttribute | cuCoredumpSetAttributeGlobal |
    cuCtxFromGreenCtx | cuCtxGetDevResource |
    cuCtxRecordEvent | cuCtxWaitEvent | cuDestroyExternalMemory | cuDestroyExternalSemaphore |
    cuDevResourceGenerateDesc | cuDevSmResourceSplitByCount | cuDeviceGetDevResource |
    cuDeviceGetHostAtomicCapabilities | cuDeviceGetNvSciSyncAttributes | cuDeviceGetP2PAtomicCapabilities |
    cuDeviceRegisterAsyncNotification | cuDeviceUnregisterAsyncNotification | cuEGLApiInit |
    cuEGLStreamConsumerAcquireFrame | cuEGLStreamConsumerConnect | cuEGLStreamConsumerConnectWithFlags |
    cuEGLStreamConsumerDisconnect | cuEGLStreamConsumerReleaseFrame | cuEGLStreamProducerConnect |
    cuEGLStreamProducerDisconnect | cuEGLStreamProducerPresentFrame | cuEGLStreamProducerReturnFrame |
    cuExternalMemoryGetMappedBuffer | cuExternalMemoryGetMappedMipmappedArray | cuFuncGetParamInfo |
    cuGLCtxCreate | cuGLCtxCreate_v2 | cuGLGetDevices | cuGLGetDevices_v2 | cuGLInit | cuGLMapBufferObject |
    cuGLMapBufferObjectAsync | cuGLMapBufferObjectAsync_v2 | cuGLMapBufferObjectAsync_v2_ptsz |
    cuGLMapBufferObject_v2 | cuGLMapBufferObject_v2_ptds | cuGLRegisterBufferObject |
    cuGLSetBufferObjectMapFlags | cuGLUnmapBufferObject | cuGLUnmapBufferObjectAsync |
    cuGLUnregisterBufferObject | cuGraphAddBatchMemOpNode | cuGraphAddExternalSemaphoresSignalNode |
    cuGraphAddExternalSemaphoresWaitNode | cuGraphAddMemAllocNode | cuGraphAddMemFreeNode | cuGraphAddNode |
    cuGraphAddNode_v2 | cuGraphBatchMemOpNodeGetParams | cuGraphBatchMemOpNodeSetParams |
    cuGraphChildGraphNodeGetGraph | cuGraphConditionalHandleCreate | cuGraphEventRecordNodeGetEvent |
    cuGraphEventRecordNodeSetEvent | cuGraphEventWaitNodeGetEvent | cuGraphEventWaitNodeSetEvent |
    cuGraphExecBatchMemOpNodeSetParams | cuGraphExecChildGraphNodeSetParams |
    cuGraphExecEventRecordNodeSetEvent | cuGraphExecEventWaitNodeSetEvent |
    cuGraphExecExternalSemaphoresSignalNodeSetParams | cuGraphExecExternalSemaphoresWaitNodeSetParams |
    cuGraphExecGetFlags | cuGraphExecHostNodeSetParams | cuGraphExecKernelNodeSetParams |
    cuGraphExecKernelNodeSetParams_v2 | cuGraphExecMemcpyNodeSetParams | cuGraphExecMemsetNodeSetParams |
    cuGraphExecNodeSetParams | cuGraphExternalSemaphoresSignalNodeGetParams |
    cuGraphExternalSemaphoresSignalNodeSetParams | cuGraphExternalSemaphoresWaitNodeGetParams |
    cuGraphExternalSemaphoresWaitNodeSetParams | cuGraphGetEdges | cuGraphGetEdges_v2 |
    cuGraphHostNodeGetParams | cuGraphHostNodeSetParams | cuGraphKernelNodeCopyAttributes |
    cuGraphKernelNodeGetAttribute | cuGraphKernelNodeGetParams | cuGraphKernelNodeGetParams_v2 |
    cuGraphKernelNodeSetAttribute | cuGraphKernelNodeSetParams | cuGraphKernelNodeSetParams_v2 |
    cuGraphMemAllocNodeGetParams | cuGraphMemFreeNodeGetParams | cuGraphMemcpyNodeGetParams |
    cuGraphMemcpyNodeSetParams | cuGraphMemsetNodeGetParams | cuGraphMemsetNodeSetParams |
    cuGraphNodeFindInClone | cuGraphNodeGetDependencies | cuGraphNodeGetDependencies_v2 |
    cuGraphNodeGetDependentNodes | cuGraphNodeGetDependentNodes_v2 | cuGraphNodeGetEnabled |
    cuGraphNodeGetType | cuGraphNodeSetEnabled | cuGraphNodeSetParams | cuGraphRemoveDependencies |
    cuGraphRemoveDependencies_v2 | cuGraphicsEGLRegisterImage | cuGraphicsGLRegisterBuffer |
    cuGraphicsGLRegisterImage | cuGraphicsMapResources | cuGraphicsMapResources_ptsz |
    cuGraphicsResourceGetMappedEglFrame | cuGraphicsResourceGetMappedMipmappedArray |
    cuGraphicsResourceGetMappedPointer | cuGraphicsResourceGetMappedPointer_v2 | cuGraphicsResourceSetMapFlags
    | cuGraphicsResourceSetMapFlags_v2 | cuGraphicsSubResourceGetMappedArray | cuGraphicsUnmapResources |
    cuGraphicsUnmapResources_ptsz | cuGraphicsUnregisterResource | cuGraphicsVDPAURegisterOutputSurface |
    cuGraphicsVDPAURegisterVideoSurface | cuGreenCtxCreate | cuGreenCtxDestroy | cuGreenCtxGetDevResource |
    cuGreenCtxGetId | cuGreenCtxRecordEvent | cuGreenCtxStreamCreate | cuGreenCtxWaitEvent |
    cuImportExternalMemory | cuImportExternalSemaphore | cuIpcCloseMemHandle | cuIpcGetEventHandle |
    cuIpcGetMemHandle | cuIpcOpenEventHandle | cuIpcOpenMemHandle | cuIpcOpenMemHandle_v2 | cuKernelGetLibrary
    | cuKernelGetParamInfo | cuLaunch | cuLaunchCooperativeKernelMultiDevice | cuLaunchGrid |
    cuLaunchGridAsync | cuLibraryEnumerateKernels | cuLibraryGetUnifiedFunction | cuLogsCurrent |
    cuLogsDumpToFile | cuLogsDumpToMemory | cuLogsRegisterCallback | cuLogsUnregisterCallback | cuMemAlloc |
    cuMemAllocHost | cuMemAllocPitch | cuMemBatchDecompressAsync | cuMemBatchDecompressAsync_ptsz | cuMemFree
    | cuMemGetAddressRange | cuMemGetAttribute | cuMemGetAttribute_v2 | cuMemGetInfo |
    cuMemHostGetDevicePointer | cuMemHostRegister | cuMemMapArrayAsync | cuMemMapArrayAsync_ptsz |
    cuMemRangeGetAttribute | cuMemRangeGetAttributes | cuMemcpy2D | cuMemcpy2DAsync | cuMemcpy2DUnaligned |
    cuMemcpy3D | cuMemcpy3DAsync | cuMemcpyAtoA | cuMemcpyAtoD | cuMemcpyAtoH | cuMemcpyAtoHAsync |
    cuMemcpyDtoA | cuMemcpyDtoD | cuMemcpyDtoDAsync | cuMemcpyDtoH | cuMemcpyDtoHAsync | cuMemcpyHtoA |
    cuMemcpyHtoAAsync | cuMemcpyHtoD | cuMemcpyHtoDAsync | cuMemsetD16 | cuMemsetD2D16 | cuMemsetD2D32 |
    cuMemsetD2D8 | cuMemsetD32 | cuMemsetD8 | cuMipmappedArrayGetMemoryRequirements |
    cuMipmappedArrayGetSparseProperties | cuModuleEnumerateFunctions | cuModuleGetGlobal | cuModuleGetSurfRef
    | cuModuleGetTexRef | cuMulticastAddDevice | cuMulticastBindAddr | cuMulticastBindMem | cuMulticastCreate
    | cuMulticastGetGranularity | cuMulticastUnbind | cuOccupancyMaxActiveClusters |
    cuOccupancyMaxPotentialClusterSize | cuParamSetSize | cuParamSetTexRef | cuParamSetf | cuParamSeti |
    cuParamSetv | cuProfilerInitialize | cuSignalExternalSemaphoresAsync |
    cuSignalExternalSemaphoresAsync_ptsz | cuStreamBatchMemOp | cuStreamBatchMemOp_ptsz |
    cuStreamBatchMemOp_v2 | cuStreamBatchMemOp_v2_ptsz | cuStreamGetGreenCtx |
    cuStreamUpdateCaptureDependencies | cuStreamUpdateCaptureDependencies_ptsz |
    cuStreamUpdateCaptureDependencies_v2 | cuStreamUpdateCaptureDependencies_v2_ptsz | cuStreamWaitValue32 |
    cuStreamWaitValue32_ptsz | cuStreamWaitValue64 | cuStreamWaitValue64_ptsz | cuStreamWriteValue32 |
    cuStreamWriteValue32_ptsz | cuStreamWriteValue64 | cuStreamWriteValue64_ptsz | cuSurfObjectCreate |
    cuSurfObjectDestroy | cuSurfObjectGetResourceDesc | cuSurfRefGetArray | cuSurfRefSetArray |
    cuTensorMapEncodeIm2col | cuTensorMapEncodeIm2colWide | cuTensorMapEncodeTiled | cuTensorMapReplaceAddress
    | cuTexObjectCreate | cuTexObjectDestroy | cuTexObjectGetResourceDesc | cuTexObjectGetResourceViewDesc |
    cuTexObjectGetTextureDesc | cuTexRefCreate | cuTexRefDestroy | cuTexRefGetAddress | cuTexRefGetAddressMode
    | cuTexRefGetAddress_v2 | cuTexRefGetArray | cuTexRefGetBorderColor | cuTexRefGetFilterMode |
    cuTexRefGetFlags | cuTexRefGetFormat | cuTexRefGetMaxAnisotropy | cuTexRefGetMipmapFilterMode |
    cuTexRefGetMipmapLevelBias | cuTexRefGetMipmapLevelClamp | cuTexRefGetMipmappedArray | cuTexRefSetAddress
    | cuTexRefSetAddress2D | cuTexRefSetAddress2D_v2 | cuTexRefSetAddress2D_v3 | cuTexRefSetAddressMode |
    cuTexRefSetAddress_v2 | cuTexRefSetArray | cuTexRefSetBorderColor | cuTexRefSetFilterMode |
    cuTexRefSetFlags | cuTexRefSetFormat | cuTexRefSetMaxAnisotropy | cuTexRefSetMipmapFilterMode |
    cuTexRefSetMipmapLevelBias | cuTexRefSetMipmapLevelClamp | cuTexRefSetMipmappedArray | cuVDPAUCtxCreate |
    cuVDPAUCtxCreate_v2 | cuVDPAUGetDevice | cuWaitExternalSemaphoresAsync |
    cuWaitExternalSemaphoresAsync_ptsz () |_| {
        Err(CudaError::NOT_SUPPORTED)
    }
}
