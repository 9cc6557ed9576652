"""What the tests and intervals of `closedloop.analysis` do where the answer is known: false alarms and coverage.

    python benchmarks/nulls.py [--quick] [--runs 2000]

For each p-value: the share below .05 and Kolmogorov-Smirnov's p of its distribution against the uniform one, without
any effect; the one-sided KS, where a p-value is discrete and so allowed to be larger. For each interval of 95 %: its
coverage. Optimizers that are told nonsense are played through on random units of two layers (64 dimensions, 800 codes,
noise of half a standard deviation, codes taken at one length). One table; the last line is JSON. Seed 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from closedloop import load_optimizer
from closedloop.analysis import (
    bootstrap,
    mean_interval,
    median_interval,
    reference_drift,
    selectivity,
    success,
    success_rate,
)
from closedloop.analysis.confirmed import sign_flip
from closedloop.analysis.resampling import cohens_d, rank_auc
from closedloop.interfaces import Recommending, Space

#: Optimizers that learn nothing.
CONTROLS = ("random", "shuffled:sphere-cma", "shuffled:cma-diagonal", "shuffled:nes", "noise:xdream-ga")
#: Numbers in a code, codes that an evolution shows, and presentations of its re-test.
DIM, IMAGES, REPEATS = 64, 800, 10


def recording(rows: list[tuple[str, int, str, str, float]]) -> xr.Dataset:
    """A recording of one unit from its presentations: thread, generation, kind, name and response."""
    thread, generation, kind, ids, response = zip(*rows, strict=True)
    columns = {"thread": thread, "generation": generation, "kind": kind, "stimulus_id": ids}
    coords: dict[str, Any] = {
        name: ("presentation", np.array(values, dtype=int if name == "generation" else object))
        for name, values in columns.items()
    }
    evolution = {"evolution": ["main"], "objective": ["unit(0)"], "generator": ["none"], "optimizer": ["none"]}
    coords |= {name: ("evolution", np.array(value, dtype=object)) for name, value in evolution.items()}
    coords |= {"neuroid_id": ("neuroid", np.array(["unit"], dtype=object)), "subject": "unit", "seed": 0}
    values = np.array(response, dtype=float)
    return xr.Dataset(
        {"responses": (("presentation", "neuroid"), values[:, None]), "score": ("presentation", values)}, coords
    )


def evolved(name: str, seed: int) -> xr.Dataset:
    """An evolution of a random unit of two layers, which does not see the length of codes, and its re-test."""
    rng = np.random.default_rng([seed, 1])
    inner, outer, shift = rng.standard_normal((DIM, 32)) / 8, rng.standard_normal(32), rng.standard_normal(32) / 2

    def respond(codes: np.ndarray) -> np.ndarray:
        on_shell = codes / np.linalg.norm(codes, axis=1, keepdims=True) * np.sqrt(DIM)
        signal = np.maximum(on_shell @ inner + shift, 0) @ outer / np.sqrt(32)
        return np.asarray(signal + 0.5 * rng.standard_normal(len(codes)))

    optimizer = load_optimizer(name, Space(DIM), seed, images=IMAGES)
    rows: list[tuple[str, int, str, str, float]] = []
    generation = 0
    while len(rows) < IMAGES:
        codes = optimizer.ask()
        scores = respond(codes)
        optimizer.tell(codes, scores)
        rows += [("main", generation, "evolved", f"main-g{generation:04d}-{i:03d}", s) for i, s in enumerate(scores)]
        generation += 1
    found = optimizer.recommend(1) if isinstance(optimizer, Recommending) else np.empty((0, DIM))
    end, code = ("recommended-000", found[0]) if len(found) else ("center", codes.mean(0))
    again = respond(np.tile(code, (REPEATS, 1)))
    return recording([*rows, *(("main", generation, "retest", f"main-{end}", r) for r in again)])


def references(seed: int, wander: float = 0.0, generations: int = 40) -> xr.Dataset:
    """Twelve reference images, four in each generation; the recording wanders as an autoregression."""
    rng = np.random.default_rng([seed, 2])
    level, state, rows = rng.uniform(5, 40, 12), 0.0, []
    for g in range(generations):
        state = wander * state + np.sqrt(1 - wander**2) * rng.standard_normal()
        for i in range(4 * g, 4 * g + 4):
            value = level[i % 12] + (state if wander else 0) + rng.standard_normal()
            rows.append(("reference", g, "reference", f"ref-{i % 12}", value))
    return recording(rows)


def p_values(runs: int) -> dict[str, tuple[int, Callable[[int], float], str]]:
    """Number of runs, one p-value without any effect from a seed, and the side of the KS test, for each test."""
    few = max(30, runs // 10)
    table: dict[str, tuple[int, Callable[[int], float], str]] = {}
    for name in CONTROLS:
        for variable in ("p_confirmed", "p"):

            def one(seed: int, name: str = name, variable: str = variable) -> float:
                return float(success(evolved(name, seed), "main", permutations=1)[variable])

            table[f"success {variable}, {name}"] = (few, one, "greater")
    for wander in (0.0, 0.6):
        for variable in ("p", "p_independent"):

            def drift(seed: int, wander: float = wander, variable: str = variable) -> float:
                return float(reference_drift(references(seed, wander))[variable][0])

            table[f"reference_drift {variable}, wander {wander:g}"] = (runs, drift, "two-sided")

    def tuned(seed: int) -> float:
        values = np.random.default_rng([seed, 3]).standard_normal(100)
        rows = [("reference", 0, "reference", f"ref-{i // 5}", v) for i, v in enumerate(values)]
        return float(selectivity(recording(rows))["p"][0])

    table["selectivity p"] = (runs, tuned, "two-sided")
    for n in (6, 20):

        def flipped(seed: int, n: int = n) -> float:
            return sign_flip(np.random.default_rng([seed, 4]).laplace(size=n), 999, seed)

        table[f"success_over_runs p, n = {n}"] = (runs, flipped, "greater")
    return table


def coverages(runs: int) -> dict[str, tuple[int, Callable[[np.random.Generator], tuple[Any, float]]]]:
    """Number of runs, and one interval with the truth, for each interval."""
    few = max(50, runs // 4)
    table: dict[str, tuple[int, Callable[[np.random.Generator], tuple[Any, float]]]] = {}
    draws: dict[str, tuple[Callable[..., np.ndarray], float, float]] = {
        "normal": (lambda rng, n: rng.standard_normal(n), 0.0, 0.0),
        "exponential": (lambda rng, n: rng.exponential(size=n), 1.0, float(np.log(2))),
        "log-normal": (lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5)), 1.0),
    }
    for kind, (draw, mean, median) in draws.items():
        for n in (6, 9, 20, 40):
            table[f"mean, t, {kind}, n = {n}"] = (runs, lambda r, d=draw, n=n, m=mean: (mean_interval(d(r, n)), m))
            table[f"mean, studentized, {kind}, n = {n}"] = (
                few,
                lambda r, d=draw, n=n, m=mean: (mean_interval(d(r, n), method="studentized", resamples=999), m),
            )
            table[f"median, {kind}, n = {n}"] = (runs, lambda r, d=draw, n=n, m=median: (median_interval(d(r, n)), m))
    d, auc = 0.5, float(stats.norm.cdf(0.5 / np.sqrt(2)))
    for n in (10, 60):
        for name, statistic, truth in (("effect size", cohens_d, d), ("AUC", rank_auc, auc)):
            table[f"{name}, BCa, {n} and {n} images"] = (
                few,
                lambda r, n=n, s=statistic, t=truth: (
                    bootstrap([r.standard_normal(n) + 0.5, r.standard_normal(n)], s, resamples=999),
                    t,
                ),
            )
        table[f"ratio, BCa, Poisson, {n} and {n} presentations"] = (
            few,
            lambda r, n=n: (
                bootstrap(
                    [r.poisson(30, n).astype(float), r.poisson(15, n).astype(float)],
                    lambda a, b, axis=-1: a.mean(axis) / b.mean(axis),
                    resamples=999,
                ),
                2.0,
            ),
        )

    def rate(rng: np.random.Generator) -> tuple[Any, float]:
        truth = float(rng.uniform())
        return success_rate((rng.uniform(size=10) < truth).astype(float)), truth

    table["success_rate, n = 10, any rate alike"] = (runs, rate)
    return table


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 runs, within a minute: does it run?")
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    runs, begun = 60 if options.quick else options.runs, time.perf_counter()
    result: dict[str, Any] = {"p": {}, "coverage": {}}
    print(f"{'p-value, without an effect':48}{'runs':>6}{'known':>7}{'< .05':>7}{'KS p':>8}")
    for name, (count, one, side) in p_values(runs).items():
        p = np.array([one(seed) for seed in range(count)])
        known = p[~np.isnan(p)]
        ks = float(stats.kstest(known, "uniform", alternative=side).pvalue) if len(known) else float("nan")
        alarms = float((known < 0.05).mean()) if len(known) else float("nan")
        result["p"][name] = {"runs": count, "known": len(known), "alarms": round(alarms, 4), "ks": round(ks, 4)}
        print(f"{name:48}{count:6}{len(known):7}{alarms:7.3f}{ks:8.3f}", flush=True)
    print(f"{'interval of 95 %':48}{'runs':>6}{'known':>7}{'covers':>7}")
    for name, (count, interval) in coverages(runs).items():
        held = []
        for seed in range(count):
            found, truth = interval(np.random.default_rng([seed, 5]))
            if np.isfinite(found["low"]):
                held.append(float(found["low"]) <= truth <= float(found["high"]))
        result["coverage"][name] = {"runs": count, "known": len(held), "covers": round(float(np.mean(held)), 4)}
        print(f"{name:48}{count:6}{len(held):7}{np.mean(held):7.3f}", flush=True)
    print(json.dumps({**result, "seconds": round(time.perf_counter() - begun, 1)}))


if __name__ == "__main__":
    main()
