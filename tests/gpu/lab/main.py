"""The tests of the main job, and what `doctor` and `status` look like beside nvidia-smi."""

import re
import sys

from lab.programs import Silent

TIMEOUT = 240


def run(lab):
    lab.report.heading("The main job")
    # The first import reads gigabytes from a cold disk, for which no test should wait.
    lab.attempt("PyTorch", lambda: lab.call(sys.executable, "-c", "import torch", timeout=150))
    lab.attempt("tests", tests, lab)
    lab.attempt("doctor", shown, lab, lab.balloon, "doctor")
    lab.attempt("status beside nvidia-smi", beside, lab)


def tests(lab, *names):
    lab.environment["GPU_TESTS_PROGRAM"] = str(lab.balloon)
    code, said = lab.call(lab.tests, *names, "--ignored", "--test-threads=1", "--nocapture", timeout=TIMEOUT)
    result = re.findall(r"^test result: .*$", said, re.MULTILINE)
    failed = re.findall(r"^    (\w+::\w+)$", said, re.MULTILINE)
    skipped = re.findall(r"^.*skipped: .*$", said, re.MULTILINE)
    lab.report.text("\n".join(f"- {line}" for line in [*result, *sorted(set(failed)), *sorted(set(skipped))]) + "\n")
    for panic in re.findall(r"panicked at [^\n]*\n[^\n]*(?:\n[^\n]*)?", said):
        lab.report.text(f"```text\n{panic}\n```\n")
    lab.report.figures("tests", code=code, result=result, failed=failed)


def beside(lab):
    with lab.hold("--reserve", "16GB", "--name", "train", "--reason", "to be looked at"):
        shown(lab, lab.balloon, "status")
        shown(lab, lab.balloon, "status", "--json")
        shown(lab, "nvidia-smi")
    with lab.hold("--reserve", "16GB", "--name", "quiet", "--contextless"):
        shown(lab, lab.balloon, "status")
        shown(lab, "nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv")


def shown(lab, *command):
    words = " ".join([getattr(command[0], "name", command[0]), *command[1:]])
    try:
        code, said = lab.call(*command)
    except OSError as error:
        raise Silent(f"{words}: {error}") from error
    lab.report.text(f"`{words}` (exit {code}):\n\n```text\n{said.rstrip()}\n```\n")
