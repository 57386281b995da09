"""A job on numba, which allocates from the driver each time."""

import time

started = time.perf_counter()
import numpy  # noqa: E402
from numba import cuda  # noqa: E402

from job import serve  # noqa: E402


class Numba:
    def start(self):
        cuda.current_context()

    def allocate(self, size):
        return cuda.device_array(size, dtype=numpy.uint8)

    def trim(self):
        cuda.current_context().deallocations.clear()

    def view(self):
        info = cuda.current_context().get_memory_info()
        return info.free, info.total

    def figures(self):
        return {}


serve(Numba(), time.perf_counter() - started)
