"""What the jobs have in common: they grow as they are told on standard input, and answer each command with JSON.

    start                            makes the context
    view                             free and total memory as the framework sees them
    grow PIECE COUNT ROUNDS SECONDS  allocates COUNT pieces of PIECE bytes and frees them, ROUNDS times, for SECONDS at most
"""

import json
import sys
import time


def serve(framework, imported):
    """`framework` has start(), allocate(bytes), trim(), view() and figures()."""
    tell({"imported_s": round(imported, 2)})
    for command in sys.stdin:
        verb, *words = command.split()
        try:
            if verb == "start":
                start = time.perf_counter()
                framework.start()
                tell({"context_ms": round((time.perf_counter() - start) * 1e3, 1)})
            elif verb == "view":
                free, total = framework.view()
                tell({"free": free, "total": total, **framework.figures()})
            elif verb == "grow":
                piece, count, rounds, seconds = map(float, words)
                tell(grow(framework, int(piece), int(count), int(rounds), seconds))
        except Exception as error:  # noqa: BLE001 the job shall tell whatever it is
            tell({"error": f"{type(error).__name__}: {error}"[:500]})


def tell(figures):
    print(json.dumps(figures), flush=True)


def is_out_of_memory(error):
    text = f"{type(error).__name__} {error}".lower().replace("_", " ")
    return "out of memory" in text or "outofmemory" in text or "resource exhausted" in text


def grow(framework, piece, count, rounds, seconds):
    end = time.monotonic() + seconds
    took, freeing, refused, most = [], 0.0, 0, 0
    first = None
    for _ in range(rounds):
        pieces = []
        for _ in range(count):
            if time.monotonic() > end:
                break
            start = time.perf_counter()
            try:
                pieces.append(framework.allocate(piece))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                refused += 1
                first = first or str(error)[:300]
                continue
            took.append((time.perf_counter() - start) * 1e6)
        most = max(most, len(pieces))
        start = time.perf_counter()
        pieces.clear()
        framework.trim()
        freeing += time.perf_counter() - start
    took.sort()
    found = {"allocations": len(took), "out_of_memory": refused, "first_refusal": first, "peak_bytes": most * piece}
    for name, share in [("median_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("max_us", 1.0)]:
        found[name] = round(took[int((len(took) - 1) * share)], 2) if took else 0
    return {**found, "free_us": round(freeing * 1e6 / max(1, len(took)), 2), **framework.figures()}
