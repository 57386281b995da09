"""A job on JAX, with whatever allocator the XLA_PYTHON_CLIENT variables name."""

import time

started = time.perf_counter()
import jax  # noqa: E402
from jax import numpy  # noqa: E402

from job import serve  # noqa: E402


class Jax:
    def start(self):
        self.device = jax.devices("gpu")[0]
        self.allocate(1)

    def allocate(self, size):
        return numpy.zeros(size, numpy.uint8, device=self.device).block_until_ready()

    def trim(self):
        """What JAX has taken, it keeps."""

    def view(self):
        stats = self.device.memory_stats() or {}
        return stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0), stats.get("bytes_limit", 0)

    def figures(self):
        stats = self.device.memory_stats() or {}
        return {name: stats[name] for name in ["pool_bytes", "peak_bytes_in_use"] if name in stats}


serve(Jax(), time.perf_counter() - started)
