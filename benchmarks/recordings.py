"""What opening, checking and analysing a large recording costs: 10,000 presentations × 1,000 units.

Times are seconds of the processor, of all threads together: on a shared machine the clock tells of the others. What is
compared runs alternately, with the files in the system's cache.

``open_overhead_s``: what `open_recording` takes beyond `xarray.open_zarr` on the same folder, which includes looking at
every committed file.
``load_over_plain``: loading all responses, each chunk compared with its checksum, divided by loading them without.
``analysis_peak_mb``: the most memory that is in use at once while the mean response of each generation and unit is
computed part by part, beside ``responses_mb``, what all responses take.

    python benchmarks/recordings.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from closedloop import Units, open_recording
from closedloop.recording.layout import DATA, Layout, Rows
from closedloop.recording.writer import Recording

GENERATION, UNITS, LATENT = 40, 1_000, 256
#: What must hold: seconds of our own to open, and the share of all responses that an analysis may keep in memory.
OVERHEAD_S, SHARE = 0.1, 0.25


def write_run(folder: Path, generations: int) -> None:
    """A run of random responses, as a session would write it, but without synchronizing the disk."""
    os.fsync = lambda descriptor: None  # only reading is timed here
    rng = np.random.default_rng(0)
    units = Units.numbered("cell", UNITS)
    scalars: dict[str, str | int | float] = {"subject": "random", "seed": 0}
    recording = Recording.create(folder, Layout(generations * GENERATION, LATENT, units, scalars), {})
    for g in range(generations):
        n = GENERATION
        coords = {
            "thread": np.full(n, "main"),
            "generation": np.full(n, g, np.int32),
            "kind": np.full(n, "evolved"),
            "stimulus_id": np.array([f"main-g{g:04d}-{i:03d}" for i in range(n)]),
            "repeat": np.zeros(n, np.int32),
            "onset_s": (g * n + np.arange(n)) * 0.2,
        }
        responses = rng.standard_normal((n, UNITS), dtype=np.float32)
        recording.append(Rows(coords, responses, rng.standard_normal((n, LATENT)), responses[:, 0].astype(float)), {})
    recording.finish({})
    recording.close()


def seconds(function: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes."""
    start = time.process_time()
    function()
    return time.process_time() - start


def plain(folder: Path) -> xr.Dataset:
    """The data as xarray alone opens them."""
    dataset: xr.Dataset = xr.open_zarr(folder / DATA, chunks=None, consolidated=False)
    return dataset


def generation_means(folder: Path) -> np.ndarray:
    """Mean response of each generation and unit ``(generations, units)``, a generation at a time."""
    recording = open_recording(folder)
    generation = recording["generation"].values
    means = []
    for g in np.unique(generation):
        rows = np.flatnonzero(generation == g)
        part = recording["responses"].isel(presentation=slice(int(rows[0]), int(rows[-1]) + 1))
        means.append(part.values.mean(axis=0))
    return np.stack(means)


def peak_mb(function: Callable[[], object]) -> float:
    """The most memory in use at once during a call, in megabytes, beyond what was in use before."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - before) / 1e6


def main() -> None:
    """Measures, prints, and ends with status 1 if a limit is broken; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, within a minute")
    rounds = 5 if parser.parse_args().quick else 15
    generations = 10_000 // GENERATION
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        write_run(folder, generations)
        open_recording(folder), plain(folder)  # warm
        ours, theirs, checked, unchecked = [], [], [], []
        for _ in range(rounds):
            theirs.append(seconds(lambda: plain(folder)))
            ours.append(seconds(lambda: open_recording(folder)))
            unchecked.append(seconds(lambda: plain(folder)["responses"].values))
            checked.append(seconds(lambda: open_recording(folder)["responses"].values))
            print(f"open {ours[-1]:.3f} s (xarray {theirs[-1]:.3f} s)  load {checked[-1]:.3f} s "
                  f"(unchecked {unchecked[-1]:.3f} s)", flush=True)  # fmt: skip
        peak = peak_mb(lambda: generation_means(folder))
    overhead = statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
    whole = generations * GENERATION * UNITS * 4 / 1e6
    fine = overhead < OVERHEAD_S and peak < SHARE * whole
    figures = {
        "presentations": generations * GENERATION,
        "units": UNITS,
        "open_s": round(statistics.median(ours), 4),
        "open_overhead_s": round(overhead, 4),
        "open_overhead_limit_s": OVERHEAD_S,
        "load_over_plain": round(statistics.median(a / b for a, b in zip(checked, unchecked, strict=True)), 2),
        "responses_mb": round(whole, 1),
        "analysis_peak_mb": round(peak, 2),
        "analysis_peak_limit_mb": round(SHARE * whole, 1),
        "within_limits": fine,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(figures))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
