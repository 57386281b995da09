"""A job on PyTorch, with whatever allocator PYTORCH_CUDA_ALLOC_CONF names."""

import time

started = time.perf_counter()
import torch  # noqa: E402

from job import serve  # noqa: E402


class Torch:
    def start(self):
        torch.cuda.init()
        self.allocate(1)
        self.trim()

    def allocate(self, size):
        return torch.empty(size, dtype=torch.uint8, device="cuda")

    def trim(self):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def view(self):
        return torch.cuda.mem_get_info()

    def figures(self):
        """How often the driver said out of memory, and how often the job saw it."""
        try:
            stats = torch.cuda.memory_stats()
        except RuntimeError:
            return {}  # not every allocator counts
        return {name: stats.get(name, 0) for name in ["num_alloc_retries", "num_ooms"]}


serve(Torch(), time.perf_counter() - started)
