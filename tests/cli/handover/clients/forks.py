"""A job that forks while one of its threads waits for memory. Does what it reads on standard input."""

import ctypes, os, sys, threading

cuda = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
assert [cuda.cuInit(0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)] == [0, 0]


def allocate(megabytes):
    address = ctypes.c_uint64()
    return cuda.cuCtxSetCurrent(context) or cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(megabytes << 20))


def sockets():
    descriptors = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(path).startswith("socket:") for path in descriptors if os.path.islink(path))


at_rest = sockets()
statuses = []
thread = threading.Thread(target=lambda: statuses.append(allocate(1024)))
# Its other end is closed when this process has ended.
ours, childs = os.pipe()
for line in sys.stdin:
    if line == "fork\n":
        thread.start()
        while sockets() == at_rest:
            pass
        if os.fork() == 0:
            os.close(childs)
            os.read(ours, 1)
            os._exit(0)
        status = 0
    elif line == "join\n":
        thread.join()
        status = statuses[0]
    else:
        status = allocate(512)
    print("ok" if status == 0 else f"error {status}", flush=True)
