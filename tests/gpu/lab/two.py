"""Two ranks on two GPUs under one `run`, and the tests that need two GPUs."""

import sys
from contextlib import ExitStack

from lab import GB
from lab.handover import VMM
from lab.main import tests
from lab.programs import JOBS, Silent
from lab.readings import Gpu, Sampler, count
from lab.report import mib
from lab.stress import CHUNK

RESERVE = 8 * GB
GATE = 'echo "{\\"ready\\":true}"; read go; exec "$@"'


def run(lab):
    if count() < 2:
        lab.report.text("- two: left out: this machine has one GPU")
        return
    lab.report.heading("Two GPUs")
    lab.attempt("tests", tests, lab, "several::")
    rows = []
    for what, is_full, options in [
        ("both GPUs otherwise empty", False, []),
        ("both GPUs otherwise full", True, []),
        ("both GPUs otherwise full, --handover vmm", True, VMM),
    ]:
        lab.attempt(what, ranks, lab, what, is_full, options, rows, least=60)
    columns = [
        "GPU",
        "out of memory",
        "allocations",
        "median, us",
        "all-reduce of 256 MB, ms",
        "job + balloon off by, MiB",
    ]
    lab.report.table(["two ranks with NCCL", *columns], rows)


def ranks(lab, what, is_full, options, rows):
    gpus = [Gpu(0), Gpu(1)]
    with ExitStack() as stack:
        fillers = [stack.enter_context(lab.start(lab.neighbour, CUDA_VISIBLE_DEVICES=str(gpu))) for gpu in [0, 1]]
        for filler in fillers:
            filler.told()
        meeting = ["--nnodes=1", "--nproc-per-node=2", "--master-addr=127.0.0.1", "--master-port=29511"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *meeting, JOBS / "nccl_job.py"]
        options = ["--gpu", "0,1", "--reserve", f"{RESERVE // GB}GB", "--summary", "--json", *options]
        job = stack.enter_context(lab.start(lab.balloon, "run", *options, "--", "sh", "-c", GATE, "sh", *torchrun))
        job.told()
        if is_full:
            for filler in fillers:
                filler.ask("fill")
        free = [gpu.free() for gpu in gpus]
        with Sampler(gpus[0]) as one, Sampler(gpus[1]) as other:
            job.say("go")
            found = sorted((job.told(timeout=120) for _ in range(2)), key=lambda rank: rank["rank"])
        code = job.wait()
    for rank, sampler, before in zip(found, [one, other], free):
        strayed = sampler.deviation(before, CHUNK)
        lab.report.figures("nccl", what=what, code=code, **rank, **strayed)
        reduced = f"{rank['all_reduce_ms']:.2f}" if rank["is_right"] else "WRONG"
        off = f"-{mib(strayed['under_bytes'])} / +{mib(strayed['over_bytes'])}"
        grown = [rank[name] for name in ["rank", "out_of_memory", "allocations", "median_us"]]
        rows.append([what, *grown, reduced, off])
    if code:
        raise Silent(f"the job ended with {code}")
