"""NVIDIA's own bindings of the driver API, cuda-bindings 12 or 13."""

import ctypes
import os

from cuda.bindings import driver as cuda

GB = 1 << 30
SUCCESS = cuda.CUresult.CUDA_SUCCESS


def call(function, *arguments):
    result, *values = function(*arguments)
    assert result == SUCCESS, (function.__name__, result)
    return values[0] if len(values) == 1 else values


def fails(expected, function, *arguments):
    result = function(*arguments)[0]
    assert result == getattr(cuda.CUresult, "CUDA_ERROR_" + expected), (function.__name__, result)


def free():
    return call(cuda.cuMemGetInfo)[0]


def devices():
    fails("NOT_INITIALIZED", cuda.cuDeviceGetCount)
    call(cuda.cuInit, 0)
    assert call(cuda.cuDeviceGetCount) == 2
    assert call(cuda.cuDriverGetVersion) == 13000
    fails("INVALID_DEVICE", cuda.cuDeviceGet, 2)
    first, second = call(cuda.cuDeviceGet, 0), call(cuda.cuDeviceGet, 1)
    assert (call(cuda.cuDeviceTotalMem, first), call(cuda.cuDeviceTotalMem, second)) == (24 * GB, 80 * GB)
    assert call(cuda.cuDeviceGetName, 64, first).startswith(b"NVIDIA")
    bus = call(cuda.cuDeviceGetPCIBusId, 32, second)
    assert int(call(cuda.cuDeviceGetByPCIBusId, bus)) == int(second)
    assert bytes(call(cuda.cuDeviceGetUuid, first).bytes) != bytes(call(cuda.cuDeviceGetUuid, second).bytes)
    return first


def allocations(device):
    fails("INVALID_CONTEXT", cuda.cuMemAlloc, GB)
    context = call(cuda.cuDevicePrimaryCtxRetain, device)
    call(cuda.cuCtxSetCurrent, context)
    before = free()
    address = call(cuda.cuMemAlloc, GB)
    assert before - free() == GB
    base, size = call(cuda.cuMemGetAddressRange, int(address) + 5)
    assert (int(base), size) == (int(address), GB)
    call(cuda.cuMemFree, address)
    fails("INVALID_VALUE", cuda.cuMemFree, address)
    fails("OUT_OF_MEMORY", cuda.cuMemAlloc, 25 * GB)
    assert free() == before


def copies():
    sent = (ctypes.c_uint8 * 4096)(*(n % 251 for n in range(4096)))
    back = (ctypes.c_uint8 * 4096)()
    one, other = call(cuda.cuMemAlloc, 4096), call(cuda.cuMemAlloc, 4096)
    call(cuda.cuMemcpyHtoD, one, ctypes.addressof(sent), 4096)
    call(cuda.cuMemcpyDtoD, other, one, 4096)
    call(cuda.cuMemcpyDtoH, ctypes.addressof(back), other, 4096)
    assert bytes(back) == bytes(sent)
    call(cuda.cuMemsetD8, other, 7, 4096)
    call(cuda.cuMemcpyDtoH, ctypes.addressof(back), other, 4096)
    assert set(bytes(back)) == {7}
    fails("INVALID_VALUE", cuda.cuMemsetD8, other, 7, 8192)
    call(cuda.cuMemFree, one)
    call(cuda.cuMemFree, other)


def pools(device):
    stream = call(cuda.cuStreamCreate, 0)
    pool = call(cuda.cuDeviceGetDefaultMemPool, device)
    reserved = cuda.CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT
    before = free()
    address = call(cuda.cuMemAllocAsync, GB, stream)
    assert int(call(cuda.cuMemPoolGetAttribute, pool, reserved)) == GB == before - free()
    call(cuda.cuMemFreeAsync, address, stream)
    assert int(call(cuda.cuMemPoolGetAttribute, pool, reserved)) == GB
    call(cuda.cuStreamSynchronize, stream)
    assert int(call(cuda.cuMemPoolGetAttribute, pool, reserved)) == 0
    assert free() == before
    call(cuda.cuStreamDestroy, stream)


def virtual_memory(device):
    properties = cuda.CUmemAllocationProp()
    properties.type = cuda.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = cuda.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = int(device)
    minimum = cuda.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
    page = call(cuda.cuMemGetAllocationGranularity, properties, minimum)
    before = free()
    memory = call(cuda.cuMemCreate, 4 * page, properties, 0)
    assert before - free() == 4 * page
    address = call(cuda.cuMemAddressReserve, 8 * page, 0, 0, 0)
    call(cuda.cuMemMap, address, 4 * page, 0, memory, 0)
    access = cuda.CUmemAccessDesc()
    access.location = properties.location
    access.flags = cuda.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    call(cuda.cuMemSetAccess, address, 4 * page, [access], 1)
    call(cuda.cuMemsetD8, address, 1, 4 * page)
    call(cuda.cuMemRelease, memory)
    assert before - free() == 4 * page
    call(cuda.cuMemUnmap, address, 4 * page)
    call(cuda.cuMemAddressFree, address, 8 * page)
    assert free() == before


def forks():
    child = os.fork()
    if child == 0:
        # Whatever the parent had, a child has no driver and gets none.
        results = [cuda.cuMemGetInfo()[0], cuda.cuInit(0)[0], cuda.cuDeviceGetCount()[0]]
        os._exit(0 if set(results) == {cuda.CUresult.CUDA_ERROR_NOT_INITIALIZED} else 1)
    assert os.waitpid(child, 0)[1] == 0
    free()


gpu = devices()
allocations(gpu)
copies()
pools(gpu)
virtual_memory(gpu)
forks()
call(cuda.cuDevicePrimaryCtxRelease, gpu)
