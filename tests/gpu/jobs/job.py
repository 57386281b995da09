"""What the jobs have in common: they grow as they are told on standard input, and answer each command with JSON.

start                     makes the context
view                      free and total memory as the framework sees them, and its own figures
grow PIECE COUNT SECONDS  allocates COUNT more pieces of PIECE bytes, for SECONDS at most
shrink                    frees everything
"""

import json
import sys
import time


class Job:
    """`framework` has start(), allocate(bytes), trim(), view() and figures()."""

    def __init__(self, framework):
        self.framework = framework
        self.pieces = []

    def start(self):
        start = time.perf_counter()
        self.framework.start()
        return {"context_ms": round((time.perf_counter() - start) * 1e3, 1)}

    def view(self):
        free, total = self.framework.view()
        return {"free": free, "total": total, **self.framework.figures()}

    def grow(self, piece, count, seconds):
        took, refused, first = [], 0, None
        end = time.monotonic() + float(seconds)
        for _ in range(int(count)):
            if time.monotonic() > end:
                break
            start = time.perf_counter()
            try:
                self.pieces.append(self.framework.allocate(int(piece)))
            except Exception as error:  # each framework has its own
                if not is_out_of_memory(error):
                    raise
                refused += 1
                first = first or str(error)[:300]
                continue
            took.append(round((time.perf_counter() - start) * 1e6, 2))
        return {"out_of_memory": refused, "first_refusal": first, "took_us": took}

    def shrink(self):
        count, start = max(1, len(self.pieces)), time.perf_counter()
        self.pieces.clear()
        self.framework.trim()
        return {"free_us": round((time.perf_counter() - start) * 1e6 / count, 2)}


def is_out_of_memory(error):
    text = f"{type(error).__name__} {error}".lower().replace("_", " ")
    return "out of memory" in text or "outofmemory" in text or "resource exhausted" in text


def serve(framework, imported):
    job = Job(framework)
    tell({"imported_s": round(imported, 2)})
    for command in sys.stdin:
        verb, *words = command.split()
        try:
            tell(getattr(job, verb)(*words))
        except Exception as error:  # the job shall tell whatever it is
            tell({"error": f"{type(error).__name__}: {error}"[:500]})


def tell(figures):
    # In one piece, since two ranks may share a pipe.
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
