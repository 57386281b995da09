"""Clients that others wrote, under `run`: what they take, the balloon gives, and what they give back, it takes.

Usage: handed_over.py bindings|numba PROGRAM, where PROGRAM is gpu-balloon.
"""

import json
import os
import subprocess
import sys
import time

MB = 1 << 20
CONTEXT = 500 * MB
DEADLINE = 20

program = sys.argv[2]


def handed_over():
    said = subprocess.run(
        [program, "status", os.environ["GPU_BALLOON_HOLDER"], "--json"], check=True, capture_output=True
    ).stdout
    (part,) = json.loads(said)["balloons"][0]["gpus"]
    return part["handed_over_bytes"]


def expect(what, expected):
    """Within a deadline, to the byte."""
    end = time.monotonic() + DEADLINE
    while (found := handed_over()) != expected:
        assert time.monotonic() < end, f"{what}: {found} handed over, not {expected}"
        time.sleep(0.01)


def bindings():
    from cuda.bindings import driver as cuda

    def call(function, *arguments):
        result, *values = function(*arguments)
        assert result == cuda.CUresult.CUDA_SUCCESS, (function.__name__, result)
        return values[0] if len(values) == 1 else values

    call(cuda.cuInit, 0)
    device = call(cuda.cuDeviceGet, 0)
    expect("nothing yet", 0)
    call(cuda.cuCtxSetCurrent, call(cuda.cuDevicePrimaryCtxRetain, device))
    expect("the context", CONTEXT)
    linear = call(cuda.cuMemAlloc, 512 * MB)
    expect("cuMemAlloc", CONTEXT + 512 * MB)
    stream = call(cuda.cuStreamCreate, 0)
    ordered = call(cuda.cuMemAllocAsync, 256 * MB, stream)
    expect("cuMemAllocAsync", CONTEXT + 768 * MB)
    place = cuda.CUmemAllocationProp()
    place.type = cuda.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    place.location.type = cuda.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    place.location.id = 0
    handle = call(cuda.cuMemCreate, 128 * MB, place, 0)
    expect("cuMemCreate", CONTEXT + 896 * MB)
    call(cuda.cuMemRelease, handle)
    call(cuda.cuMemFreeAsync, ordered, stream)
    call(cuda.cuStreamSynchronize, stream)
    expect("after two frees", CONTEXT + 512 * MB)
    call(cuda.cuMemFree, linear)
    expect("after all frees", CONTEXT)


def numba():
    import numpy
    from numba import cuda

    array = cuda.to_device(numpy.zeros(512 * MB, dtype=numpy.uint8))
    expect("an array", CONTEXT + 512 * MB)
    del array
    cuda.current_context().reset()
    expect("after its end", CONTEXT)


{"bindings": bindings, "numba": numba}[sys.argv[1]]()
