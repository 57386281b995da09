"""What holding costs, beside a bare C program and a PyTorch loop, in one run."""

import signal
import time

from lab import GB, held, overhead
from lab.programs import Silent
from lab.readings import Gpu, threads
from lab.report import mib

# Until the GPU has taken back its clocks after the last work.
SETTLE = 15
WATCH = 10


def run(lab):
    gpu = Gpu()
    lab.attempt("overhead", overhead.run, lab)
    lab.attempt("free to visible", lags, lab, gpu)
    lab.attempt("verbs on a live balloon", verbs, lab, gpu)
    lab.attempt("idle and power", idle, lab, gpu, least=90)
    lab.attempt("time to held", held.run, lab, least=30)


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

    def holding(what, *options):
        with lab.hold("--reserve", "16GB", *options) as holder:
            watch(what, holder)

    watch("no balloon", None)
    lab.attempt("hold --contextless", holding, "hold --contextless", "--contextless")
    lab.attempt("hold", holding, "hold")
    lab.report.heading(f"Idle: over {WATCH} s, after {SETTLE} s to settle")
    lab.report.table(
        ["", "power, W", "nvidia-smi, W", "state", "wake-ups by thread, voluntary+forced", "CPU, ms"], rows
    )


def power_by_smi(lab):
    return lab.call("nvidia-smi", "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits", timeout=20)
