"""How long a folder of very many runs takes to be listed: its index made anew, looked at again, and asked.

Copies of what one real run leaves in its small files (pointer, checksums, summary, experiment) stand for the runs;
their stores are not needed, since an index never opens those of finished runs. ``index_runs_per_s`` is the first look
with the files in memory, ``index_runs_per_cpu_s`` the same by seconds of the processor, ``refresh_s`` a second look at
which nothing has changed, ``query_ms`` the slowest of some questions (median of five): rows sorted by a number, words,
conditions, the middle and the last page.

    python benchmarks/catalogue.py [--quick] [--runs N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from closedloop import IsotropicES
from closedloop.analysis.catalogue import Wanted, found
from closedloop.analysis.run_index import RunIndex
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from closedloop.subjects import GaborSubject

#: What stays of a run in a copy.
FILES = ("COMMITTED.json", "CHECKSUMS", "SUMMARY.json", "experiment.yaml")
QUESTIONS = {
    "by number": Wanted(sort="evolved", descending=True, limit=50),
    "words": Wanted("gabor isotropic", sort="ratio", limit=50),
    "condition": Wanted(where=["evolved>0", "state=finished"], sort="when", limit=50),
    "nothing": Wanted("nothing of that kind", limit=50),
}


def seconds(do: Callable[[], object]) -> tuple[float, float]:
    """Seconds that something takes, on the clock and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - began, time.process_time() - used


def make(folder: Path, count: int) -> None:
    """Makes one run, and so many folders with its small files, in folders of their own by the first digits."""
    generator = Fourier(32, 3)
    evolve(
        GaborSubject(resolution=32, count=1, seed=1),
        generator,
        IsotropicES(generator.space, seed=1, population=10),
        images=60,
        save=folder / "model",
        progress=False,
    )
    for number in range(count):
        place = folder / "runs" / f"{number % 100:02d}" / f"run-{number:06d}"
        place.mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(folder / "model" / name, place / name)


def main() -> None:
    """Measures, and prints the figures; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 runs, within a minute")
    parser.add_argument("--runs", type=int, help="how many; default 100,000")
    arguments = parser.parse_args()
    count = arguments.runs or (10_000 if arguments.quick else 100_000)
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {count:,} runs …", flush=True)
        make(Path(folder), count)
        with RunIndex(Path(folder) / "runs", Path(folder) / "index" / "runs.sqlite") as index:
            (first, used), again = seconds(index.refresh), seconds(index.refresh)[0]
            print(f"index: {first:.0f} s, {used:.0f} s of the processor; again {again:.1f} s", flush=True)
            pages = {**QUESTIONS, "last page": Wanted(sort="when", limit=50, offset=max(count - 50, 0))}
            pages["middle page"] = Wanted(sort="ratio", limit=50, offset=count // 2)
            times = {
                name: 1000 * statistics.median(seconds(lambda w=wanted: found(index, w))[0] for _ in range(5))
                for name, wanted in pages.items()
            }
        for name, taken in times.items():
            print(f"{name}: {taken:.0f} ms", flush=True)
    figures = {"runs": count, "index_runs_per_s": round(count / first), "index_runs_per_cpu_s": round(count / used)}
    figures |= {"refresh_s": round(again, 2), "query_ms": round(max(times.values()), 1)}
    print(json.dumps({**figures, "cores": os.cpu_count(), "machine": platform.machine()}))


if __name__ == "__main__":
    main()
