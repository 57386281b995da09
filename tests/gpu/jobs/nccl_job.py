"""One of two ranks: grows, then reduces with the other, and checks the sum."""

import os
import sys
import time

import torch
from torch import distributed

from job import Job, tell

MB = 1 << 20


class Rank:
    def __init__(self, device):
        self.device = device

    def allocate(self, size):
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def trim(self):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def main():
    rank = int(os.environ["RANK"])
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    distributed.init_process_group("nccl", device_id=device)
    # Makes NCCL take what it needs for itself, beside which the job then grows.
    distributed.barrier()
    job = Job(Rank(device))
    rounds = []
    for _ in range(3):
        rounds.append(job.grow(64 * MB, 80, 20))
        job.shrink()
    values = torch.full((64 * MB,), rank + 1.0, device=device)
    distributed.all_reduce(values)
    is_right = bool((values == 3.0).all())
    # Whoever comes first would count its wait for the other.
    distributed.barrier()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        distributed.all_reduce(values)
    torch.cuda.synchronize()
    took = (time.perf_counter() - start) * 100
    refused = sum(grown["out_of_memory"] for grown in rounds)
    allocations = sorted(took for grown in rounds for took in grown["took_us"])
    median = allocations[len(allocations) // 2] if allocations else 0
    grown = {"out_of_memory": refused, "allocations": len(allocations), "median_us": median}
    tell({**grown, "rank": rank, "is_right": is_right, "all_reduce_ms": took, "view": torch.cuda.mem_get_info()})
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
