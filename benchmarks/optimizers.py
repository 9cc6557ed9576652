"""Optimizers compared on what an experimenter gets: the confirmed image's noiseless response, after N images, in noise.

Each run is a session: an evolution under noise, then fresh presentations that select among the candidates. The score of
a run is the noiseless response to the image that was selected, over the largest that any of the runs that are asked for
reached for that unit (any optimizer, noise level and seed). Every finished run is a small file in ``--out``, and what
is there is not run again. Ranks are among the optimizers within a unit, a seed and a noise level; the table holds those
of these blocks in which every optimizer has run. ``margin`` is `auto` minus the best of the others (by mean score of
the level), with its 95 % interval by Student's t over units; `closedloop.analysis.paired_difference` does the same on
recordings (``--recordings`` keeps them). All optimizers have as many candidates re-tested: means that they recommend
(of those that recommend none the session takes the means of generations), and the codes that scored best.

The settings of `auto` were chosen on other units: model landscapes of 512 dimensions, the analytic subjects with seed
11, lite0 at 32 and 64 pixels with Fourier images and pixels (blocks.3 31, blocks.4 17, blocks.5 40, output 600), and
lite0 with native images (at 64 pixels output 300; at 128 and 224 pixels blocks.1 0, six units of blocks.4 and six of
the output), seeds 0 to 5. Here seeds are 1000 and following, and the analytic units those of seed 1.

``overhead`` is the median time, and the peak of newly allocated memory, of one generation of 40 (ask and tell), the
start of the optimizer left out; ``over_cma_full`` is the time over that of pycma's full covariance in the same run.
"auto (4 x 10)" is `auto` as it is used: four generations of its own 10 codes, once it remembers all that it can.

    python benchmarks/optimizers.py [--quick]
    python benchmarks/optimizers.py --subject lite0 --units blocks.4:30 output:971 --out runs/lite0
    python benchmarks/optimizers.py --subject lite0 --device cuda --jobs 16
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from cmaes import SepCMA

from closedloop import Space, Unit, load_optimizer, summarize
from closedloop.analysis import mean_interval
from closedloop.errors import OptimizerError
from closedloop.files import replace_file
from closedloop.generators import load_generator
from closedloop.interfaces import FloatArray
from closedloop.optimizers.base import MeanSearch
from closedloop.protocols import evolve
from closedloop.recipes import matched_generator
from closedloop.subjects import Gain, Poisson, load_subject
from closedloop.subjects.noise import best_natural

#: Those that are compared; "cmaes:SepCMA" and nevergrad's are other people's programs.
OPTIMIZERS = [
    "auto", "cma", "cma-diagonal", "cmaes:SepCMA", "nevergrad:CMA", "nevergrad:NGOpt", "sphere-cma", "cholesky-cma",
    "xdream-ga", "ga-2019", "nes",
]  # fmt: skip
NOISE = ["none", "gain-0.2", "gain-0.5", "poisson-20"]
#: Channels of the layers of lite0 from which units are drawn, and those that had a part in choosing `auto`'s settings.
WIDTHS = {"output": 1000, "blocks.5": 192, "blocks.4": 112, "blocks.3": 80, "blocks.1": 24}
TUNED = (
    "output:300", "output:600", "blocks.5:40", "blocks.4:17", "blocks.3:31", "blocks.1:0",
    *(f"output:{unit}" for unit in (35, 113, 128, 262, 420, 605)),
    *(f"blocks.4:{unit}" for unit in (3, 12, 14, 28, 45, 67)),
)  # fmt: skip


def drawn_units(each: int, seed: int = 12) -> list[str]:
    """Some units of each layer of lite0, a layer after the other, so that the first ones are of all depths."""
    rng = np.random.default_rng(seed)
    layers = [[f"{layer}:{unit}" for unit in rng.permutation(width)] for layer, width in WIDTHS.items()]
    kept = [[unit for unit in units if unit not in TUNED][:each] for units in layers]
    return [unit for some in zip(*kept, strict=True) for unit in some]


#: Units of the analytic subjects (drawn with seed 1) and of lite0; none had a part in choosing the settings of `auto`.
UNITS = {
    "analytic": [f"{kind}:{i}" for i in range(3) for kind in ("gabor", "energy", "normalization")],
    "lite0": drawn_units(6),
}
FULL, OWN = "cma (full)", "auto (4 x 10)"
#: Images that an optimizer lasts for, by name and dimensions, where it fails before the budget is used up. Nevergrad's
#: CMA does so above 300 dimensions, at a generation that depends on neither the scores nor the seed.
LASTS: dict[tuple[str, int], int] = {}


@final
class Separable(MeanSearch):
    """CyberAgent's SepCMA, with its default settings."""

    name = "cmaes:SepCMA"

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        bounds = np.tile([space.low, space.high], (space.dim, 1)) if space.bounded else None
        self._inner = SepCMA(space.center, space.scale, bounds=bounds, seed=seed)

    def _mean(self) -> FloatArray:
        return np.array(self._inner._mean)

    def _propose(self) -> FloatArray:
        return np.stack([self._inner.ask() for _ in range(self._inner.population_size)])

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        self._inner.tell([(code, -float(score)) for code, score in zip(codes, scores, strict=True)])


@final
@dataclass(frozen=True)
class Problem:
    """A unit to excite: its subject, the generator, and the best natural response."""

    subject: Any
    column: int
    generator: Any
    best: float

    def noisy(self, level: str, seed: int) -> Any:
        """The subject with one of the noise levels around it."""
        kind, _, number = level.partition("-")
        if kind == "none":
            return self.subject
        if kind == "gain":
            return Gain(self.subject, float(number), seed=seed)
        return Poisson(self.subject, float(number), best=self.best, seed=seed)


@lru_cache(maxsize=40)
def problem(subject: str, unit: str, pixels: int, device: str, generator: str = "native") -> Problem:
    """The problem of a unit's name, ``layer:unit`` of lite0 or ``kind:number`` of the analytic subjects."""
    where, _, number = unit.partition(":")
    if subject == "lite0":
        network = load_subject("lite0", layer=where, units=[int(number)], resolution=pixels, device=device)
        made = native(device) if generator == "native" else matched_generator({"name": generator}, network)
        return Problem(network, 0, made, max(float(best_natural(network)[0]), 1e-6))
    neurons = load_subject(where, resolution=32, count=8, seed=1)
    best = float(best_natural(neurons)[int(number)])
    return Problem(neurons, int(number), load_generator("fourier", resolution=32), best)


@lru_cache(maxsize=1)
def native(device: str) -> Any:
    """The generator of lite0's problems, where no other is asked for."""
    return load_generator("native", device=device)


def build(name: str, space: Space, seed: int, images: int) -> Any:
    """The optimizer of a name."""
    return Separable(space, seed) if name == Separable.name else load_optimizer(name, space, seed, images=images)


def run_one(what: Problem, name: str, level: str, seed: int, images: int, save: Path | None) -> dict[str, Any]:
    """Noiseless response of the image that one session selects; one that fails is scored for what it had shown."""
    start, key = time.perf_counter(), (name, what.generator.space.dim)
    while True:
        shown = min(images, LASTS.get(key, images))
        optimizer = build(name, what.generator.space, seed, images)
        if save is not None and save.exists():  # left by a run that did not come to its end
            shutil.rmtree(save)
        try:
            recording = evolve(
                what.noisy(level, seed), what.generator, optimizer, objective=Unit(what.column), references=None,
                keep="none", images=shown, seed=seed, save=save,
            )  # fmt: skip
            break
        except OptimizerError:
            LASTS[key] = shown - getattr(optimizer, "population", 40)
    selected = summarize(recording)[0].evolved.stimulus_id
    rows = np.flatnonzero(recording["stimulus_id"].values == selected)[:1]
    code = recording["latent_code"].values[rows, : what.generator.space.dim]
    score = float(what.subject.record(what.generator(code))[0, what.column]) if len(rows) else float("nan")
    return {"score": score, "images": shown, "seconds": round(time.perf_counter() - start, 1)}


def blocks(arguments: Any) -> Iterator[tuple[int, str, str]]:
    """Seed, unit and noise level, in the order in which they are run."""
    seeds = range(1000, 1000 + arguments.seeds)
    yield from itertools.product(seeds, arguments.units, arguments.noise)


def part(arguments: Any, name: str, block: tuple[int, str, str]) -> Path:
    """The file of one run."""
    seed, unit, level = block
    lite0 = arguments.subject == "lite0"
    how = f"-{arguments.pixels}px" if lite0 else ""
    how += f"-{arguments.generator}" if lite0 and arguments.generator != "native" else ""
    text = f"{arguments.subject}{how}-{unit}-{level}-{name}-{seed}-{arguments.images}".replace(":", "_")
    return Path(arguments.out) / f"{text}.json"


def run_all(arguments: Any) -> None:
    """Runs what is not there yet, until the time is used up; several at a time in processes of their own."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs, end = itertools.product(blocks(arguments), arguments.optimizers), time.time() + 60 * arguments.minutes
    left = [(arguments, end, block, name) for block, name in runs if not part(arguments, name, block).exists()]
    if arguments.jobs == 1:
        for one in left:
            run_part(one)
        return
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), prepare_process) as pool:
        list(pool.map(run_part, left))


def prepare_process() -> None:
    """One thread for each process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def run_part(one: tuple[Any, float, tuple[int, str, str], str]) -> None:
    """One run, stored in its file, unless the time is used up."""
    arguments, end, block, name = one
    if time.time() > end:
        return
    seed, unit, level = block
    file = part(arguments, name, block)
    what = problem(arguments.subject, unit, arguments.pixels, arguments.device, arguments.generator)
    save = file.with_suffix("") if arguments.recordings else None
    found = run_one(what, name, level, seed, arguments.images, save)
    replace_file(file, json.dumps(found).encode())
    print(f"{level:11s} {name:16s} {unit} seed {seed}: {found['score']:.4g} in {found['seconds']} s", flush=True)


def read_all(arguments: Any) -> tuple[list[tuple[int, str, str]], FloatArray]:
    """The complete blocks, and normalized scores ``(blocks, optimizers)``."""
    best: dict[str, float] = {}
    complete, rows = [], []
    for block in blocks(arguments):
        files = [part(arguments, name, block) for name in arguments.optimizers]
        scores = [json.loads(f.read_text())["score"] if f.exists() else None for f in files]
        reached = [s for s in scores if s is not None and np.isfinite(s)]
        best[block[1]] = max([best.get(block[1], 1e-12), *reached])
        if None not in scores:
            complete.append(block)
            rows.append(scores)
    normal = [np.array(row) / best[block[1]] for block, row in zip(complete, rows, strict=True)]
    return complete, np.array(normal, dtype=float).reshape(len(complete), len(arguments.optimizers))


def compare(arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """For each noise level: mean score and rank of the optimizers, and the margin of `auto`; and that over all."""
    found, scores = read_all(arguments)
    scores = np.maximum(np.nan_to_num(scores), 0)
    ranks = (
        1
        + (scores[:, None, :] > scores[:, :, None]).sum(2)
        + 0.5 * ((scores[:, None] == scores[:, :, None]).sum(2) - 1)
    )
    table: dict[str, Any] = {}
    for level in arguments.noise:
        own = np.array([block[2] == level for block in found], dtype=bool)
        if not own.any():
            continue
        rows = {
            name: {"score": round(float(s), 4), "sem": round(float(e), 4), "rank": round(float(r), 2)}
            for name, s, e, r in zip(
                arguments.optimizers, scores[own].mean(0), scores[own].std(0) / np.sqrt(own.sum()),
                ranks[own].mean(0), strict=True,
            )
        }  # fmt: skip
        units = [block[1] for block, mine in zip(found, own, strict=True) if mine]
        table[level] = {"runs": int(own.sum()), "optimizers": rows, **margin(scores[own], units, arguments.optimizers)}
    return table, margin(scores, [block[1] for block in found], arguments.optimizers)


def margin(scores: FloatArray, units: list[str], names: list[str]) -> dict[str, Any]:
    """`auto` minus the best of the others, paired, with its 95 % interval over units."""
    if "auto" not in names or len(names) < 2 or not len(scores):
        return {}
    mine = names.index("auto")
    others = [i for i in range(len(names)) if i != mine]
    rival = others[int(np.argmax(scores[:, others].mean(0)))]
    single = scores[:, mine] - scores[:, rival]
    each = np.array([single[np.array(units) == unit].mean() for unit in dict.fromkeys(units)])
    found = mean_interval(each)
    ends = [float(found[end]) for end in ("low", "high")]  # NaN, which JSON has no word for, of a single unit
    return {
        "rival": names[rival],
        "margin": [None if np.isnan(v) else round(v, 4) for v in (float(single.mean()), *ends)],
    }


def overhead(name: str, dim: int, generations: int) -> dict[str, float]:
    """Median seconds and peak megabytes of a generation of 40."""
    options: dict[str, Any] = {"images": 3000, "population": 40}
    turns = 1
    if name == FULL:
        name, options["covariance"] = "cma", "full"
    if name == OWN:
        name, options["population"], turns = "auto", 10, 4
    optimizer: Any = load_optimizer(name, Space(dim), 0, **options)
    direction = np.random.default_rng(0).standard_normal(dim)
    for _ in range(80 if turns > 1 else 0):
        one_turn(optimizer, direction)
    seconds = [sum(one_turn(optimizer, direction) for _ in range(turns)) for _ in range(generations)]
    tracemalloc.start()
    one_turn(optimizer, direction)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"seconds": round(statistics.median(seconds), 6), "peak_mb": round(peak / 2**20, 2)}


def one_turn(optimizer: Any, direction: FloatArray) -> float:
    """Seconds of one generation: ask and tell."""
    start = time.perf_counter()
    codes = optimizer.ask()
    asked = time.perf_counter() - start
    scores = codes @ direction
    start = time.perf_counter()
    optimizer.tell(codes, scores)
    return asked + time.perf_counter() - start


def all_overheads(dims: list[int], names: list[str], generations: int) -> dict[str, Any]:
    """The overhead of each optimizer, and over that of pycma's full covariance in the same dimensions."""
    found: dict[str, Any] = {}
    for dim in dims:
        compared = [FULL, *(n for n in names if n != "cma" and ":" not in n), *([OWN] if "auto" in names else [])]
        rows = {name: overhead(name, dim, generations) for name in compared}
        for name, row in rows.items():
            row["over_cma_full"] = round(row["seconds"] / rows[FULL]["seconds"], 4)
            print(f"{dim:5d} {name:16s} {1e3 * row['seconds']:9.2f} ms  {row['peak_mb']:9.2f} MB", flush=True)
        found[str(dim)] = rows
    return found


def show(table: dict[str, Any]) -> None:
    """Prints the table of each noise level, best first."""
    for level, found in table.items():
        print(f"\n{level}: {found['runs']} runs of each; auto minus {found.get('rival')}: {found.get('margin')}")
        for name, row in sorted(found["optimizers"].items(), key=lambda item: -item[1]["score"]):
            print(f"  {name:16s} {row['score']:.3f} ± {row['sem']:.3f}   mean rank {row['rank']:.1f}")


def read_arguments() -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one analytic unit, 400 images, overhead at 512 only")
    parser.add_argument("--subject", choices=list(UNITS), default="analytic")
    parser.add_argument("--units", nargs="+", help="layer:unit of lite0, or kind:number of the analytic subjects")
    parser.add_argument("--pixels", type=int, default=224, help="what lite0 looks at; fewer are faster")
    parser.add_argument("--generator", help="what makes the images for lite0; default native")
    parser.add_argument("--noise", nargs="+", default=NOISE, choices=NOISE)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no further run after so long")
    parser.add_argument("--recordings", action="store_true", help="keep the recording of each run beside its file")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process of one thread")
    parser.add_argument("--device", default="cpu", help="where lite0 and native run, such as cuda")
    parser.add_argument("--no-overhead", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/optimizers"))
    arguments = parser.parse_args()
    arguments.units = arguments.units or UNITS[arguments.subject]
    if arguments.generator and arguments.subject != "lite0":
        parser.error("--generator is for --subject lite0; the analytic subjects see Fourier images.")
    arguments.generator = arguments.generator or ("native" if arguments.subject == "lite0" else "fourier")
    if arguments.quick:
        arguments.units, arguments.seeds, arguments.images = arguments.units[:1], 1, 400
        arguments.out = arguments.out.with_name(arguments.out.name + "-quick")
    return arguments


def main() -> None:
    """Runs both parts; the last line is one JSON object."""
    warnings.simplefilter("ignore")
    arguments = read_arguments()
    dims = [512] if arguments.quick else [512, 4096]
    costs = {} if arguments.no_overhead else all_overheads(dims, arguments.optimizers, 3 if arguments.quick else 21)
    run_all(arguments)
    table, average = compare(arguments)
    show(table)
    if average:
        print(f"\nall levels: auto minus {average['rival']}: {average['margin']}")
    ranks = [found["optimizers"]["auto"]["rank"] for found in table.values() if "auto" in found["optimizers"]]
    kept = {key: getattr(arguments, key) for key in ("subject", "generator", "units", "images", "seeds", "device")}
    mean = round(statistics.fmean(ranks), 3) if ranks else None
    found = {"noise": table, "average": average, "auto_rank_mean": mean, "overhead": costs}
    print(json.dumps({**found, **kept, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
