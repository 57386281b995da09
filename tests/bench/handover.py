"""What `run` costs, and what a thief gets while memory passes from the balloon to the job."""

import subprocess
import time

from harness import GB, MB, Bare, Sandbox, interleaved, median, timed


class Job:
    """A client of the driver that does what it is told, alone or under `run`."""

    def __init__(self, sandbox, *run):
        self.sandbox = sandbox
        wrapper = [sandbox.programs.balloon, "run", *run, "--"] if run else []
        self.process = subprocess.Popen(
            [*wrapper, sandbox.programs.simulator, "client"],
            env=sandbox.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self.must("pid").split()[0])
        self.must("ctx 0")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def must(self, line):
        answer = self.ask(line)
        if not answer.startswith("ok"):
            raise RuntimeError(f"the job's `{line}`: {answer}")
        return answer.removeprefix("ok").strip()

    def time(self, line):
        """Nanoseconds a call, as the job has measured them."""
        return int(self.must(line).removeprefix("ns "))

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Thief:
    """Takes all that is free, and whatever becomes free."""

    def __init__(self, sandbox, every):
        self.sandbox = sandbox
        self.process = sandbox.start("thief", "--every", every, program=sandbox.programs.simulator)
        self.process.stdout.readline()
        self.before = self.settled()

    def settled(self):
        """What it has in MB, once that no longer changes."""
        held = None
        while held != (held := self.sandbox.used_by(self.process.pid)):
            time.sleep(0.1)
        return held

    def stolen(self):
        stolen = self.settled() - self.before
        self.process.stdin.close()
        self.process.wait()
        return stolen


def wrapper(table, programs):
    """A command that does nothing, beyond the driver's calls for its reservation."""
    with Sandbox(programs, gpus=1, memory="24GB", alloc="150us", free="150us") as sandbox:
        run = ("run", "--reserve", "4GB", "--chunk-size", "128MB", "--", "true")
        bare, ours = [], []
        for _ in range(9):
            with Bare(sandbox, gpus=1, size=4 * GB, chunk=128 * MB) as program:
                bare.append(program.took + program.change("0"))
            ours.append(timed(lambda: sandbox.call(*run)))
    table.excess("run of `true` in 4 GB, beyond holding them", "ms", min(bare) * 1e3, min(ours) * 1e3, 5)


def small_allocations(table, programs):
    """What the preloaded library adds to a job's own calls, when there is memory."""

    def beside(sandbox, runs, line):
        def measure(*run):
            job = Job(sandbox, *run)
            took = job.time(line)
            job.end()
            return took

        return interleaved(runs, measure, lambda: measure("--reserve", "4GB"))

    with Sandbox(programs, gpus=1, memory="24GB") as sandbox:
        alone, under = beside(sandbox, 5, "churn 1000000 4KB")
    table.excess("an allocation and its free, of 1,000,000, calls cost nothing", "ns", alone, under, 1000)
    with Sandbox(programs, gpus=1, memory="24GB", alloc="10us", free="10us") as sandbox:
        alone, under = beside(sandbox, 3, "churn 100000 4KB")
    table.ratio("100,000 allocations and frees, 10us a call", alone * 1e-4, under * 1e-4, 1.02)


def full_gpu(table, programs):
    """The job grows into its reservation while others have everything else."""
    with Sandbox(programs, gpus=1, memory="24GB", context="100MB") as sandbox:
        job = Job(sandbox, "--reserve", "21GB", "--chunk-size", "2MB")
        hog = Thief(sandbox, every="1s")
        refused = sum(job.ask("alloc 2MB").startswith("error") for _ in range(10_000))
        hog.stolen()
        job.end()
    table.at_most("out of memory with bytes in the balloon, in 10,000 handovers on a full GPU", "", refused, 0)

    for thief, every, bound, options in [
        ("a thief that tries every 1ms", "1ms", 100, []),
        ("a thief that spins", "spin", None, []),
        ("a thief that spins, --handover vmm", "spin", 0, ["--handover", "vmm"]),
    ]:
        stolen = []
        for _ in range(5):
            with Sandbox(programs, gpus=1, memory="24GB", context="100MB") as sandbox:
                job = Job(sandbox, "--reserve", "10GB", *options)
                other = Thief(sandbox, every)
                got = sum(job.ask("alloc 64MB").startswith("ok") for _ in range(128))
                stolen.append(other.stolen() / max(got * 64 / 1024, 1))
                job.end()
        what = f"stolen for each GB handed over, full GPU, {thief}"
        if bound is None:
            table.told(what, f"{median(stolen):.0f} MB")
        else:
            table.at_most(what, "MB", median(stolen), bound)


def convergence(table, programs):
    """How far job and balloon are from the reservation a tenth of a second after the job has grown or shrunk."""
    with Sandbox(programs, gpus=1, memory="24GB", context="0MB") as sandbox:
        job = Job(sandbox, "--reserve", "10GB")
        off = []
        for number in range(10):
            job.must(f"alloc {150 + 37 * number}MB")
            time.sleep(0.1)
            off.append(abs(sandbox.used() - 10 * 1024))
        for number in range(10):
            job.must(f"free {number}")
            time.sleep(0.1)
            off.append(abs(sandbox.used() - 10 * 1024))
        job.end()
    table.at_most("job + balloon off the reservation after 0.1 s, at most", "MB", max(off), 100)


PARTS = [wrapper, small_allocations, full_gpu, convergence]
