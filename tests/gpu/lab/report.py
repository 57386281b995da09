"""What was found: tables in Markdown for people, and every figure as JSON."""

import json


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


def mib(amount):
    return f"{amount / (1 << 20):,.1f}"
