"""Jobs that grow inside their reservation on a GPU that is otherwise full, alone and beside a thief."""

import json
import time
from contextlib import ExitStack

from lab import MB
from lab.programs import Silent
from lab.readings import Gpu, Sampler
from lab.report import attempt, mib

RESERVE = "4GB"
CHUNK = 100 * MB  # `run`'s own choice
PIECE = 64 * MB

# What makes each framework allocate as it is named.
JOBS = [
    ("torch, native", "torch_job", {}, []),
    ("torch, expandable segments", "torch_job", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, []),
    ("torch, cudaMallocAsync", "torch_job", {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, []),
    ("jax, growing", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, []),
    ("jax, preallocating, capped", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, ["--view", "capped"]),
    ("jax, preallocating, shared", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, []),
    ("jax, no pool", "jax_job", {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}, []),
    ("cupy", "cupy_job", {}, []),
    ("numba", "numba_job", {}, []),
]
FRAMEWORK_GROWTH = (PIECE, 36, 5, 6)
HANDOVERS = (PIECE, 48, 21, 10)  # 1,008 of them

THIEVES = [("none", None), ("every 1 ms", 1), ("spinning", 0)]

# Importing all frameworks at once, from a cold disk.
IMPORT = 150


def run(lab, report, clock):
    gpu = Gpu()
    if lab.call(lab.balloon, "run", "--reserve", "64MB", "--", "true")[0]:
        raise Silent("`gpu-balloon run -- true` fails: see the log")
    report.heading(f"Handover: {RESERVE} reserved, pieces of {PIECE // MB} MB, everything else on the GPU taken")
    with ExitStack() as stack:
        others = Others(lab, stack)
        attempt(report, clock, "the C job", lambda: handovers(lab, report, clock, gpu, others))
        attempt(report, clock, "latency", lambda: latencies(lab, report, clock, others))
        attempt(report, clock, "views", lambda: views(lab, report, clock, others))
        attempt(report, clock, "frameworks", lambda: frameworks(lab, report, clock, gpu, others))


class Others:
    """Who else is on the GPU: one who keeps it full, and one who wants more."""

    def __init__(self, lab, stack):
        self.filler = stack.enter_context(lab.start(lab.neighbour))
        self.thief = stack.enter_context(lab.start(lab.neighbour))
        self.filler.told()
        self.thief.told()

    def leave(self):
        self.thief.ask("free")
        self.filler.ask("free")

    def fill(self):
        self.filler.ask("fill")

    def thieve(self, pause):
        """From now on; returns what it has taken of the crumbs that the filler left."""
        self.thief.ask(f"thieve {pause}")
        time.sleep(0.2)
        return self.thief.ask("count")["taken"]


def wrapped(lab, what, job, options=(), environment=None):
    """A job under `run`, once its memory is held and its imports are done; and where its summary will be."""
    summary = lab.out / f"summary-{''.join(filter(str.isalnum, what))}.json"
    options = ["--gpu", "0", "--reserve", RESERVE, "--json", f"--summary={summary}", *options]
    program = lab.job(job, lab.balloon, "run", *options, "--", **(environment or {}))
    program.summary = summary
    return program


def summary_of(program):
    """What `run` tells at the end. The files would be too many to carry home."""
    program.end()
    try:
        text = program.summary.read_text()
        program.summary.unlink()
        return json.loads(text)
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def grow(gpu, job, others, growth, pause):
    """One growth of a job, what was stolen meanwhile, and how far job and balloon strayed from the reservation."""
    crumbs = 0 if pause is None else others.thieve(pause)
    free = gpu.free()
    with Sampler(gpu) as sampler:
        found = job.ask("grow " + " ".join(map(str, growth)), timeout=growth[3] + 60)
    if pause is not None:
        counted = others.thief.ask("count")
        found["stolen_bytes"], found["looked"] = counted["taken"] - crumbs, counted["looked"]
        others.thief.ask("free")
    return {**found, **sampler.deviation(free, CHUNK)}


def cells(found):
    stolen = mib(found["stolen_bytes"]) if "stolen_bytes" in found else ""
    strayed = f"-{mib(found['under_bytes'])} / +{mib(found['over_bytes'])}"
    if "error" in found:
        return [found["error"][:80], "", "", "", "", stolen, ""]
    return [
        found["out_of_memory"],
        found["allocations"],
        f"{found['median_us']:.0f}",
        f"{found['p99_us']:.0f}",
        f"{found['max_us'] / 1e3:.1f}",
        stolen,
        f"{strayed}, {found['outside_ms']:.0f} of {found['of_ms']:.0f} ms",
    ]


HEADER = ["", "thief", "out of memory", "allocations", "median, us", "p99, us", "at most, ms", "stolen, MiB", "strayed, MiB; beyond a chunk"]


def handovers(lab, report, clock, gpu, others):
    rows = []

    def one(what, options, thief, pause):
        others.leave()
        job = wrapped(lab, what, "grow", options)
        try:
            job.told()
            others.fill()
            crumbs = 0 if pause is None else others.thieve(pause)
            started = job.ask("start")
            # The context is a handover too, and the largest.
            lost = 0 if pause is None else others.thief.ask("count")["taken"] - crumbs
            if started["result"]:
                rows.append([what, thief, f"no context: error {started['result']}", "", "", "", "", mib(lost), ""])
                report.figures("handover", of=what, thief=thief, start=started, stolen_bytes=lost)
                return
            found = grow(gpu, job, others, HANDOVERS, pause)
        finally:
            summary = summary_of(job)
        rows.append([what, thief, *cells(found)])
        figures = {"start": started, "lost_at_start": lost, "summary": summary}
        report.figures("handover", **{"of": what, "thief": thief, **figures, **found})

    for mode in ["auto", "preload", "nvml", "off"]:
        for thief, pause in THIEVES:
            if mode != "off" or pause is None:
                what, options = f"C, {mode}", ["--handover", mode]
                attempt(report, clock, f"{what}, thief: {thief}", lambda: one(what, options, thief, pause), 25)
    others.leave()
    room = "C, auto, the GPU otherwise empty"

    def with_room():
        job = wrapped(lab, room, "grow")
        try:
            job.told()
            job.ask("start")
            time.sleep(0.5)
            found = grow(gpu, job, others, HANDOVERS, None)
        finally:
            summary = summary_of(job)
        rows.append([room, "none", *cells(found)])
        report.figures("handover", **{"of": room, "summary": summary, **found})

    attempt(report, clock, room, with_room)
    report.table(HEADER, rows)


def latencies(lab, report, clock, others):
    """What `run` adds to an allocation while memory is plentiful."""
    others.leave()
    growths = [("1 KB", (1024, 20000, 2, 10)), ("2 MB", (2 * MB, 500, 4, 10)), ("64 MB", (PIECE, 40, 10, 10))]

    def of(job):
        try:
            job.told()
            job.ask("start")
            return [job.ask("grow " + " ".join(map(str, growth))) for _, growth in growths]
        finally:
            job.end()

    turns = [(of(lab.job("grow")), of(wrapped(lab, "latency", "grow"))) for _ in range(3)]
    rows = []
    for number, (piece, _) in enumerate(growths):
        alone = [min(turn[0][number][name] for turn in turns) for name in ["median_us", "p99_us", "free_us"]]
        under = [min(turn[1][number][name] for turn in turns) for name in ["median_us", "p99_us", "free_us"]]
        rows.append([piece, *(f"{one:.2f} / {other:.2f}" for one, other in zip(alone, under))])
    report.figures("latency", turns=turns)
    report.text("An allocation of the C job, alone / under `run`, the best of three turns, us:\n")
    report.table(["piece", "median", "p99", "free"], rows)


def views(lab, report, clock, others):
    rows = []
    for view in ["shared", "capped", "raw"]:
        def one(view=view):
            others.leave()
            job = wrapped(lab, f"view {view}", "grow", ["--view", view])
            try:
                job.told()
                others.fill()
                job.ask("start")
                found = job.ask("view")
            finally:
                summary_of(job)
            rows.append([view, *(mib(found[name]) for name in ["free", "total", "nvml_free", "nvml_total"])])
            report.figures("view", of=view, **found)

        attempt(report, clock, f"view {view}", one)
    report.text(f"What the job sees of a full GPU beside its {RESERVE} and after its context, MiB:\n")
    report.table(["view", "cuMemGetInfo free", "total", "NVML free", "total"], rows)


def frameworks(lab, report, clock, gpu, others):
    """All jobs are imported side by side, each in its own reservation, and then grow one after the other."""
    others.leave()
    rows, seen, jobs = [], [], []
    try:
        for what, job, environment, options in JOBS:
            jobs.append((what, wrapped(lab, what, job, options, environment), lab.job(job, **environment)))
        ready, end = [], time.monotonic() + IMPORT
        for what, job, alone in jobs:
            def imported(job=job, alone=alone):
                left = max(1, end - time.monotonic())
                return job.told(left), alone.told(left)

            if attempt(report, clock, f"{what}: import", imported):
                ready.append((what, job, alone))
        before = {}
        for what, job, alone in ready:
            before[what] = attempt(report, clock, f"{what}: alone", lambda: by_itself(alone))
            alone.end()
        others.fill()
        for what, job, _ in ready:
            attempt(report, clock, what, lambda: framework(report, gpu, others, what, job, before[what], rows, seen), 20)
    finally:
        for what, job, alone in jobs:
            alone.end()
            report.figures("summary", of=what, summary=summary_of(job))
    header = [*HEADER[:4], "alone: median, us", *HEADER[4:]]
    report.table(header, rows)
    report.text("What each framework sees, and what its start cost:\n")
    report.table(["", "free, MiB", "total, MiB", "start, ms", "alone, ms", "driver refused, job saw"], seen)


def by_itself(job):
    started = job.ask("start")
    return {"start": started, **job.ask("grow " + " ".join(map(str, FRAMEWORK_GROWTH)))}


def framework(report, gpu, others, what, job, before, rows, seen):
    others.fill()
    free = gpu.free()
    with Sampler(gpu) as sampler:
        started = job.ask("start")
    view = {} if "error" in started else job.ask("view")
    report.figures("start", **{"of": what, "alone": before, "view": view, **started, **sampler.deviation(free, CHUNK)})
    if "error" in started:
        rows.append([what, "", started["error"], *[""] * 7])
        return
    for thief, pause in THIEVES:
        found = grow(gpu, job, others, FRAMEWORK_GROWTH, pause)
        alone = f"{before['median_us']:.0f}" if before and "median_us" in before else ""
        row = [what, thief, *cells(found)]
        rows.append([*row[:4], alone, *row[4:]])
        regained = settled(gpu, free)
        report.figures("framework", **{"of": what, "thief": thief, "regained": regained, **found})
        if not regained:
            # The next growth shall find the GPU as full as this one did.
            others.fill()
    retries = found.get("num_alloc_retries", ""), found.get("num_ooms", "")
    started_alone = (before or {}).get("start", {}).get("context_ms", "")
    figures = [mib(view[name]) if name in view else "" for name in ["free", "total"]]
    seen.append([what, *figures, started["context_ms"], started_alone, ", ".join(map(str, retries))])


def settled(gpu, free):
    """Whether the balloon has taken back what the job freed, a chunk more or less, within 3 s."""
    end = time.monotonic() + 3
    while gpu.free() > free + CHUNK:
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
