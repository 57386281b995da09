"""Jobs that grow inside their reservation on a GPU that is otherwise full, with and without a thief beside them."""

import time
from contextlib import ExitStack

from lab import MB
from lab.programs import Program, Silent
from lab.readings import Gpu, Sampler
from lab.report import mib
from lab.stress import CHUNK, HEADER, PIECE, RESERVE, THIEVES, Others, Rounds, alone, stress, summary_of, wrapped

VMM = ["--handover", "vmm"]

# What makes each framework allocate as it is named.
JOBS = [
    ("torch, native", "torch_job", {}, []),
    ("torch, native, --handover vmm", "torch_job", {}, VMM),
    ("torch, expandable segments", "torch_job", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, []),
    ("torch, cudaMallocAsync", "torch_job", {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, []),
    ("jax, growing", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, []),
    ("jax, preallocating, capped view", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, ["--view", "capped"]),
    ("jax, preallocating, shared view", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, []),
    ("jax, no pool", "jax_job", {"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}, []),
    ("jax, preallocating, --handover vmm", "jax_job", {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, VMM),
    ("cupy", "cupy_job", {}, []),
    ("cupy, --handover vmm", "cupy_job", {}, VMM),
    ("numba", "numba_job", {}, []),
]
# As `run` has it for the job: some frameworks take memory on every GPU they see.
ON_ONE_GPU = {"CUDA_VISIBLE_DEVICES": "0"}
FRAMEWORK_PIECES = 36  # 2.3 GB: a framework's context and libraries take the rest
PIECES = 48  # 3 GB

# Importing all frameworks at once, from a cold disk.
IMPORT = 150


# What is done with a C job: its options, the thief, how many rounds, and whether all else on the GPU is taken.
CASES = [
    ("the GPU otherwise empty", [], "none", 21, False),
    ("the GPU full", [], "none", 21, True),
    ("the GPU full", [], "every 1 ms", 21, True),
    ("the GPU full", [], "spinning", 21, True),
    ("--handover vmm, the GPU otherwise empty", VMM, "none", 5, False),
    ("--handover vmm, the GPU full", VMM, "none", 21, True),
    ("--handover vmm, the GPU full", VMM, "every 1 ms", 21, True),
    ("--handover vmm, the GPU full", VMM, "spinning", 21, True),
    ("--handover nvml, the GPU full", ["--handover", "nvml"], "none", 3, True),
    ("--handover nvml, the GPU otherwise empty", ["--handover", "nvml"], "none", 5, False),
    ("--handover off, the GPU full", ["--handover", "off"], "none", 1, True),
]


def run(lab):
    several(lab, [handovers, contexts, launches, latencies, views, frameworks])


def several(lab, pieces):
    gpu = Gpu()
    if lab.call(lab.balloon, "run", "--reserve", "64MB", "--", "true")[0]:
        raise Silent("`gpu-balloon run -- true` fails: see the log")
    lab.report.heading(f"Handover: {RESERVE} reserved, pieces of {PIECE // MB} MB, everything else on the GPU taken")
    with ExitStack() as stack:
        others = Others(lab, stack)
        for piece in pieces:
            lab.attempt(piece.__name__, piece, lab, gpu, others)


def c_job(lab, what, others, options, use, is_full=True):
    """Has `use` work with a C job under `run`; returns what it found and `run`'s summary."""
    others.leave()
    job = wrapped(lab, what, "grow", options)
    try:
        job.told()
        if is_full:
            others.fill()
        found = use(job)
    finally:
        summary = summary_of(job)
    return found, summary


def handovers(lab, gpu, others, cases=CASES):
    rows = []

    def one(what, options, thief, rounds, is_full):
        def use(job):
            started = job.ask("start")
            if "error" in started:
                return Rounds(error=started["error"])
            time.sleep(0.3)  # NVML's word on the context may come a little later
            return stress(lab, gpu, job, others, rounds, PIECES, THIEVES[thief])

        done, summary = c_job(lab, what, others, options, use, is_full)
        rows.append([what, thief, *done.cells(THIEVES[thief] is not None)])
        lab.report.figures("handover", what=what, thief=thief, summary=summary, **done.figures())

    for what, options, thief, rounds, is_full in cases:
        lab.attempt(f"{what}, thief: {thief}", one, what, options, thief, rounds, is_full, least=25)
    lab.report.table(["C job", "thief", *HEADER], rows)


def contexts(lab, gpu, others):
    """The job's context is a handover too, the largest, and the driver asks for it piece by piece."""
    rows = []

    def one(thief):
        def use(job):
            others.thieve(THIEVES[thief])
            with Sampler(gpu) as sampler:
                started = job.ask("start")
            stolen = others.stolen(THIEVES[thief])
            others.rest()
            return started, stolen, sampler

        (started, stolen, sampler), summary = c_job(lab, f"context {thief}", others, [], use)
        came = f"{started['context_ms']:.0f}" if "context_ms" in started else started["error"]
        rows.append([thief, came, mib(stolen), mib(max(free for _, free in sampler.samples))])
        lab.report.figures("context", thief=thief, stolen_bytes=stolen, summary=summary, **started)

    for thief in THIEVES:
        lab.attempt(f"context, thief: {thief}", one, thief)
    lab.report.text("The context of a job on a full GPU, five hundred MB from its reservation:\n")
    lab.report.table(["thief", "made in, ms", "stolen, MiB", "free meanwhile, at most, MiB"], rows)


def launches(lab, gpu, others):
    """A kernel's launch takes memory too, for stacks as deep as the kernel needs, and a graph's when it is instantiated."""
    rows = []

    def one(local, is_graph, options):
        def use(job):
            job.ask("start")
            return job.ask(f"launch {local} {int(is_graph)}")

        found, summary = c_job(lab, f"launch {local} {is_graph}", others, options, use)
        how = " ".join(["in a graph" if is_graph else "alone", *options])
        came = f"{found['launch_ms']:.0f}" if found["result"] == 0 else f"error {found['result']}"
        # Simulated kernels do not run.
        is_right = found["counted"] == found["threads"] or lab.is_simulated
        ran = "once" if is_right else f"{found['counted']} of {found['threads']} threads"
        rows.append([f"{local} bytes, {how}", came, ran])
        lab.report.figures("launch", local=local, is_graph=is_graph, options=options, summary=summary, **found)

    for options in [[], VMM]:
        for local in [1536, 4096, 8192]:
            for is_graph in [False, True]:
                what = f"launch, {local} bytes of local memory, graph: {is_graph}"
                lab.attempt(" ".join([what, *options]), one, local, is_graph, options)
    lab.report.text("A kernel's launch on a full GPU, by the local memory that each thread needs:\n")
    lab.report.table(["local memory", "launched in, ms", "ran"], rows)


def latencies(lab, gpu, others):
    """What `run` adds to an allocation while memory is plentiful."""
    others.leave()
    growths = [("1 KB", 1024, 20000), ("2 MB", 2 * MB, 1000), ("64 MB", PIECE, 40)]

    def of(job, end):
        try:
            job.told()
            job.ask("start")
            time.sleep(0.3)
            found = []
            for _, piece, count in growths:
                took = sorted(job.ask(f"grow {piece} {count} 10")["took_us"])
                found.append((took[len(took) // 2], took[len(took) * 99 // 100], job.ask("shrink")["free_us"]))
            return found
        finally:
            end(job)

    turns = [(of(lab.job("grow"), Program.end), of(wrapped(lab, "latency", "grow"), summary_of)) for _ in range(3)]
    lab.report.figures("latency", turns=turns)
    rows = []
    for number, (what, _, _) in enumerate(growths):
        best = [[min(turn[which][number][figure] for turn in turns) for which in [0, 1]] for figure in range(3)]
        rows.append([what, *(f"{without:.2f} / {under:.2f}" for without, under in best)])
    lab.report.text(
        "An allocation of the C job where memory is plentiful, without / under `run`, the best of three, us:\n"
    )
    lab.report.table(["piece", "median", "p99", "free"], rows)


def views(lab, gpu, others):
    rows = []

    def one(view):
        def use(job):
            job.ask("start")
            return job.ask("view")

        found, _ = c_job(lab, f"view {view}", others, ["--view", view], use)
        rows.append([view, *(mib(found[name]) for name in ["free", "total", "nvml_free", "nvml_total"])])
        lab.report.figures("view", view=view, **found)

    for view in ["shared", "capped", "raw"]:
        lab.attempt(f"view {view}", one, view)
    lab.report.text(f"What the job sees of a full GPU beside its {RESERVE} and after its context, MiB:\n")
    lab.report.table(["view", "cuMemGetInfo free", "total", "NVML free", "total"], rows)


def frameworks(lab, gpu, others, wanted=JOBS):
    """All jobs are imported side by side, each in its own reservation, and then grow one after the other."""
    others.leave()
    rows, seen, jobs = [], [], []
    try:
        for what, name, environment, options in wanted:
            jobs.append(
                (what, wrapped(lab, what, name, options, environment), lab.job(name, **environment, **ON_ONE_GPU))
            )
        ready = [entry for entry in jobs if lab.attempt(f"{entry[0]}: import", imported, *entry[1:])]
        before = {}
        for what, _, without in ready:
            before[what] = lab.attempt(f"{what}: alone", alone, without, FRAMEWORK_PIECES)
            without.end()
        others.fill()
        for what, job, _ in ready:
            lab.attempt(what, framework, lab, gpu, others, what, job, before[what], rows, seen, least=20)
    finally:
        for what, job, without in jobs:
            without.end()
            lab.report.figures("summary", what=what, summary=summary_of(job))
    lab.report.table(["", "thief", *HEADER[:2], "median alone, us", *HEADER[2:]], rows)
    lab.report.text("What each framework sees, and what its start cost:\n")
    columns = ["free, MiB", "total, MiB", "start, ms", "start alone, ms", "off at the start, MiB", "its own figures"]
    lab.report.table(["", *columns], seen)


def imported(job, without):
    end = time.monotonic() + IMPORT
    return job.told(IMPORT) and without.told(max(1, end - time.monotonic()))


def framework(lab, gpu, others, what, job, before, rows, seen):
    others.fill()
    free = gpu.free()
    with Sampler(gpu) as sampler:
        started = job.ask("start")
    view = {} if "error" in started else job.ask("view")
    off = sampler.deviation(free, CHUNK)
    lab.report.figures("start", what=what, alone=before, view=view, started=started, **off)
    if "error" in started:
        rows.append([what, "", started["error"][:100], *[""] * 10])
        return
    started_alone, median_alone = before or ({}, None)
    for thief, pause in THIEVES.items():
        done = stress(lab, gpu, job, others, 5 if pause is None else 3, FRAMEWORK_PIECES, pause)
        cells = done.cells(pause is not None)
        rows.append([what, thief, *cells[:2], f"{median_alone:,.0f}" if median_alone else "", *cells[2:]])
        lab.report.figures("framework", what=what, thief=thief, **done.figures())
        if done.not_regained:
            # The next growth shall find the GPU as full as this one did.
            others.fill()
    own = {
        name: figure for name, figure in job.ask("view").items() if name not in view or name not in ("free", "total")
    }
    sees = [mib(view[name]) if name in view else "" for name in ["free", "total"]]
    strayed = f"-{mib(off['under_bytes'])} / +{mib(off['over_bytes'])}"
    seen.append([what, *sees, started["context_ms"], started_alone.get("context_ms", ""), strayed, own])
