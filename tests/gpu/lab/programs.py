"""Programs that are started, spoken to line by line with a deadline, and ended with all they started."""

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.report import Report

DEADLINE = 60

JOBS = Path(__file__).resolve().parents[1] / "jobs"

RUNNING = set()


class Silent(Exception):
    """A program did not say, or not do, what it should have by now."""


class Lab:
    """Where the programs lie, where what they say goes, and how much time is left."""

    def __init__(self, programs, out, runtime, minutes, sizes=()):
        self.end = time.monotonic() + minutes * 60
        # In GB, of what `held` holds; none are all that it knows.
        self.sizes = sizes
        self.report = Report(out)
        self.balloon = programs / "gpu-balloon"
        self.bare = programs / "bare"
        self.neighbour = programs / "neighbour"
        self.grow = programs / "grow"
        self.tests = programs / "gpu-tests"
        self.out = out
        self.log = (out / "log.txt").open("ab", buffering=0)
        # One order of the GPUs for CUDA, NVML and nvidia-smi.
        self.environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "XDG_RUNTIME_DIR": str(runtime)}
        # On the simulated driver, where no figure means anything.
        self.is_simulated = "GPU_SIM_DIR" in os.environ

    def attempt(self, what, action, *arguments, least=15):
        """One piece that must not stop the others: whatever it fails with is reported."""
        left = self.end - time.monotonic()
        if left < least:
            self.report.text(f"- **{what}: left out:** the time is up")
            return None
        print(f"[{left:.0f} s left] {what}", file=sys.stderr, flush=True)
        try:
            return action(*arguments)
        except Exception as error:  # whatever it is
            self.report.failed(what, error)
            return None

    def start(self, *command, **environment):
        return Program(command, {**self.environment, **environment}, self.log)

    def hold(self, *options):
        """A holder, once it says that it holds."""
        holder = self.start(self.balloon, "hold", "--gpu", "0", *options)
        ready = holder.line()
        if not ready.startswith("ready"):
            holder.end()
            raise Silent(f"hold {' '.join(options)}: {ready or 'ended'}")
        return holder

    def job(self, name, *wrapper, **environment):
        """A job that waits for commands; `wrapper` is what runs it."""
        program = [self.grow] if name == "grow" else [sys.executable, JOBS / f"{name}.py"]
        return self.start(*wrapper, *program, PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", **environment)

    def call(self, *command, timeout=DEADLINE):
        """Runs a command to its end: its exit code and what it said on both streams."""
        self.note(f"$ {' '.join(map(str, command))}")
        done = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        text = done.stdout.decode(errors="replace")
        self.note(text)
        return done.returncode, text

    def note(self, text):
        self.log.write(f"{text}\n".encode())


class Program:
    """A program in a process group of its own, killed as a whole at the end."""

    def __init__(self, command, environment, log):
        log.write(f"$ {' '.join(map(str, command))}\n".encode())
        self.name = Path(command[0]).name
        self.is_holder = self.name == "gpu-balloon" and command[1] == "hold"
        self.log = log
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,
        )
        self.buffer = b""
        self.readable = selectors.DefaultSelector()
        self.readable.register(self.process.stdout, selectors.EVENT_READ)
        RUNNING.add(self)

    @property
    def pid(self):
        return self.process.pid

    def line(self, timeout=DEADLINE):
        """The next line of standard output, empty at its end."""
        end = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            if not self.readable.select(max(0, end - time.monotonic())):
                raise Silent(f"{self.name} said nothing for {timeout} s")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                return ""
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        text = line.decode(errors="replace")
        self.log.write(f"{self.name}[{self.pid}]: {text[:1000]}\n".encode())
        return text

    def told(self, timeout=DEADLINE):
        """The next line of JSON; frameworks say other things too."""
        while line := self.line(timeout):
            if line.startswith("{"):
                return json.loads(line)
        raise Silent(f"{self.name} ended with {self.wait()}")

    def say(self, text):
        try:
            self.process.stdin.write(f"{text}\n".encode())
            self.process.stdin.flush()
        except OSError as error:
            raise Silent(f"{self.name} listens no more: {error}") from error

    def ask(self, text, timeout=DEADLINE):
        self.say(text)
        return self.told(timeout)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=DEADLINE):
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise Silent(f"{self.name} does not end") from error

    def end(self, timeout=10):
        """Asks it to end, then makes it. Whoever it has left behind ends with it."""
        RUNNING.discard(self)
        try:
            self.process.stdin.close()
        except OSError:
            pass
        if self.is_holder and self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.log.write(f"{self.name}[{self.pid}] had to be killed\n".encode())
        self.kill()
        self.process.wait()
        self.process.stdout.close()

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


@atexit.register
def leave_nothing_running():
    for program in RUNNING:
        program.kill()
