"""The tests of the main job, and what `doctor` and `status` look like beside nvidia-smi."""

import re

from lab.programs import Silent
from lab.report import attempt

TIMEOUT = 240


def run(lab, report, clock):
    report.heading("The main job")
    attempt(report, clock, "tests", lambda: tests(lab, report))
    attempt(report, clock, "doctor", lambda: shown(lab, report, lab.balloon, "doctor"))
    attempt(report, clock, "status beside nvidia-smi", lambda: beside(lab, report))


def tests(lab, report, *names):
    lab.environment["GPU_TESTS_PROGRAM"] = str(lab.balloon)
    code, said = lab.call(lab.tests, *names, "--ignored", "--test-threads=1", "--nocapture", timeout=TIMEOUT)
    result = re.findall(r"^test result: .*$", said, re.MULTILINE)
    failed = re.findall(r"^    (\w+::\w+)$", said, re.MULTILINE)
    skipped = re.findall(r"^.*skipped: .*$", said, re.MULTILINE)
    report.text("\n".join(f"- {line}" for line in [*result, *sorted(set(failed)), *sorted(set(skipped))]) + "\n")
    for panic in re.findall(r"panicked at [^\n]*\n[^\n]*(?:\n[^\n]*)?", said):
        report.text(f"```text\n{panic}\n```\n")
    report.figures("tests", code=code, result=result, failed=failed)


def beside(lab, report):
    with lab.hold("--reserve", "16GB", "--name", "train", "--reason", "to be looked at"):
        shown(lab, report, lab.balloon, "status")
        shown(lab, report, lab.balloon, "status", "--json")
        shown(lab, report, "nvidia-smi")
    with lab.hold("--reserve", "16GB", "--name", "quiet", "--contextless"):
        shown(lab, report, lab.balloon, "status")
        shown(lab, report, "nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv")


def shown(lab, report, *command):
    words = " ".join([getattr(command[0], "name", command[0]), *command[1:]])
    try:
        code, said = lab.call(*command)
    except OSError as error:
        raise Silent(f"{words}: {error}") from error
    report.text(f"`{words}` (exit {code}):\n\n```text\n{said.rstrip()}\n```\n")
