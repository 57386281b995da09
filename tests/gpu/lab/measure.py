"""What holding costs, beside a bare C program and a PyTorch loop, in one run."""

import signal
import time

from lab import GB, MB
from lab.programs import Silent
from lab.readings import Gpu, resident, threads
from lab.report import attempt, mib

SIZES = [2, 16, 64, 120]
CHUNKS = [2, 20, 100, 500, 2000, None]

# A second run is worth its time only where the first was short.
SHORT = 0.8

# Until the GPU has taken back its clocks after the last work.
SETTLE = 15
WATCH = 10


def run(lab, report, clock):
    gpu = Gpu()
    for what, piece, least in [
        ("context overhead", overhead, 15),
        ("free to visible", lags, 15),
        ("release and resize", releases, 20),
        ("idle and power", idle, 90),
        ("time to held", times, 30),
    ]:
        attempt(report, clock, what, lambda piece=piece: piece(lab, report, clock, gpu), least)


def overhead(lab, report, clock, gpu):
    """Device memory that stands beside what is held."""
    rows = []

    def bare(what, kind, **environment):
        free, used = gpu.free(), gpu.used()
        with lab.start(lab.bare, "overhead", kind, **environment) as program:
            found = program.told()
        gpu.when_free(free)
        rows.append([what, mib(found["used_bytes"] - used), f"{found['context_ms']:.0f}"])
        report.figures("overhead", what=what, used_before=used, **found)

    def balloon(what, *options):
        before = gpu.free()
        with lab.hold("--reserve", "2GB", *options) as holder:
            beside = before - gpu.free() - 2 * GB
            rows.append([what, mib(beside), "", mib(resident(holder.pid))])
            report.figures("overhead", what=what, bytes=beside, resident_bytes=resident(holder.pid))
        gpu.when_free(before)

    for what, kind, environment in [
        ("bare C, context", "plain", {}),
        ("CUDA_MODULE_LOADING=EAGER", "plain", {"CUDA_MODULE_LOADING": "EAGER"}),
        ("CUDA_MODULE_LOADING=LAZY", "plain", {"CUDA_MODULE_LOADING": "LAZY"}),
        ("CUDA_DEVICE_MAX_CONNECTIONS=1", "plain", {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}),
        ("stack, printf and heap limits 0", "limits", {}),
        ("cuMemCreate without a context", "create", {}),
    ]:
        attempt(report, clock, what, lambda what=what, kind=kind, env=environment: bare(what, kind, **env))
    attempt(report, clock, "gpu-balloon hold", lambda: balloon("gpu-balloon hold"))
    attempt(report, clock, "gpu-balloon hold --contextless", lambda: balloon("gpu-balloon hold --contextless", "--contextless"))
    report.heading("Overhead beside what is held")
    report.table(["", "device memory, MiB", "context, ms", "resident, MiB"], [row + [""] * (4 - len(row)) for row in rows])


def lags(lab, report, clock, gpu):
    """From the return of a free, or the end of a process, to NVML showing it."""
    rows = []

    def bare(how):
        with lab.start(lab.bare, "lag", how) as program:
            found = program.told()
        late = f"{found['not_at_first_read']} of {found['frees']}"
        rows.append([f"bare C, {how}", f"{found['free_us']:.0f}", f"{found['visible_us']:.1f}", f"{found['visible_max_us']:.1f}", late])
        report.figures("lag", what=f"bare {how}", **found)

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
        report.figures("lag", what=what, seconds=took)

    for how in ["alloc", "create"]:
        attempt(report, clock, f"lag {how}", lambda how=how: bare(how))
    attempt(report, clock, "kill -9", killed)
    attempt(report, clock, "kill -9, contextless", lambda: killed("--contextless"))
    report.heading("Free to visible in NVML")
    report.table(["", "free of 100 MB, us", "then visible after, us", "at most, us", "not at the first read"], rows)


def releases(lab, report, clock, gpu):
    """The live verbs as a user types them: from their start to their return."""
    size = 16 if gpu.free() < 70 * GB else 64
    rows = []

    def verbs(chunk, *options):
        before = gpu.free()
        with lab.hold("--reserve", f"{size}GB", "--chunk-size", chunk, "--name", "measured", *options):
            held = gpu.free()
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
        rows.append([" ".join([f"{size} GB in {chunk}", *options]), *(f"{took[what] * 1e3:.1f}" for what in took), mib(still)])
        report.figures("verbs", size_gb=size, chunk=chunk, options=options, held_bytes=before - held, still_bytes=still, **took)

    for chunk in ["2MB", "100MB", "2000MB"]:
        for options in [[], ["--contextless"]]:
            what = f"verbs on {chunk} {options}"
            attempt(report, clock, what, lambda chunk=chunk, options=options: verbs(chunk, *options))
    report.heading("Verbs on a live balloon, ms")
    report.table(["", "status", "resize +1GB", "resize -1GB", "release", "in use when it returned, MiB"], rows)


def idle(lab, report, clock, gpu):
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
        _, smi = attempt(report, clock, "nvidia-smi", lambda: power_by_smi(lab)) or (0, "")
        state = gpu.performance_state()
        woken = []
        for number, thread in after.items():
            earlier = before.get(number, thread)
            switches, forced = thread["voluntary"] - earlier["voluntary"], thread["forced"] - earlier["forced"]
            woken.append(f"{thread['name']} {switches}+{forced}")
        cpu = sum(thread["cpu_ms"] - before.get(number, thread)["cpu_ms"] for number, thread in after.items())
        rows.append([what, f"{sum(watts) / len(watts):.1f}", smi.strip(), f"P{state}", ", ".join(woken), f"{cpu:.0f}"])
        report.figures("idle", what=what, watts=watts, smi=smi, state=state, before=before, after=after)

    watch("no balloon", None)
    for what, options in [("hold --contextless", ["--contextless"]), ("hold", [])]:
        def held(what=what, options=options):
            with lab.hold("--reserve", "16GB", *options) as holder:
                watch(what, holder)

        attempt(report, clock, what, held)
    report.heading(f"Idle: over {WATCH} s, after {SETTLE} s to settle")
    report.table(["", "power, W", "nvidia-smi, W", "state", "wake-ups by thread, voluntary+forced", "CPU, ms"], rows)


def power_by_smi(lab):
    return lab.call("nvidia-smi", "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits", timeout=20)


def times(lab, report, clock, gpu):
    """From the start of the program to everything held, and from being told to end to everything free again."""
    contenders = [
        ("bare C, cuMemAlloc", lambda size, chunk: lab.start(lab.bare, "hold", "alloc", size, chunk)),
        ("gpu-balloon", lambda size, chunk: balloon(lab, size, chunk)),
        ("bare C, cuMemCreate", lambda size, chunk: lab.start(lab.bare, "hold", "create", size, chunk)),
        ("gpu-balloon --contextless", lambda size, chunk: balloon(lab, size, chunk, "--contextless")),
    ]
    torch = attempt(report, clock, "torch", lambda: Torch(lab))
    took = {}
    report.heading("Time to held and to free, seconds")
    if torch:
        report.text(f"PyTorch: {torch.import_ms:.0f} ms for its import and {torch.context_ms:.0f} ms for its context come first.\n")
    for size in SIZES:
        rows = []
        if size * GB > gpu.free() - 2 * GB:
            continue
        for chunk in CHUNKS:
            bytes_a_chunk = min(size * GB, chunk * MB if chunk else size * GB)
            cells = []
            for what, start in contenders:
                cell = attempt(report, clock, f"{size} GB in {chunk or 'all'}: {what}", lambda start=start: best(gpu, start, size * GB, bytes_a_chunk), 20)
                cells.append(f"{cell[0]:.3f} / {cell[1]:.3f}" if cell else "")
                report.figures("held", what=what, size_gb=size, chunk_mb=chunk, seconds=cell)
            loop = torch and attempt(report, clock, f"{size} GB in {chunk or 'all'}: torch", lambda: torch.loop(size * GB, bytes_a_chunk), 20)
            cells.append(f"{loop[0]:.3f} / {loop[1]:.3f}" if loop else "")
            report.figures("held", what="torch", size_gb=size, chunk_mb=chunk, seconds=loop)
            rows.append([f"{size} GB in {f'{chunk} MB' if chunk else 'one'}", *cells])
        report.table(["held / free", *(what for what, _ in contenders), "PyTorch, loop only"], rows)
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
        ready = self.program.told()
        self.import_ms, self.context_ms = ready["import_ms"], ready["context_ms"]

    def loop(self, size, chunk):
        took = self.program.ask(f"hold {size} {chunk}")
        return took["hold_ms"] / 1e3, took["free_ms"] / 1e3
