"""One job that grows and shrinks inside its reservation, round after round, with a thief or without."""

import json
import statistics
import time
from dataclasses import dataclass, field

from lab import MB
from lab.readings import Sampler

RESERVE = "4GB"
CHUNK = 100 * MB  # `run`'s own choice
PIECE = 64 * MB

THIEVES = {"none": None, "every 1 ms": 1, "spinning": 0}


class Others:
    """Who else is on the GPU: one who keeps it full, and one who wants more."""

    def __init__(self, lab, stack):
        self.filler = stack.enter_context(lab.start(lab.neighbour))
        self.thief = stack.enter_context(lab.start(lab.neighbour))
        self.filler.told()
        self.thief.told()

    def leave(self):
        self.rest()
        self.filler.ask("free")

    def fill(self):
        self.filler.ask("fill")

    def rest(self):
        """The thief gives back what it has, and steals no more."""
        self.thief.ask("free")

    def thieve(self, pause):
        """From now on, after taking the crumbs that lie about already."""
        if pause is not None:
            self.thief.ask(f"thieve {pause}")
            time.sleep(0.1)
            self.crumbs = self.thief.ask("count")["taken"]

    def stolen(self, pause):
        return 0 if pause is None else self.thief.ask("count")["taken"] - self.crumbs


def wrapped(lab, what, job, options=(), environment=None):
    """A job under `run`: its memory is held once it says that its imports are done."""
    summary = lab.out / f"summary-{''.join(filter(str.isalnum, what))}.json"
    options = ["--gpu", "0", "--reserve", RESERVE, "--json", f"--summary={summary}", *options]
    program = lab.job(job, lab.balloon, "run", *options, "--", **(environment or {}))
    program.summary = summary
    return program


def summary_of(program):
    """What `run` tells at the end. The files would be too many to carry home."""
    program.end()
    try:
        text = program.summary.read_text()
        program.summary.unlink()
        return json.loads(text)
    except (OSError, ValueError) as error:
        return {"error": str(error)}


@dataclass
class Rounds:
    """What came of some rounds."""

    took: list = field(default_factory=list)
    freeing: list = field(default_factory=list)
    out_of_memory: int = 0
    first_refusal: str | None = None
    # What the balloon still had when the job was refused memory.
    refused_beside: int = 0
    stolen_growing: int = 0
    stolen_freed: int = 0
    off: list = field(default_factory=list)
    regained_after: list = field(default_factory=list)
    not_regained: int = 0
    error: str | None = None

    def microseconds(self, share):
        took = sorted(self.took)
        return took[int((len(took) - 1) * share)] if took else 0

    def cells(self, has_thief):
        growing, freed = (
            f"{amount / MB:,.0f}" if has_thief else "" for amount in [self.stolen_growing, self.stolen_freed]
        )
        if self.error:
            return [self.error[:100], len(self.took), "", "", "", growing, freed, "", "", ""]
        refused = f"{self.out_of_memory}, beside {self.refused_beside / MB:,.0f} MiB" if self.out_of_memory else "0"
        strayed = longest = ""
        if not has_thief:  # whose memory counts as used, so that nothing can be told from the sum
            under, over = (max(one[name] for one in self.off) for name in ["under_bytes", "over_bytes"])
            strayed = f"-{under / MB:,.0f} / +{over / MB:,.0f}"
            longest = f"{max(one['longest_outside_ms'] for one in self.off):,.0f}"
        regained = f"{max(self.regained_after, default=0) * 1e3:,.0f}"
        return [
            refused,
            len(self.took) + self.out_of_memory,
            f"{self.microseconds(0.5):,.0f}",
            f"{self.microseconds(0.99):,.0f}",
            f"{self.microseconds(1) / 1e3:,.1f}",
            growing,
            freed,
            strayed,
            longest,
            f"{self.not_regained} not" if self.not_regained else regained,
        ]

    def figures(self):
        return {**vars(self), "took": [round(one, 1) for one in sorted(self.took)]}


HEADER = [
    "out of memory",
    "allocations",
    "median, us",
    "p99, us",
    "at most, ms",
    "stolen while it grew, MiB",
    "of what it freed, MiB",
    "job + balloon off by, MiB",
    "longest beyond a chunk, ms",
    "what it freed is back after, ms",
]


def stress(lab, gpu, job, others, rounds, pieces, pause=None, seconds=5):
    """Each round begins with the whole reservation, and on a GPU that is full if it was so before."""
    done = Rounds()
    free = gpu.free()
    for _ in range(rounds):
        others.thieve(pause)
        with Sampler(gpu) as sampler:
            grown = job.ask(f"grow {PIECE} {pieces} {seconds}", timeout=seconds + 60)
        done.off.append(sampler.deviation(free, CHUNK))
        stolen = others.stolen(pause)
        done.stolen_growing += stolen
        if "error" in grown:
            done.error = grown["error"]
            break
        done.took += grown["took_us"]
        if grown["out_of_memory"]:
            done.out_of_memory += grown["out_of_memory"]
            done.first_refusal = done.first_refusal or grown.get("first_refusal")
            done.refused_beside = max(done.refused_beside, balloon_of(lab, job))
        done.freeing.append(job.ask("shrink").get("free_us"))
        freed = time.perf_counter()
        if pause is not None:
            time.sleep(0.1)
            done.stolen_freed += others.stolen(pause) - stolen
            others.rest()
        if regained(gpu, free):
            done.regained_after.append(time.perf_counter() - freed)
        else:
            done.not_regained += 1
    others.rest()
    return done


def balloon_of(lab, job):
    """Bytes that the job's balloon holds."""
    _, said = lab.call(lab.balloon, "status", str(job.pid), "--json")
    parts = json.loads(said)["balloons"][0]["gpus"]
    return sum(part["allocated_bytes"] or 0 for part in parts)


def regained(gpu, free):
    """Whether the balloon has taken back what the job freed, a chunk more or less, within 2 s."""
    end = time.monotonic() + 2
    while gpu.free() > free + CHUNK:
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def alone(job, pieces, rounds=3):
    """The median of the same allocations without gpu-balloon."""
    started = job.ask("start")
    took = []
    for _ in range(rounds):
        took += job.ask(f"grow {PIECE} {pieces} 5").get("took_us", [])
        job.ask("shrink")
    return started, statistics.median(took) if took else None
