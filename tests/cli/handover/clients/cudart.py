"""The real CUDA runtime looks its driver functions up and keeps their addresses; those of the hooks must be ours.

Usage: cudart.py LIBRARY. Without hardware the runtime refuses to start, but not before it has looked everything up.
"""

import ctypes
import struct
import sys

HOOKS = """
cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemFree_v2 cuMemGetInfo_v2 cuArray3DCreate_v2 cuArrayDestroy cuMipmappedArrayCreate
cuMemAllocAsync cuMemAllocAsync_ptsz cuMemAllocFromPoolAsync cuMemFreeAsync cuMemFreeAsync_ptsz cuMemPoolCreate
cuMemPoolTrimTo cuDevicePrimaryCtxRetain cuLibraryLoadData cuGraphInstantiateWithParams cuGraphUpload cuGraphLaunch
cuStreamSynchronize cuEventSynchronize cuLaunchKernel cuLaunchKernel_ptsz cuLaunchKernelEx cuLaunchCooperativeKernel
""".split()


def maps():
    previous = ""
    for line in open("/proc/self/maps"):
        fields = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in fields[0].split("-"))
        name = fields[5].strip() if len(fields) > 5 else ""
        # A library's zeroed data has no name of its own.
        yield start, end, fields[1], name or previous
        previous = name or previous


runtime = ctypes.CDLL(sys.argv[1])
runtime.cudaGetDeviceCount(ctypes.byref(ctypes.c_int()))
driver = ctypes.CDLL("libcuda.so.1")
ours = [(start, end) for start, end, _, name in maps() if "memfd:gpu-balloon " in name + " "]
kept = set()
with open("/proc/self/mem", "rb") as memory:
    for start, end, access, name in maps():
        if "w" in access and ("libcudart" in name or name == "[heap]"):
            memory.seek(start)
            kept.update(word for (word,) in struct.iter_unpack("Q", memory.read(end - start)))
for hook in HOOKS:
    address = ctypes.cast(getattr(driver, hook), ctypes.c_void_p).value
    assert any(start <= address < end for start, end in ours), f"{hook}: not looked up as ours"
    assert address in kept, f"{hook}: the runtime does not have ours"
print(f"{len(HOOKS)} hooks in {sys.argv[1].rsplit('/')[-1]}")
