"""The default optimizer on landscapes with known tops, beside others and other people's programs called directly.

    python benchmarks/landscapes.py [--quick] [--dims 16 64 512 4096] [--images 300 600 1000 3000] [--seeds 5]

Each contender shows codes of one space N(0, I) and is told responses with a gain noise of ν = 0.5 (``--noise``), or
with the noise that belongs to the landscape. What counts is what an experimenter gets: six candidates (means that the
contender recommends, and the codes that scored best) are shown ten times afresh, and the noiseless response to the one
with the highest mean is the score. A cell is one landscape, dimension, noise and budget; in it scores count from the
mean response to random codes (0) to the highest that any contender reached for the same seed (1). `auto` wins or loses
a cell where the 95 % interval (Student's t over seeds) of its paired difference to the best other contender, by the
mean over seeds, excludes 0 and the difference is above .01; else the two are level. The best of seven others is
chosen by the same scores, which is to their advantage. Settings of `auto` were chosen on the shell landscapes in 64
dimensions (800 images) and four of them in 512 (1,000 images), with a gain and seeds 0 to 2; here seeds are 100 and
following. Each run is a small file in ``--out``, and what is there is not
run again. Contenders that need no budget run once, and are looked at when each budget is used up.

Landscapes on the shell (the length of a code has no effect): a rectified line, an energy, exp, cube, a response in
whole steps, a preference that turns by 90° within the run, ten bumps of which one is highest, and a line with noise of
heavy tails. In the whole space: a sphere with its top at half or at twice the prior's radius, a line above a threshold
of 3 standard deviations of the first codes, and pycma's test functions f about a random point x* as 100 / (1 + 9 f /
f₀), with f₀ that of random codes.

The last line is JSON with ``auto_wins``, ``auto_level``, ``auto_loses``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import cma
import numpy as np
from cmaes import SepCMA
from scipy.optimize import differential_evolution

from closedloop import Space, load_optimizer
from closedloop.analysis import mean_interval
from closedloop.files import replace_file
from closedloop.interfaces import FloatArray
from closedloop.optimizers.base import averaged

#: Contenders: `auto`, other people's programs, and ours that are others' algorithms.
CONTENDERS = (
    "auto", "pycma", "pycma-diagonal", "cmaes:SepCMA", "cholesky-cma", "sphere-cma", "nes", "scipy:DE",
)  # fmt: skip
#: They plan with the budget, and so run anew for each.
PLANNING = ("auto", "sphere-cma")
#: Most dimensions of a full covariance, and of differential evolution.
MOST = {"pycma": 512}
NOISE = {"none": 0.0, "gain": 0.5}
#: Candidates for the last choice, and presentations of each.
CANDIDATES, AGAIN = 6, 10
#: A difference up to this is none, in units of what can be gained in a cell.
ALIKE = 0.01

Function = Callable[[FloatArray, float], FloatArray]


@final
@dataclass(frozen=True)
class Landscape:
    """A response to codes ``(n, dim)`` at a time between 0 and 1 of the run, and the noise it brings.

    Attributes:
        clean: The response ``(n,)``.
        moves: Whether it depends on the time.
        tails: Scale of additional noise by Student's t with two degrees of freedom, in place of a gain.
    """

    clean: Function
    moves: bool = False
    tails: float = 0.0


def cosine(codes: FloatArray, w: FloatArray) -> FloatArray:
    """Cosines ``(n,)`` or ``(n, k)`` of codes with unit vectors ``(dim,)`` or ``(dim, k)``."""
    length = np.maximum(np.linalg.norm(codes, axis=1), 1e-300)
    return np.asarray((codes @ w).T / length).T


def unit(rng: np.random.Generator, dim: int, k: int | None = None) -> FloatArray:
    """A random unit vector ``(dim,)``, or ``k`` orthonormal ones ``(dim, k)``."""
    found = np.linalg.qr(rng.standard_normal((dim, k or 1)))[0]
    return found if k else found[:, 0]


def on_shell(name: str, dim: int, rng: np.random.Generator) -> Landscape:
    """A landscape on which length has no effect."""
    w = unit(rng, dim, min(dim, 10))
    first, second = w[:, 0], w[:, 1]
    if name == "line":
        return Landscape(lambda x, t: 10 * np.maximum(cosine(x, first), 0))
    if name == "energy":
        return Landscape(lambda x, t: 10 * np.linalg.norm(cosine(x, w[:, :2]), axis=1))
    if name == "exp":  # from 1 at the start, in the mean, to 2,981
        return Landscape(lambda x, t: np.exp(8 * cosine(x, first)))
    if name == "cube":  # to 64
        return Landscape(lambda x, t: 64 * cosine(x, first) ** 3)
    if name == "steps":  # of one standard deviation of the first codes
        return Landscape(lambda x, t: np.floor(np.maximum(np.sqrt(dim) * cosine(x, first), 0)))
    if name == "turning":
        turn = np.pi / 2
        return Landscape(
            lambda x, t: 10 * np.maximum(cosine(x, np.cos(turn * t) * first + np.sin(turn * t) * second), 0), moves=True
        )
    if name == "tails":
        return Landscape(lambda x, t: 10 * np.maximum(cosine(x, first), 0), tails=1.0)
    height = np.linspace(1.0, 0.4, w.shape[1])  # bumps: the highest is 1
    return Landscape(lambda x, t: (height * np.exp(4 * (cosine(x, w) - 1))).max(1))


def anywhere(name: str, dim: int, rng: np.random.Generator) -> Landscape:
    """A landscape of the whole space."""
    w = unit(rng, dim)
    if name == "threshold":
        return Landscape(lambda x, t: np.maximum(x @ w - 3, 0))
    top = {"half": 0.5, "twice": 2.0}.get(name)
    if top is not None:
        best = top * np.sqrt(dim) * w
        return bowl(lambda x: ((x - best) ** 2).sum(1), dim, rng)
    best, function = rng.standard_normal(dim), getattr(cma.ff, name)
    shift = 1.0 if name == "rosen" else 0.0  # its top is where all coordinates are 1
    return bowl(lambda x: np.array([function(row) for row in x - best + shift]), dim, rng)


def bowl(cost: Callable[[FloatArray], FloatArray], dim: int, rng: np.random.Generator) -> Landscape:
    """100 at a cost of 0, 10 at the median cost of random codes, and above 0 everywhere."""
    usual = float(np.median(cost(rng.standard_normal((200, dim)))))
    return Landscape(lambda x, t: 100 / (1 + 9 * np.maximum(cost(x), 0) / usual))


SHELL = ("line", "energy", "exp", "cube", "steps", "turning", "bumps", "tails")
ANYWHERE = ("half", "twice", "threshold", "elli", "cigar", "rosen", "rastrigin", "diffpow")


def landscape(name: str, dim: int, seed: int) -> Landscape:
    """The landscape of a name, a dimension and a seed."""
    rng = np.random.default_rng([seed, dim, zlib.crc32(name.encode())])
    return on_shell(name, dim, rng) if name in SHELL else anywhere(name, dim, rng)


class UsedUpError(Exception):
    """The last budget is used up."""


@final
class Trial:
    """One contender on one landscape: counts codes, answers with noise, and chooses in the end as an experimenter does.

    Args:
        what: The landscape.
        noise: Standard deviation ν of the gain.
        marks: Budgets, rising, at each of which a choice is made.
        seed: Of the noise.
    """

    def __init__(self, what: Landscape, noise: float, marks: list[int], seed: int) -> None:
        self.what, self.noise, self.marks = what, noise, list(marks)
        self.last, self.used = marks[-1], 0
        self.rng = np.random.default_rng([seed, 7])
        self.codes: list[FloatArray] = []
        self.scores: list[float] = []
        self.found: dict[int, float] = {}

    def answer(self, codes: FloatArray) -> FloatArray:
        """Responses ``(n,)`` to codes ``(n, dim)`` that use up as much of the budget."""
        responses = self.respond(codes, self.used / self.last)
        self.used += len(codes)
        order = np.argsort(-responses)[:CANDIDATES]
        pooled = [*zip(self.scores, self.codes, strict=True), *((responses[i], codes[i].copy()) for i in order)]
        pooled.sort(key=lambda item: -item[0])
        self.scores, self.codes = ([item[k] for item in pooled[:CANDIDATES]] for k in (0, 1))
        return responses

    def respond(self, codes: FloatArray, at: float) -> FloatArray:
        """Noisy responses ``(n,)``."""
        clean = self.what.clean(codes, at)
        if self.what.tails:
            return np.asarray(clean + self.what.tails * self.rng.standard_t(2, len(codes)))
        return np.asarray(clean * np.maximum(0, 1 + self.noise * self.rng.standard_normal(len(codes))))

    def due(self, codes: int) -> bool:
        """Whether so many more codes would pass the next mark."""
        return self.used + codes > self.marks[0]

    def choose(self, means: list[FloatArray]) -> None:
        """Notes the noiseless response to the best of the candidates by fresh presentations; ends at the last mark."""
        rows = np.array([*means[:CANDIDATES], *self.codes[: max(1, CANDIDATES - len(means))]])
        fresh = np.mean([self.respond(rows, 1.0) for _ in range(AGAIN)], axis=0)
        self.found[self.marks.pop(0)] = float(self.what.clean(rows[[int(np.argmax(fresh))]], 1.0)[0])
        if not self.marks:
            raise UsedUpError


def run(name: str, trial: Trial, dim: int, seed: int) -> dict[int, float]:
    """Scores of a contender, by budget."""
    play = {"pycma": pycma, "pycma-diagonal": pycma, "cmaes:SepCMA": separable, "scipy:DE": evolution}.get(name, ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(UsedUpError):
            play(name, trial, dim, seed)
            while trial.marks:  # it ended by itself
                trial.choose([])
    return trial.found


def ours(name: str, trial: Trial, dim: int, seed: int) -> None:
    """One of this package, by ask and tell."""
    optimizer: Any = load_optimizer(name, Space(dim), seed, images=trial.last)
    while True:
        codes = optimizer.ask()
        while trial.due(len(codes)):
            trial.choose(list(optimizer.recommend(CANDIDATES - 1)))
        optimizer.tell(codes, trial.answer(codes))


def pycma(name: str, trial: Trial, dim: int, seed: int) -> None:
    """Pycma with its own settings, full or diagonal covariance."""
    options = {"CMA_diagonal": name == "pycma-diagonal", "seed": seed + 1, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(np.zeros(dim), 1.0, options)
    average = np.zeros(dim)
    for k in itertools.count():
        codes = np.array(strategy.ask())
        while trial.due(len(codes)):
            trial.choose([strategy.mean, average])
        strategy.tell(list(codes), list(-trial.answer(codes)))
        average = averaged(average if k else None, strategy.mean, k)


def separable(name: str, trial: Trial, dim: int, seed: int) -> None:
    """CyberAgent's SepCMA with its own settings."""
    strategy = SepCMA(np.zeros(dim), 1.0, seed=seed)
    average = np.zeros(dim)
    for k in itertools.count():
        codes = np.array([strategy.ask() for _ in range(strategy.population_size)])
        while trial.due(len(codes)):
            trial.choose([strategy._mean, average])
        strategy.tell([(code, -float(score)) for code, score in zip(codes, trial.answer(codes), strict=True)])
        average = averaged(average if k else None, strategy._mean, k)


def evolution(name: str, trial: Trial, dim: int, seed: int) -> None:
    """Differential evolution of scipy with 40 members, within three standard deviations; the rest as it comes."""
    first = np.clip(np.random.default_rng([seed, 9]).standard_normal((40, dim)), -3, 3)

    def cost(code: FloatArray) -> float:
        while trial.due(1):
            trial.choose([])
        return -float(trial.answer(code[None])[0])

    differential_evolution(cost, [(-3, 3)] * dim, init=first, maxiter=10**6, tol=0, polish=False, rng=seed)


def cells(arguments: Any) -> Iterator[tuple[str, int, str]]:
    """Landscape, dimension and noise, smallest first."""
    for dim, noise, name in itertools.product(arguments.dims, arguments.noise, arguments.landscapes):
        if not (name == "tails" and noise == "none"):
            yield name, dim, noise


def seeds(arguments: Any) -> range:
    """The seeds, none of which had a part in choosing the settings of `auto`."""
    return range(100, 100 + arguments.seeds)


def part(arguments: Any, cell: tuple[str, int, str], contender: str, seed: int, mark: int) -> Path:
    """The file of one score."""
    text = "-".join(map(str, (*cell, contender, seed, mark))).replace(":", "_")
    return Path(arguments.out) / f"{text}.json"


def fill(arguments: Any) -> None:
    """Runs what is not there yet, until the time is used up."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    for seed, cell, contender in itertools.product(seeds(arguments), cells(arguments), arguments.contenders):
        name, dim, noise = cell
        if dim > MOST.get(contender, dim):
            continue
        what = landscape(name, dim, seed)
        anew = contender in PLANNING or what.moves
        for marks in [[m] for m in arguments.images] if anew else [arguments.images]:
            files = {m: part(arguments, cell, contender, seed, m) for m in marks}
            if all(f.exists() for f in files.values()):
                continue
            if time.monotonic() > end:
                return
            begun = time.perf_counter()
            found = run(contender, Trial(what, NOISE[noise], marks, seed), dim, seed)
            seconds = round(time.perf_counter() - begun, 2)
            for mark, file in files.items():
                replace_file(file, json.dumps({"score": found[mark], "seconds": seconds}).encode())


def judge(arguments: Any, cell: tuple[str, int, str], mark: int) -> dict[str, Any] | None:
    """What came of one cell; None as long as a run of it is missing."""
    names = [c for c in arguments.contenders if cell[1] <= MOST.get(c, cell[1])]
    rows = []
    for seed in seeds(arguments):
        files = [part(arguments, cell, c, seed, mark) for c in names]
        if not all(f.exists() for f in files):
            return None
        reached = np.array([json.loads(f.read_text())["score"] for f in files])
        sample = np.random.default_rng([seed, 8]).standard_normal((200, cell[1]))
        base = float(landscape(cell[0], cell[1], seed).clean(sample, 1.0).mean())
        rows.append((reached - base) / max(float(reached.max()) - base, 1e-12))
    scores = np.array(rows)
    mine = names.index("auto")
    others = [i for i in range(len(names)) if i != mine]
    rival = others[int(np.argmax(scores[:, others].mean(0)))]
    difference = scores[:, mine] - scores[:, rival]
    ends = mean_interval(difference)
    low, high, mean = float(ends["low"]), float(ends["high"]), float(difference.mean())
    verdict = "wins" if mean > ALIKE and low > 0 else "loses" if mean < -ALIKE and high < 0 else "level"
    return {
        "scores": {n: round(float(s), 3) for n, s in zip(names, scores.mean(0), strict=True)},
        "rival": names[rival],
        "difference": [round(v, 3) for v in (mean, low, high)],
        "verdict": verdict,
    }


def report(arguments: Any) -> dict[str, Any]:
    """Prints the table of cells; counts verdicts."""
    counts = {"wins": 0, "level": 0, "loses": 0}
    by_mark = {mark: dict(counts) for mark in arguments.images}
    found = {}
    for cell, mark in itertools.product(cells(arguments), arguments.images):
        result = judge(arguments, cell, mark)
        if result is None:
            continue
        counts[result["verdict"]] += 1
        by_mark[mark][result["verdict"]] += 1
        name = f"{cell[0]}, {cell[1]}, {cell[2]}, {mark}"
        found[name] = result
        mean, low, high = result["difference"]
        print(
            f"{name:32}{result['verdict']:7}{mean:+.2f} [{low:+.2f}, {high:+.2f}] {result['rival']:15}"
            + " ".join(f"{n.partition(':')[2] or n} {s:.2f}" for n, s in result["scores"].items())
        )
    return {
        "cells": found,
        "by_images": by_mark,
        "seeds": arguments.seeds,
        **{f"auto_{verdict}": n for verdict, n in counts.items()},
    }


def read_arguments() -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 dimensions, 300 images, three seeds; within a minute")
    parser.add_argument("--landscapes", nargs="+", default=[*SHELL, *ANYWHERE], choices=[*SHELL, *ANYWHERE])
    parser.add_argument("--dims", type=int, nargs="+", default=[16, 64, 512, 4096])
    parser.add_argument("--noise", nargs="+", default=["gain", "none"], choices=list(NOISE))
    parser.add_argument("--images", type=int, nargs="+", default=[300, 600, 1000, 3000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no further run after so long")
    parser.add_argument("--out", type=Path, default=Path("runs/landscapes"))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.dims, arguments.images, arguments.seeds, arguments.noise = [64], [300], 3, ["gain"]
        arguments.out = arguments.out.with_name(arguments.out.name + "-quick")
    return arguments


def main() -> None:
    """See the module."""
    arguments, begun = read_arguments(), time.perf_counter()
    fill(arguments)
    result = report(arguments)
    print(json.dumps({**result, "seconds": round(time.perf_counter() - begun, 1)}))


if __name__ == "__main__":
    main()
