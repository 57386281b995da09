"""What the benchmark stands on: the programs, sandboxes of the simulated driver, clocks, and the table."""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MB = 1 << 20
GB = 1 << 30


@dataclass
class Programs:
    balloon: Path
    simulator: Path
    bare: Path


def build(root, directory):
    """The release build of gpu-balloon and of the simulated driver, and the bare program."""
    subprocess.run(["cargo", "build", "--quiet", "--release", "--workspace"], cwd=root, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release"
    bare = directory / "bare"
    source = Path(__file__).with_name("bare.c")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-Wall", "-o", bare, source, "-ldl", "-lpthread"], check=True)
    return Programs(balloon=target / "gpu-balloon", simulator=target / "gpu-sim", bare=bare)


class Sandbox:
    """GPUs of its own, and a private runtime directory."""

    def __init__(self, programs, gpus, memory, alloc="0us", free="0us", context="500MB"):
        self.programs = programs
        costs = f"alloc={alloc},free={free}"
        self.options = ["--gpus", str(gpus), "--memory", memory, "--context", context, "--call-cost", costs]

    def __enter__(self):
        # In memory, as `XDG_RUNTIME_DIR` is.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = tempfile.mkdtemp(prefix="gpu-balloon-bench-", dir=memory)
        # A shell under the simulated driver tells its environment and then waits, which keeps the sandbox.
        self.keeper = subprocess.Popen(
            [self.programs.simulator, *self.options, "--", "sh", "-c", "env -0; printf '\\0'; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        told = b""
        while not told.endswith(b"\0\0"):
            told += self.keeper.stdout.read1()
        variables = (entry.split("=", 1) for entry in told.decode().split("\0") if "=" in entry)
        self.environment = {**dict(variables), "XDG_RUNTIME_DIR": self.directory}
        return self

    def __exit__(self, *_):
        self.keeper.stdin.close()
        self.keeper.wait()
        shutil.rmtree(self.directory)

    def start(self, *arguments, program=None):
        command = [program or self.programs.balloon, *arguments]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=self.environment, **streams)

    def call(self, *arguments):
        command = [self.programs.balloon, *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout

    def show(self):
        """The machine's own account of who uses it."""
        command = [self.programs.simulator, "show"]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def used(self):
        """Memory in use on GPU 0, in MB."""
        return int(re.search(r"^GPU 0:.* (\d+) of \d+ MB used", self.show()).group(1))

    def used_by(self, pid):
        """What one process has on GPU 0, in MB."""
        found = re.search(rf"pid {pid}: (\d+) MB", self.show())
        return int(found.group(1)) if found else 0

    def status_until_held(self, name):
        """Asks for the status of `name` while it inflates; how long each answer took."""
        took = []
        while True:
            start = time.perf_counter()
            asked = subprocess.run(
                [self.programs.balloon, "status", name, "--json"], env=self.environment, capture_output=True
            )
            if asked.returncode != 0:
                continue  # not registered yet
            took.append(time.perf_counter() - start)
            time.sleep(0.05)  # a holder that is asked without a pause is not what is measured
            if b'"state":"inflating"' not in asked.stdout:
                return took[:-1]


class Program:
    """A process that says `ready` once it holds its memory."""

    def __init__(self, sandbox, *arguments, program=None):
        start = time.perf_counter()
        self.process = sandbox.start(*arguments, program=program)
        ready = self.process.stdout.readline()
        self.took = time.perf_counter() - start
        if not ready.startswith(b"ready"):
            raise subprocess.CalledProcessError(self.process.wait(), [program, *arguments])

    @property
    def pid(self):
        return self.process.pid

    def start_to_ready(self):
        self.end()
        return self.took

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Balloon(Program):
    def __init__(self, sandbox, gpus, size, chunk, name=None):
        named = ["--name", name] if name else []
        super().__init__(sandbox, "hold", "--gpu", gpus, "--reserve", size, "--chunk-size", chunk, *named)


class Bare(Program):
    def __init__(self, sandbox, gpus, size, chunk):
        super().__init__(sandbox, str(gpus), str(size), str(chunk), program=sandbox.programs.bare)

    def change(self, text):
        """How long the driver's calls took for a change, in seconds."""
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / 1e9


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def median(values):
    return statistics.median(values)


def interleaved(runs, one, other):
    """The medians of two measurements that take turns."""
    pairs = [(one(), other()) for _ in range(runs)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def resident(pid):
    """VmRSS in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def idle_cost(pid, seconds):
    """Voluntary context switches of all threads, and CPU time in milliseconds, over some seconds."""
    time.sleep(0.5)  # after the ready line, the threads go to sleep once
    switches, ticks = usage(pid)
    time.sleep(seconds)
    later_switches, later_ticks = usage(pid)
    return later_switches - switches, (later_ticks - ticks) * 1000 / os.sysconf("SC_CLK_TCK")


def usage(pid):
    switches = ticks = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        switches += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        fields = (task / "stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return switches, ticks


class Table:
    """Rows of what was measured, and whether each stays within its bound."""

    def __init__(self):
        self.rows = []
        self.holds = True

    def ratio(self, what, bare, ours, bound):
        self.row(what, f"{bare:.3f} s", f"{ours:.3f} s", f"{ours / bare:.2f} x", f"{bound:.2f} x", ours / bare <= bound)

    def excess(self, what, unit, bare, ours, bound):
        over = ours - bare
        self.row(what, f"{bare:.1f} {unit}", f"{ours:.1f} {unit}", f"{over:+.1f} {unit}", f"+{bound} {unit}", over <= bound)

    def at_most(self, what, unit, ours, bound):
        figure = f"{ours:.1f}" if isinstance(ours, float) else str(ours)
        self.row(what, "", f"{figure} {unit}".strip(), "", f"{bound} {unit}".strip(), ours <= bound)

    def told(self, what, figure):
        """A figure without a bound."""
        self.rows.append([what, "", figure, "", "none", ""])

    def row(self, *cells_and_verdict):
        *cells, holds = cells_and_verdict
        self.holds &= holds
        self.rows.append([*cells, "PASS" if holds else "FAIL"])

    def __str__(self):
        lines = [["", "bare C", "gpu-balloon", "difference", "bound", ""], ["---"] + ["--:"] * 4 + ["---"], *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
