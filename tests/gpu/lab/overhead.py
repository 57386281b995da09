"""Memory that stands beside what is held: of the device, and of the machine."""

from lab import GB, MB
from lab.programs import Silent
from lab.readings import Gpu, resident
from lab.report import mib

CONTEXTS = [
    ("a context", "plain", {}),
    ("a context, CUDA_MODULE_LOADING=EAGER", "plain", {"CUDA_MODULE_LOADING": "EAGER"}),
    ("a context, CUDA_MODULE_LOADING=LAZY", "plain", {"CUDA_MODULE_LOADING": "LAZY"}),
    ("a context, CUDA_DEVICE_MAX_CONNECTIONS=1", "plain", {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}),
    ("a context, stack, printf and heap limits 0", "limits", {}),
    ("cuMemCreate without a context", "create", {}),
]


def run(lab):
    gpu = Gpu()
    contexts(lab, gpu)
    holders(lab, gpu)


def contexts(lab, gpu):
    rows = []

    def one(what, kind, environment):
        free, used = gpu.free(), gpu.used()
        with lab.start(lab.bare, "overhead", kind, **environment) as program:
            found = program.told()
        gpu.when_free(free)
        rows.append([what, mib(found["used_bytes"] - used), f"{found['context_ms']:.0f}"])
        lab.report.figures("overhead", what=what, used_before=used, **found)

    for what, kind, environment in CONTEXTS:
        lab.attempt(what, one, what, kind, environment)
    lab.report.heading("What a context costs, and what makes it cheaper")
    lab.report.table(["bare C", "device memory, MiB", "made in, ms"], rows)


def holders(lab, gpu):
    rows = []

    def one(what, *command):
        before = gpu.free()
        with lab.start(*command) as holder:
            if not holder.line().startswith("ready"):
                raise Silent("it does not hold")
            beside = before - gpu.free() - 2 * GB
            rows.append([what, mib(beside), mib(resident(holder.pid))])
            lab.report.figures("beside", what=what, bytes=beside, resident_bytes=resident(holder.pid))
        gpu.when_free(before)

    hold = [lab.balloon, "hold", "--gpu", "0", "--reserve", "2GB"]
    for what, *command in [
        ["bare C, cuMemAlloc", lab.bare, "hold", "alloc", 2 * GB, 100 * MB],
        ["gpu-balloon hold", *hold],
        ["bare C, cuMemCreate", lab.bare, "hold", "create", 2 * GB, 100 * MB],
        ["gpu-balloon hold --contextless", *hold, "--contextless"],
    ]:
        lab.attempt(what, one, what, *command)
    lab.report.heading("What 2 GB cost besides")
    lab.report.table(["held by", "device memory, MiB", "resident memory, MiB"], rows)
