"""Builds what runs on the machine with the GPU: gpu-balloon, its tests, and the C programs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "c"


def run(root, programs):
    programs.mkdir(parents=True, exist_ok=True)
    for name in ["bare", "neighbour", "grow"]:
        compiler = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-function"]
        subprocess.run([*compiler, "-o", programs / name, SOURCES / f"{name}.c", "-ldl"], check=True)
    place(programs / "gpu-balloon", executable(root, "gpu-balloon", "build", "--release", "--bin", "gpu-balloon"))
    place(programs / "gpu-tests", executable(root, "gpu", "test", "--no-run", "--test", "gpu"))


def executable(root, target, *command):
    command = ["cargo", *command, "--package", "gpu-balloon", "--message-format", "json-render-diagnostics"]
    said = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout
    built = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    return next(one["executable"] for one in built if one.get("executable") and one["target"]["name"] == target)


def place(at, built):
    """Without its symbols, which are most of it."""
    shutil.copy2(built, at)
    subprocess.run(["strip", at], check=True)
