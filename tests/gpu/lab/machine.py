"""On what the figures were taken."""

import datetime

import pynvml

from lab.readings import Gpu, count


def described(lab):
    gpus = [Gpu(index) for index in range(count())]
    driver = pynvml.nvmlSystemGetDriverVersion()
    cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    _, version = lab.call(lab.balloon, "--version")
    names = ", ".join(f"{gpu.name()} ({gpu.total() >> 20} MiB)" for gpu in gpus)
    simulated = " **Simulated: the figures mean nothing.**" if lab.is_simulated else ""
    versions = f"driver {driver}, CUDA {cuda // 1000}.{cuda % 1000 // 10} · {version.strip()}"
    return f"# {datetime.date.today().isoformat()} · {names} · {versions}{simulated}\n"
