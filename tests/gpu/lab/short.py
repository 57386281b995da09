"""The figures that matter most, in the form of the README's table."""

import json

from lab import GB, MB


def short(report, directory):
    figures = Figures(directory / "raw.jsonl")
    rows = [row for part in [held, beside, live, idle, handed_over] for row in part(figures)]
    if rows:
        report.heading("In short")
        report.table(["", "measured"], rows)


class Figures:
    def __init__(self, path):
        self.all = [json.loads(line) for line in path.read_text().splitlines()]

    def find(self, kind, **wanted):
        """The last of its kind with these values."""
        for one in reversed(self.all):
            if one["kind"] == kind and all(one.get(name) == value for name, value in wanted.items()):
                return one
        return None


def held(figures):
    sizes = [one["size_gb"] for one in figures.all if one["kind"] == "held" and one["what"] == "gpu-balloon"]
    for chunk in [100, 2]:
        for ours, theirs in [
            ("gpu-balloon", "bare C, cuMemAlloc"),
            ("gpu-balloon --contextless", "bare C, cuMemCreate"),
        ]:
            pair = [
                figures.find("held", what=what, size_gb=max(sizes, default=0), chunk_mb=chunk)
                for what in [ours, theirs]
            ]
            if all(one and one["seconds"] for one in pair):
                mine, bare = (one["seconds"][0] for one in pair)
                what = f"{ours}: {max(sizes)} GB in {chunk} MB chunks, start to held"
                yield what, f"{mine:.2f} s; {theirs}: {bare:.2f} s"


def beside(figures):
    for what in ["gpu-balloon hold", "gpu-balloon hold --contextless", "bare C, cuMemAlloc"]:
        if one := figures.find("beside", what=what):
            memory = f"{one['bytes'] / MB:.0f} MiB of the device, {one['resident_bytes'] / MB:.0f} MiB resident"
            yield f"{what}: beside what is held", memory


def live(figures):
    if one := figures.find("lag", what="bare alloc"):
        yield (
            "freed memory is seen by NVML after",
            f"{one['visible_us']:.0f} us, at most {one['visible_max_us']:.0f} us",
        )
    if one := figures.find("verbs", chunk="100MB", options=[]):
        for verb, what in [
            ("release", f"release of {one['size_gb']} GB"),
            ("grow", "resize +1GB"),
            ("status", "status"),
        ]:
            yield f"{what}, start to return", f"{one[verb] * 1e3:.0f} ms"


def idle(figures):
    watts = []
    for what in ["no balloon", "hold --contextless", "hold"]:
        one = figures.find("idle", what=what)
        if not one:
            return
        watts.append(f"{what} {sum(one['watts']) / len(one['watts']):.0f} W")
        if what != "no balloon":
            woken = [
                f"{after['name']} {after['voluntary'] - one['before'].get(number, after)['voluntary']}"
                for number, after in one["after"].items()
            ]
            yield f"{what}: wake-ups in 10 s by thread", ", ".join(woken)
    yield "power of the idle GPU", ", ".join(watts)


def handed_over(figures):
    for thief in ["none", "every 1 ms", "spinning"]:
        one = figures.find("handover", what="the GPU full", thief=thief)
        if one and one["took"]:
            allocations = len(one["took"]) + one["out_of_memory"]
            what = f"{allocations:,} allocations of 64 MB on a full GPU, thief: {thief}"
            stolen = one["stolen_growing"] / MB / (allocations * 64 * MB / GB)
            text = f"{one['out_of_memory']} out of memory"
            yield what, text if thief == "none" else f"{text}, {stolen:.0f} MiB stolen for each GiB"
    if (one := figures.find("latency")) and one["turns"]:
        for number, piece in enumerate(["1 KB", "2 MB", "64 MB"]):
            alone, under = (min(turn[which][number][0] for turn in one["turns"]) for which in [0, 1])
            yield (
                f"an allocation of {piece}, memory being plentiful",
                f"{alone:.2f} us alone, {under:.2f} us under `run`",
            )
