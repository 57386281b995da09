"""What holding costs, beside a bare C program and a PyTorch loop, in one run."""

import signal
import time

from lab import GB, MB, overhead
from lab.programs import Silent
from lab.readings import Gpu, threads
from lab.report import mib

SIZES = [2, 16, 64, 120]
CHUNKS = [2, 20, 100, 500, 2000, None]

# A second run is worth its time only where the first was short.
SHORT = 0.8

# Until the GPU has taken back its clocks after the last work.
SETTLE = 15
WATCH = 10


def run(lab):
    gpu = Gpu()
    lab.attempt("overhead", overhead.run, lab)
    lab.attempt("free to visible", lags, lab, gpu)
    lab.attempt("verbs on a live balloon", verbs, lab, gpu)
    lab.attempt("idle and power", idle, lab, gpu, least=90)
    lab.attempt("time to held", times, lab, gpu, least=30)


def lags(lab, gpu):
    """From the return of a free, or the end of a process, to NVML showing it."""
    rows = []

    def bare(how):
        with lab.start(lab.bare, "lag", how) as program:
            found = program.told()
        late = f"{found['not_at_first_read']} of {found['frees']}"
        rows.append(
            [
                f"bare C, {how}",
                f"{found['free_us']:.0f}",
                f"{found['visible_us']:.1f}",
                f"{found['visible_max_us']:.1f}",
                late,
            ]
        )
        lab.report.figures("lag", what=f"bare {how}", **found)

    def killed(*options):
        before = gpu.free()
        holder = lab.hold("--reserve", "2GB", *options)
        start = time.perf_counter()
        holder.signal(signal.SIGKILL)
        gpu.when_free(before, pause=0)
        took = time.perf_counter() - start
        holder.end()
        what = " ".join(["hold", *options, "killed"])
        rows.append([what, "", f"{took * 1e6:.0f}", "", ""])
        lab.report.figures("lag", what=what, seconds=took)

    for how in ["alloc", "create"]:
        lab.attempt(f"lag {how}", bare, how)
    lab.attempt("kill -9", killed)
    lab.attempt("kill -9, contextless", killed, "--contextless")
    lab.report.heading("Free to visible in NVML")
    lab.report.table(["", "free of 100 MB, us", "then visible after, us", "at most, us", "not at the first read"], rows)


def verbs(lab, gpu):
    """Live verbs as a user types them: from their start to their return."""
    size = 16 if gpu.free() < 70 * GB else 64
    rows = []

    def each(chunk, *options):
        before = gpu.free()
        with lab.hold("--reserve", f"{size}GB", "--chunk-size", chunk, "--name", "measured", *options):
            took = {}
            for what, words in [
                ("status", ["status"]),
                ("grow", ["resize", "measured", "+1GB"]),
                ("shrink", ["resize", "measured", "-1GB"]),
                ("release", ["release", "measured"]),
            ]:
                start = time.perf_counter()
                code, said = lab.call(lab.balloon, *words)
                took[what] = time.perf_counter() - start
                if code:
                    raise Silent(f"{' '.join(words)}: {said}")
            # `release` returns once the memory is free, and the context may live a little longer.
            still = before - gpu.free()
        gpu.when_free(before)
        milliseconds = [f"{seconds * 1e3:.1f}" for seconds in took.values()]
        rows.append([" ".join([f"{size} GB in {chunk}", *options]), *milliseconds, mib(still)])
        lab.report.figures("verbs", size_gb=size, chunk=chunk, options=options, still_bytes=still, **took)

    for chunk in ["2MB", "100MB", "2000MB"]:
        for options in [[], ["--contextless"]]:
            lab.attempt(" ".join(["verbs,", chunk, *options]), each, chunk, *options)
    lab.report.heading("Verbs on a live balloon, ms")
    lab.report.table(["", "status", "resize +1GB", "resize -1GB", "release", "in use when it returned, MiB"], rows)


def idle(lab, gpu):
    """A holder that does nothing: wake-ups, CPU time, and the power of the GPU beside that of one left alone."""
    rows = []

    def watch(what, holder):
        time.sleep(1 if lab.is_simulated else SETTLE)
        before = threads(holder.pid) if holder else {}
        end = time.monotonic() + (1 if lab.is_simulated else WATCH)
        watts = []
        while time.monotonic() < end:
            watts.append(gpu.watts())
            time.sleep(0.5)
        after = threads(holder.pid) if holder else {}
        _, smi = lab.attempt("nvidia-smi", power_by_smi, lab) or (0, "")
        state = gpu.performance_state()
        woken = []
        for number, thread in after.items():
            earlier = before.get(number, thread)
            switches, forced = thread["voluntary"] - earlier["voluntary"], thread["forced"] - earlier["forced"]
            woken.append(f"{thread['name']} {switches}+{forced}")
        cpu = sum(thread["cpu_ms"] - before.get(number, thread)["cpu_ms"] for number, thread in after.items())
        rows.append([what, f"{sum(watts) / len(watts):.1f}", smi.strip(), f"P{state}", ", ".join(woken), f"{cpu:.0f}"])
        lab.report.figures("idle", what=what, watts=watts, smi=smi, state=state, before=before, after=after)

    def held(what, *options):
        with lab.hold("--reserve", "16GB", *options) as holder:
            watch(what, holder)

    watch("no balloon", None)
    lab.attempt("hold --contextless", held, "hold --contextless", "--contextless")
    lab.attempt("hold", held, "hold")
    lab.report.heading(f"Idle: over {WATCH} s, after {SETTLE} s to settle")
    lab.report.table(
        ["", "power, W", "nvidia-smi, W", "state", "wake-ups by thread, voluntary+forced", "CPU, ms"], rows
    )


def power_by_smi(lab):
    return lab.call("nvidia-smi", "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits", timeout=20)


def times(lab, gpu):
    """From the start of the program to everything held, and from being told to end to everything free again."""
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
        took = lab.attempt(f"{size} GB in {chunk or 'all'}: {what}", run, *arguments, size * GB, each, least=20)
        lab.report.figures("held", what=what, size_gb=size, chunk_mb=chunk, seconds=took)
        return f"{took[0]:.3f} / {took[1]:.3f}" if took else ""

    for size in SIZES:
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
