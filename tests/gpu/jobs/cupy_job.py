"""A job on CuPy, with its memory pool."""

import time

started = time.perf_counter()
import cupy  # noqa: E402

from job import serve  # noqa: E402


class Cupy:
    def start(self):
        self.allocate(1)
        self.trim()

    def allocate(self, size):
        return cupy.empty(size, dtype=cupy.uint8)

    def trim(self):
        cupy.cuda.Device().synchronize()
        cupy.get_default_memory_pool().free_all_blocks()

    def view(self):
        return cupy.cuda.runtime.memGetInfo()

    def figures(self):
        return {"pool_bytes": cupy.get_default_memory_pool().total_bytes()}


serve(Cupy(), time.perf_counter() - started)
