"""Optimizers compared on what an experimenter gets: the confirmed image's noiseless response, after N images, in noise.

Each run is a session: an evolution under noise, then fresh presentations that select among the candidates. The score
of a run is the noiseless response to the image that was selected, over the largest that any run reached for that unit
(any optimizer, noise level and seed). Runs are kept as recordings in ``--out``; a run that is there is not run again,
one that was interrupted goes on. Seeds of the optimizers: 1000 and following.

``overhead`` is the median time, and the peak of newly allocated memory, of one generation of 40 (ask and tell), the
start of the optimizer left out; ``over_cma_full`` is the time over that of pycma's full covariance in the same run.

    python benchmarks/optimizers.py [--quick]
    python benchmarks/optimizers.py --subject lite0 --generator NAME --units 7 130 971 --resolution 224
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from closedloop import Space, Unit, load_optimizer, summarize
from closedloop.generators import load_generator
from closedloop.protocols import evolve, resume
from closedloop.subjects import Gain, Poisson, load_subject
from closedloop.subjects.noise import best_natural

OPTIMIZERS = [
    "cma", "cma-diagonal", "cholesky-cma", "sphere-cma", "isotropic", "separable-cma", "xdream-ga", "ga-2019", "fdgd",
    "nes", "random",
]  # fmt: skip
NOISE = ["none", "gain-0.2", "gain-0.5", "poisson-20"]
FULL = "cma (full)"


def noisy(subject: Any, best: Any, level: str, seed: int) -> Any:
    """The subject with one of the noise levels around it."""
    kind, _, number = level.partition("-")
    if kind == "none":
        return subject
    if kind == "gain":
        return Gain(subject, float(number), seed=seed)
    return Poisson(subject, float(number), best=best.tolist(), seed=seed)


def run_one(
    subject: Any, best: Any, generator: Any, name: str, unit: int, level: str, seed: int, arguments: Any
) -> float:
    """Noiseless response of the image that one session selects; NaN if it selected none."""
    folder = arguments.out / f"{level}-{name.replace(':', '-')}-{unit}-{seed}"
    if folder.exists():
        recording = resume(folder)
    else:
        optimizer = load_optimizer(name, generator.space, seed, images=arguments.images)
        recording = evolve(
            noisy(subject, best, level, seed), generator, optimizer, objective=Unit(unit), references=None, keep="none",
            images=arguments.images, seed=seed, save=folder,
        )  # fmt: skip
    selected = summarize(recording)[0].evolved.stimulus_id
    rows = np.flatnonzero(recording["stimulus_id"].values == selected)
    if len(rows) == 0:
        return float("nan")
    code = recording["latent_code"].values[rows[:1], : generator.space.dim]
    return float(subject.record(generator(code))[0, unit])


def compare(arguments: Any) -> dict[str, Any]:
    """Mean normalized score, and mean rank among the optimizers, for each noise level."""
    options = {"resolution": 32, "count": 8, "seed": 1} if arguments.subject != "lite0" else {"units": arguments.units}
    subject = load_subject(arguments.subject, **options)
    best = best_natural(subject)
    units = range(len(subject.units))[: len(arguments.units)]
    generator = load_generator(arguments.generator, resolution=arguments.resolution)
    names, shape = arguments.optimizers, (len(NOISE), len(arguments.optimizers), len(units), arguments.seeds)
    reached = np.full(shape, np.nan)
    for place in np.ndindex(shape):
        level, name = NOISE[place[0]], names[place[1]]
        reached[place] = run_one(subject, best, generator, name, units[place[2]], level, 1000 + place[3], arguments)
        print(f"{level:11s} {name:16s} unit {place[2]} seed {1000 + place[3]}: {reached[place]:.4g}", flush=True)
    score = reached / np.nanmax(reached, axis=(0, 1, 3))[None, None, :, None]
    rank = 1 + (reached[:, None] > reached[:, :, None]).sum(2)
    return {
        level: {n: {"score": round(float(np.nanmean(score[i, j])), 4), "rank": round(float(rank[i, j].mean()), 2)}
                for j, n in enumerate(names)}
        for i, level in enumerate(NOISE)
    }  # fmt: skip


def overhead(name: str, dim: int, generations: int) -> dict[str, float]:
    """Median seconds and peak megabytes of a generation of 40."""
    options: dict[str, Any] = {"images": 3000, "population": 40}
    if name == FULL:
        name, options["covariance"] = "cma", "full"
    optimizer = load_optimizer(name, Space(dim), 0, **options)
    seconds = []
    for _ in range(generations):
        start = time.perf_counter()
        codes = optimizer.ask()
        asked = time.perf_counter() - start
        scores = -(codes**2).sum(1)
        start = time.perf_counter()
        optimizer.tell(codes, scores)
        seconds.append(asked + time.perf_counter() - start)
    tracemalloc.start()
    codes = optimizer.ask()
    optimizer.tell(codes, -(codes**2).sum(1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"seconds": round(statistics.median(seconds), 6), "peak_mb": round(peak / 2**20, 2)}


def all_overheads(dims: list[int], names: list[str], generations: int) -> dict[str, Any]:
    """The overhead of each optimizer, and over that of pycma's full covariance in the same dimensions."""
    found: dict[str, Any] = {}
    for dim in dims:
        rows = {n: overhead(n, dim, generations) for n in [FULL, *(n for n in names if n != "cma")]}
        for name, row in rows.items():
            row["over_cma_full"] = round(row["seconds"] / rows[FULL]["seconds"], 4)
            print(f"{dim:5d} {name:16s} {1e3 * row['seconds']:9.2f} ms  {row['peak_mb']:9.2f} MB", flush=True)
        found[str(dim)] = rows
    return found


def main() -> None:
    """Runs both parts; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one unit, one seed, 400 images, overhead at 512 only")
    parser.add_argument("--subject", default="energy", help="an analytic subject (32 pixels, drawn units), or lite0")
    parser.add_argument("--generator", default="fourier")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument(
        "--units", type=int, nargs="+", default=list(range(6)), help="units of lite0; else their number"
    )
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS, help="names, nevergrad:NAME too")
    parser.add_argument("--out", type=Path, default=Path("runs/optimizers"))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.units, arguments.seeds, arguments.images = arguments.units[:1], 1, 400
        arguments.out = arguments.out.with_name(arguments.out.name + "-quick")
    costs = all_overheads([512] if arguments.quick else [512, 4096], arguments.optimizers, 3 if arguments.quick else 15)
    table = compare(arguments)
    for level, rows in table.items():
        print(f"\n{level}")
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["score"]):
            print(f"  {name:16s} {row['score']:.3f}   mean rank {row['rank']:.1f}")
    kept = {key: getattr(arguments, key) for key in ("subject", "generator", "resolution", "images", "seeds")}
    print(
        json.dumps({"noise": table, "overhead": costs, **kept, "units": len(arguments.units), "cores": os.cpu_count()})
    )


if __name__ == "__main__":
    main()
