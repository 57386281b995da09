"""What NVML tells of a GPU, once or all the time, and what the kernel tells of a process."""

import os
import threading
import time
from pathlib import Path

import pynvml

from lab import MB
from lab.programs import Silent

KEPT = 8 * MB


def count():
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetCount()


class Gpu:
    def __init__(self, index=0):
        pynvml.nvmlInit()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def name(self):
        return pynvml.nvmlDeviceGetName(self.handle)

    def total(self):
        return pynvml.nvmlDeviceGetMemoryInfo(self.handle).total

    def free(self):
        return pynvml.nvmlDeviceGetMemoryInfo(self.handle).free

    def used(self):
        """Without what driver and firmware keep for themselves."""
        return pynvml.nvmlDeviceGetMemoryInfo(self.handle, version=pynvml.nvmlMemory_v2).used

    def watts(self):
        return pynvml.nvmlDeviceGetPowerUsage(self.handle) / 1000

    def performance_state(self):
        return pynvml.nvmlDeviceGetPerformanceState(self.handle)

    def when_free(self, before, pause=0.0005, timeout=30):
        """Waits until as much is free as before, but for the little that the driver may keep."""
        end = time.monotonic() + timeout
        while (missing := before - self.free()) > KEPT:
            if time.monotonic() > end:
                raise Silent(f"{missing >> 20} MiB are still in use after {timeout} s")
            # Questions without a pause would slow down whoever is freeing.
            time.sleep(pause)


class Sampler:
    """Reads free memory as often as it can in a thread of its own, from `with` to its end."""

    def __init__(self, gpu):
        self.gpu = gpu
        self.samples = []
        self.ended = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        while not self.ended.is_set():
            self.samples.append((time.perf_counter(), self.gpu.free()))
            time.sleep(0.0005)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def deviation(self, expected, within):
        """How far what is used was off what `expected` free memory means, in bytes, and how long beyond `within`."""
        off = [expected - free for _, free in self.samples]
        longest = outside = 0.0
        since = None
        for (moment, _), difference in zip(self.samples, off):
            if abs(difference) <= within:
                since = None
                continue
            since = moment if since is None else since
            longest = max(longest, moment - since)
        pairs = zip(self.samples, self.samples[1:], off)
        outside = sum(after[0] - before[0] for before, after, difference in pairs if abs(difference) > within)
        return {
            "over_bytes": max(0, *off),
            "under_bytes": max(0, *(-difference for difference in off)),
            "last_bytes": off[-1],
            "longest_outside_ms": round(longest * 1e3, 1),
            "outside_ms": round(outside * 1e3, 1),
            "of_ms": round((self.samples[-1][0] - self.samples[0][0]) * 1e3, 1),
            "samples": len(off),
        }


def threads(pid):
    """Voluntary and forced context switches and CPU time in ms of each thread, by its number."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        fields = (task / "stat").read_text().rpartition(") ")[2].split()
        found[int(task.name)] = {
            "name": (task / "comm").read_text().strip(),
            "voluntary": int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0]),
            "forced": int(status.split("\nnonvoluntary_ctxt_switches:")[1].split()[0]),
            "cpu_ms": (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK"),
        }
    return found


def resident(pid):
    """VmRSS in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024
