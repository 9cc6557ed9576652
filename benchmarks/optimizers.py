"""Optimizers compared on what an experimenter gets: the confirmed image's noiseless response, after N images, in noise.

Each run is a session: an evolution under noise, then fresh presentations that select among the candidates. The score of
a run is the noiseless response to the image that was selected, over the largest that any of the runs that are asked for
reached for that unit (any optimizer, noise level and seed). The runs are a sweep in ``--out``: what is finished there
is not run again, and ``closedloop runs`` and ``closedloop report`` say what it holds. An optimizer that fails before
its images are used up is run again with those that it had shown. Ranks are among the optimizers within a unit, a seed
and a noise level; the table holds those of these blocks in which every optimizer has run. ``margin`` is `auto` minus
the best of the others (by mean score of the level), with its 95 % interval by Student's t over units;
`closedloop.analysis.paired_difference` does the same on the recordings. All optimizers have as many candidates
re-tested: means that they recommend (of those that recommend none the session takes the means of generations), and the
codes that scored best.

The settings of `auto` were chosen on other units: model landscapes of 512 dimensions, the analytic subjects with seed
11, lite0 at 32 and 64 pixels with Fourier images and pixels (blocks.3 31, blocks.4 17, blocks.5 40, output 600), and
lite0 with native images (at 64 pixels output 300; at 128 and 224 pixels blocks.1 0, six units of blocks.4 and six of
the output), seeds 0 to 8, and landscapes of `benchmarks/landscapes.py`. Here seeds are 1000 and following, and the
analytic units those of seed 1.

``overhead`` is the median time, and the peak of newly allocated memory, of one generation of 40 (ask and tell), the
start of the optimizer left out; ``over_cma_full`` is the time over that of pycma's full covariance in the same run.
"auto (4 x 10)" is `auto` as it is used: four generations of its own 10 codes, once it remembers all that it can.

    python benchmarks/optimizers.py [--quick]
    python benchmarks/optimizers.py --subject lite0 --units blocks.4:30 output:971 --out runs/lite0
    python benchmarks/optimizers.py --subject lite0 --device cuda --workers 16
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from closedloop import Space, catalogue, load_optimizer, open_recording
from closedloop.analysis import mean_interval
from closedloop.errors import RecordingError
from closedloop.interfaces import FloatArray
from closedloop.protocols import sweep
from closedloop.protocols.sweep_plan import PlannedRun
from closedloop.protocols.sweep_work import read_plan
from closedloop.recipes import matched_generator
from closedloop.recording.reader import read_pointer
from closedloop.subjects import load_subject

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
#: The analytic subjects of each kind.
ANALYTIC = {"resolution": 32, "count": 8, "seed": 1}
#: Generators by the name that `--generator` has for them; native draws 128 pixels, whatever the subject looks at.
GENERATORS: dict[str, dict[str, Any]] = {"native": {"name": "native", "resolution": 128}}
#: Images that are shown to a subject at once, where scores are taken.
BATCH = 40
#: A package beside this file that adds the optimizer "cmaes", to this program and to the workers of a sweep.
OTHERS = Path(__file__).parent / "others"
#: How often an optimizer that fails is run again, with the images that it had shown.
TRIES = 3

#: A block of runs that differ in the optimizer alone: seed, unit and noise level; and a run of it.
Block = tuple[int, str, str]
Run = tuple[Block, str]


def plan(arguments: Any, more: Iterable[tuple[Run, int]] = ()) -> dict[str, Any]:
    """The sweep of all runs, a part for each layer of lite0 or each kind of analytic subject.

    Args:
        arguments: Of the command line.
        more: Further runs, with another number of images than all others.
    """
    asked: dict[str, list[str]] = {}
    for unit in arguments.units:
        asked.setdefault(unit.partition(":")[0], []).append(unit)
    whole = {"noises": arguments.noise, "seeds": list(seeds(arguments)), "optimizers": arguments.optimizers}
    parts = [{**place(arguments, units), **whole} for units in asked.values()]
    for ((seed, unit, level), name), images in more:
        one = {"noises": [level], "seeds": [seed], "optimizers": [name], "images": images}
        parts.append({**place(arguments, [unit]), **one})
    return {
        "generator": generator(arguments),
        "images": arguments.images, "references": "none", "keep": "none",
        "plans": [{**part, "noises": [level.replace("-", ":") for level in part["noises"]]} for part in parts],
    }  # fmt: skip


def place(arguments: Any, units: list[str]) -> dict[str, Any]:
    """The entries of a plan for some units of one layer, or of one kind."""
    where, numbers = units[0].partition(":")[0], ",".join(unit.partition(":")[2] for unit in units)
    if arguments.subject == "lite0":
        return {"subject": lite0(arguments), "layers": [where], "units": numbers}
    return {"subjects": [{"name": where, **ANALYTIC}], "units": numbers}


def lite0(arguments: Any) -> dict[str, Any]:
    """The recipe of lite0 as it is asked for."""
    device = {} if arguments.device == "cpu" else {"device": arguments.device}
    return {"name": "lite0", "resolution": arguments.pixels, **device}


def seeds(arguments: Any) -> range:
    """The seeds, none of which had a part in choosing the settings of `auto`."""
    return range(1000, 1000 + arguments.seeds)


def blocks(arguments: Any) -> Iterator[Block]:
    """Seed, unit and noise level of each block."""
    yield from itertools.product(seeds(arguments), arguments.units, arguments.noise)


def named(run: PlannedRun) -> Run:
    """What a run of the sweep is."""
    where = run.facts["layer"] if "layer" in run.facts else json.loads(run.inner)["name"]
    unit, level = f"{where}:{run.facts['unit']}", run.facts["noise"].replace(":", "-")
    return (int(run.facts["seed"]), unit, level), run.facts["optimizer"]


def run_all(arguments: Any) -> dict[Run, PlannedRun]:
    """Does what is not done yet, and returns the finished runs; one that fails is run again for what it had shown."""
    more: list[tuple[Run, int]] = []
    done: dict[Run, PlannedRun] = {}
    for _ in range(TRIES):
        content = plan(arguments, more)
        result = sweep(content, arguments.out, workers=arguments.workers, scheduler=arguments.scheduler)
        runs = read_plan(content, arguments.out).runs
        done = {named(run): run for run in runs if run.id not in result.failed}
        failed = {named(run): run for run in runs if run.id in result.failed}  # the last try of each
        lasted = {run: shown(arguments.out / failed[run].place) for run in failed.keys() - done.keys()}
        for run, images in lasted.items():
            print(f"{run}: failed after {images} images: {result.failed[failed[run].id][:200]}", flush=True)
        shorter = [(run, images) for run, images in lasted.items() if images and (run, images) not in more]
        if not shorter:
            break
        more += shorter
    return done


def shown(folder: Path) -> int:
    """Images that a run had shown before it failed; 0 of one that showed none."""
    try:
        return int(read_pointer(folder)["n_presentations"])
    except RecordingError:
        return 0


def noiseless(arguments: Any, where: str) -> tuple[Any, Any]:
    """The subject, answering for all units of a layer or a kind, and the generator: what scores are taken with."""
    if arguments.subject == "lite0":
        subject = load_subject(**lite0(arguments), layer=where, units="all")
    else:
        subject = load_subject(where, **ANALYTIC)
    return subject, matched_generator(generator(arguments), subject)


def generator(arguments: Any) -> dict[str, Any]:
    """The recipe of the generator."""
    return GENERATORS.get(arguments.generator, {"name": arguments.generator})


def all_scores(arguments: Any, runs: dict[Run, PlannedRun]) -> dict[Run, float]:
    """The noiseless response to the image that each run selected; NaN where it selected none."""
    selected = dict(zip(*(catalogue(arguments.out)[name] for name in ("path", "evolved_image")), strict=True))
    codes: dict[str, dict[Run, FloatArray]] = {}
    for run, planned in runs.items():
        recording = open_recording(arguments.out / planned.place)
        rows = np.flatnonzero(recording["stimulus_id"].values == selected[planned.place])[:1]
        if len(rows):
            codes.setdefault(run[0][1].partition(":")[0], {})[run] = recording["latent_code"].values[rows[0]]
    found = dict.fromkeys(runs, float("nan"))
    for where, own in codes.items():
        subject, made = noiseless(arguments, where)
        every = list(own)
        for some in (every[i : i + BATCH] for i in range(0, len(every), BATCH)):
            responses = subject.record(made(np.stack([own[run][: made.space.dim] for run in some])))
            columns = [int(run[0][1].partition(":")[2]) for run in some]
            found |= dict(zip(some, responses[np.arange(len(some)), columns].astype(float).tolist(), strict=True))
    return found


def normalized(arguments: Any, scores: dict[Run, float]) -> tuple[list[Block], FloatArray]:
    """The complete blocks, and scores over the largest of their unit ``(blocks, optimizers)``."""
    best: dict[str, float] = {}
    for (_, unit, _), _ in scores:
        best[unit] = 1e-12
    for ((_, unit, _), _), score in scores.items():
        best[unit] = max(best[unit], score if np.isfinite(score) else 0.0)
    complete = [b for b in blocks(arguments) if all((b, name) in scores for name in arguments.optimizers)]
    rows = [[scores[block, name] / best[block[1]] for name in arguments.optimizers] for block in complete]
    return complete, np.array(rows, dtype=float).reshape(len(complete), len(arguments.optimizers))


def compare(arguments: Any, reached: dict[Run, float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """For each noise level: mean score and rank of the optimizers, and the margin of `auto`; and that over all."""
    found, scores = normalized(arguments, reached)
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
    parser.add_argument("--workers", type=int, help="runs at a time; default one for each core")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, instead")
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


def add_others() -> None:
    """Lets this program, and the workers that it begins, know the package beside this file."""
    sys.path.insert(0, str(OTHERS))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(OTHERS), *filter(None, [os.environ.get("PYTHONPATH")])])


def main() -> None:
    """Runs both parts; the last line is one JSON object."""
    warnings.simplefilter("ignore")
    add_others()
    arguments = read_arguments()
    dims = [512] if arguments.quick else [512, 4096]
    costs = {} if arguments.no_overhead else all_overheads(dims, arguments.optimizers, 3 if arguments.quick else 21)
    table, average = compare(arguments, all_scores(arguments, run_all(arguments)))
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
