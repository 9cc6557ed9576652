"""How long ``closedloop evolve`` takes from the start of the process to the first image that is shown.

The default command is run in new processes until its subject is about to be shown the first images; then it ends.
``start_over_imports`` divides that by a process that only imports torch and ONNX Runtime. The two run alternately; the
ratio is the median over the rounds, with its range. Seconds of the processor are less disturbed by other processes than
those on the clock, so both are given. ``--against PYTHON`` measures another installation in the same rounds.

    python benchmarks/startup.py [--quick] [--against OTHER/bin/python]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

#: Ends a process of the command line where the first images would be shown; older versions had the module elsewhere.
START = """
import os, sys, time
from closedloop.cli import main
try:
    from closedloop.loop import presenter
except ImportError:
    from closedloop import presenting as presenter
def show(*arguments, **options):
    print("SHOWN", time.time(), time.process_time(), flush=True)
    os._exit(0)
presenter.Presenter.show = show
main(["evolve", "--out", sys.argv[1]])
"""
IMPORTS = """
import sys, time
import numpy, torch, onnxruntime
print("SHOWN", time.time(), time.process_time(), flush=True)
"""


class Seconds(NamedTuple):
    """What a process took: on the clock, and of the processor."""

    wall: float
    cpu: float


def measured(python: str, code: str, folder: Path, cache: Path) -> Seconds:
    """Runs code in a new process up to the line that it prints."""
    begun = time.time()
    result = subprocess.run(
        [python, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CLOSEDLOOP_CACHE": str(cache)},
        cwd=folder.parent,
    )
    line = next((line for line in result.stdout.splitlines() if line.startswith("SHOWN ")), None)
    if line is None:
        raise SystemExit(f"{python}: the command ended without showing an image.\n{result.stderr}")
    _, then, cpu = line.split()
    return Seconds(float(then) - begun, float(cpu))


def summary(name: str, values: list[float]) -> dict[str, float | list[float]]:
    """Median and range."""
    return {name: round(statistics.median(values), 2), f"{name}_range": [round(min(values), 2), round(max(values), 2)]}


def main() -> None:
    """Runs the comparison and prints it; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds, within a minute")
    parser.add_argument("--against", metavar="PYTHON", help="interpreter of another installation")
    arguments = parser.parse_args()
    commands = {"start": (sys.executable, START), "imports": (sys.executable, IMPORTS)}
    if arguments.against:
        commands["other"] = (arguments.against, START)
    rounds: dict[str, list[Seconds]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for name, (python, code) in commands.items():  # files into memory, compiled modules onto the disk
            measured(python, code, Path(folder) / f"{name}-warm", Path(folder) / "cache")
        for number in range(3 if arguments.quick else 9):
            for name, (python, code) in commands.items():
                run = Path(folder) / f"{name}-{number}"
                rounds[name].append(measured(python, code, run, Path(folder) / "cache"))
            print("  ".join(f"{n} {s[-1].wall:5.2f} s ({s[-1].cpu:5.2f} s cpu)" for n, s in rounds.items()), flush=True)
    figures: dict[str, object] = {}
    for i, kind in enumerate(Seconds._fields):
        figures |= summary(f"start_{kind}_s", [s[i] for s in rounds["start"]])
        for name in set(rounds) - {"start"}:
            pairs = zip(rounds["start"], rounds[name], strict=True)
            figures |= summary(f"start_over_{name}_{kind}", [start[i] / other[i] for start, other in pairs])
    print(json.dumps({**figures, "cores": os.cpu_count(), "machine": platform.machine()}))


if __name__ == "__main__":
    main()
