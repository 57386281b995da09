"""Memory held as a PyTorch program would: tensors of a chunk's size in a list.

Answers each `hold BYTES CHUNK` on standard input with how long that took and how long letting go took.
"""

import json
import sys
import time

started = time.perf_counter()
import torch  # noqa: E402

imported = time.perf_counter()
torch.cuda.init()
torch.empty(1, device="cuda")
torch.cuda.synchronize()
torch.cuda.empty_cache()
print(json.dumps({"import_ms": (imported - started) * 1e3, "context_ms": (time.perf_counter() - imported) * 1e3}))
sys.stdout.flush()

for command in sys.stdin:
    _, size, chunk = command.split()
    size, chunk = int(size), int(chunk)
    start = time.perf_counter()
    tensors = []
    while size > 0:
        tensors.append(torch.empty(min(chunk, size), dtype=torch.uint8, device="cuda"))
        size -= chunk
    torch.cuda.synchronize()
    held = time.perf_counter()
    del tensors
    torch.cuda.empty_cache()
    print(json.dumps({"hold_ms": (held - start) * 1e3, "free_ms": (time.perf_counter() - held) * 1e3}), flush=True)
