"""What was found: tables in Markdown for people, and every figure as JSON."""

import json
import sys
import time


class Report:
    def __init__(self, directory):
        self.markdown = (directory / "report.md").open("a")
        self.raw = (directory / "raw.jsonl").open("a")

    def text(self, text):
        """Written at once, so that whatever ends the run leaves what is known."""
        print(text, flush=True)
        self.markdown.write(f"{text}\n")
        self.markdown.flush()

    def heading(self, text):
        self.text(f"\n## {text}\n")

    def table(self, header, rows):
        lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
        self.text("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n")

    def figures(self, kind, **figures):
        self.raw.write(json.dumps({"kind": kind, **figures}) + "\n")
        self.raw.flush()

    def failed(self, what, error):
        self.text(f"- **{what}: failed:** {type(error).__name__}: {error}")
        self.figures("failure", what=what, error=str(error))


class Clock:
    """How much of the time that was given is left."""

    def __init__(self, minutes):
        self.end = time.monotonic() + minutes * 60

    def left(self):
        return self.end - time.monotonic()


def attempt(report, clock, what, action, least=15):
    """One piece that must not stop the others: whatever it fails with is reported."""
    if clock.left() < least:
        report.text(f"- **{what}: left out:** the time is up")
        return None
    print(f"[{clock.left():.0f} s left] {what}", file=sys.stderr, flush=True)
    try:
        return action()
    except Exception as error:  # noqa: BLE001 whatever it is
        report.failed(what, error)
        return None


def mib(amount):
    return f"{amount / (1 << 20):,.1f}"
