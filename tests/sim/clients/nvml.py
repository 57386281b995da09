"""NVIDIA's bindings of the management library, nvidia-ml-py, beside a process that uses the driver."""

import os

import pynvml
from cuda.bindings import driver as cuda

GB = 1 << 30

try:
    pynvml.nvmlDeviceGetCount()
    raise SystemExit("a call before nvmlInit succeeds")
except pynvml.NVMLError_Uninitialized:
    pass

pynvml.nvmlInit()
assert pynvml.nvmlDeviceGetCount() == 2
handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(2)]
for index, handle in enumerate(handles):
    uuid, bus = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetPciInfo(handle).busId
    for other in (pynvml.nvmlDeviceGetHandleByUUID(uuid), pynvml.nvmlDeviceGetHandleByPciBusId(bus)):
        assert pynvml.nvmlDeviceGetIndex(other) == index
assert [pynvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles] == [30, 90]
assert [pynvml.nvmlDeviceGetMemoryInfo(handle).total for handle in handles] == [24 * GB, 80 * GB]
assert pynvml.nvmlDeviceGetComputeMode(handles[0]) == pynvml.NVML_COMPUTEMODE_DEFAULT
assert pynvml.nvmlDeviceGetMigMode(handles[0]) == [0, 0]
assert pynvml.nvmlDeviceGetComputeRunningProcesses(handles[1]) == []

cuda.cuInit(0)
_, context = cuda.cuDevicePrimaryCtxRetain(1)
cuda.cuCtxSetCurrent(context)
_, address = cuda.cuMemAlloc(2 * GB)
(process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(handles[1])
assert process.pid == os.getpid()
memory = pynvml.nvmlDeviceGetMemoryInfo(handles[1], version=pynvml.nvmlMemory_v2)
assert process.usedGpuMemory == memory.used > 2 * GB
assert memory.used + memory.free + memory.reserved == memory.total
cuda.cuDevicePrimaryCtxRelease(1)
assert pynvml.nvmlDeviceGetComputeRunningProcesses(handles[1]) == []

try:
    pynvml.nvmlDeviceGetHandleByIndex(2)
    raise SystemExit("a GPU that is not there has a handle")
except pynvml.NVMLError_InvalidArgument:
    pass
pynvml.nvmlShutdown()
