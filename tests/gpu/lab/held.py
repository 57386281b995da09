"""From the start of a program to everything held, and from being told to end to everything free again."""

import signal
import time

from lab import GB, MB
from lab.programs import Silent
from lab.readings import Gpu

SIZES = [2, 16, 64, 120]
CHUNKS = [2, 20, 100, 500, 2000, None]

# A second run is worth its time only where the first was short.
SHORT = 0.8

# What was freed is cleared before anybody gets it: whoever asks at once waits for that, for 120 GB a fifth of a second.
CLEARED = 0.7


def run(lab):
    gpu = Gpu()
    contenders = [
        ("bare C, cuMemAlloc", lambda size, chunk: lab.start(lab.bare, "hold", "alloc", size, chunk)),
        ("gpu-balloon", lambda size, chunk: balloon(lab, size, chunk)),
        ("bare C, cuMemCreate", lambda size, chunk: lab.start(lab.bare, "hold", "create", size, chunk)),
        ("gpu-balloon --contextless", lambda size, chunk: balloon(lab, size, chunk, "--contextless")),
    ]
    torch = lab.attempt("PyTorch", Torch, lab)
    lab.report.heading("Time to held and to free, seconds")
    if torch:
        import_ms, context_ms = (f"{torch.ready[name]:.0f} ms" for name in ["import_ms", "context_ms"])
        lab.report.text(f"PyTorch: {import_ms} for its import and {context_ms} for its context come first.\n")

    def cell(what, size, chunk, run, *arguments):
        each = size * GB if chunk is None else min(size * GB, chunk * MB)
        time.sleep(0 if lab.is_simulated else CLEARED)
        took = lab.attempt(f"{size} GB in {chunk or 'all'}: {what}", run, *arguments, size * GB, each, least=20)
        lab.report.figures("held", what=what, size_gb=size, chunk_mb=chunk, seconds=took)
        return f"{took[0]:.3f} / {took[1]:.3f}" if took else ""

    for size in lab.sizes or SIZES:
        if size * GB > gpu.free() - 2 * GB:
            continue
        rows = []
        for chunk in CHUNKS:
            cells = [cell(what, size, chunk, best, gpu, start) for what, start in contenders]
            cells.append(cell("PyTorch", size, chunk, torch.loop) if torch else "")
            rows.append([f"{size} GB in {f'{chunk} MB' if chunk else 'one'}", *cells])
        lab.report.table(["held / free", *(what for what, _ in contenders), "PyTorch, loop only"], rows)
    if torch:
        torch.program.end()


def balloon(lab, size, chunk, *options):
    reserve = ["--reserve", f"{size // GB}GB", "--chunk-size", f"{chunk // MB}MB"]
    return lab.start(lab.balloon, "hold", "--gpu", "0", *reserve, *options)


def best(gpu, start, size, chunk):
    """The better of two runs."""
    first = once(gpu, start, size, chunk)
    if sum(first) > SHORT:
        return first
    time.sleep(CLEARED)
    return tuple(map(min, first, once(gpu, start, size, chunk)))


def once(gpu, start, size, chunk):
    before = gpu.free()
    with start(size, chunk) as program:
        ready = program.line()
        held = time.perf_counter() - program.started
        if not ready.startswith("ready"):
            raise Silent(f"ended with {program.wait()} and said {ready!r}")
        told = time.perf_counter()
        if program.name == "gpu-balloon":
            program.signal(signal.SIGTERM)
        else:
            program.process.stdin.close()
        gpu.when_free(before)
        return held, time.perf_counter() - told


class Torch:
    def __init__(self, lab):
        self.program = lab.job("torch_loop")
        self.ready = self.program.told(timeout=150)

    def loop(self, size, chunk):
        took = self.program.ask(f"hold {size} {chunk}")
        return took["hold_ms"] / 1e3, took["free_ms"] / 1e3
