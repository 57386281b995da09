"""Monitors that people run, gpustat or nvitop, see who uses a GPU."""

import json
import os
import subprocess
import sys

from cuda.bindings import driver as cuda

monitor = os.path.join(os.path.dirname(sys.executable), sys.argv[1])
cuda.cuInit(0)
_, context = cuda.cuDevicePrimaryCtxRetain(0)
cuda.cuCtxSetCurrent(context)
cuda.cuMemAlloc(3 << 30)

# 3 GB and the context.
used = 3 * 1024 + 500
if sys.argv[1] == "gpustat":
    shown = json.loads(subprocess.run([monitor, "--json"], check=True, capture_output=True, text=True).stdout)
    first, second = shown["gpus"]
    assert (first["memory.used"], second["memory.used"]) == (used, 0), shown
    assert (first["utilization.gpu"], second["utilization.gpu"]) == (30, 90), shown
    assert [(process["pid"], process["gpu_memory_usage"]) for process in first["processes"]] == [(os.getpid(), used)]
else:
    shown = subprocess.run([monitor, "-1"], check=True, capture_output=True, text=True).stdout
    lines = [line for line in shown.splitlines() if f" {os.getpid()} " in line]
    assert len(lines) == 1 and (f"{used}MiB" in lines[0] or "3.49GiB" in lines[0]), shown
