"""Do evolutions on a simulated neuron look like published ones in monkeys? Rise, pace and noise, over units and seeds.

    python benchmarks/in_vivo.py [--quick]

Published (170 paired evolutions in V1, V4 and IT of two monkeys, 2020 to 2022, a generator of 4,096 numbers, 40 images
a generation): the best generation's mean over the first 1.3 to 1.7 by area (interquartile range of all 1.16 to 2.00),
63 % of that rise by generation 6 to 14, 90 % by 14 to 20; the mean of the same references varies by 11 to 12 % over
generations and is 8 to 13 % lower at the end; the standard error of a generation is 3 to 5 % of its mean.

Here: model neurons with divisive normalization, at random places, orientations and frequencies; Poisson spikes, and the
drift whose defaults were set to those sessions. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from closedloop.analysis import generation_scores
from closedloop.generators import Fourier
from closedloop.optimizers import load_optimizer
from closedloop.protocols import evolve
from closedloop.seeds import named_generator
from closedloop.subjects import Drift, FunctionSubject, NormalizationSubject, Poisson, best_natural

SIDE, GENERATIONS, POPULATION, REFERENCES = 32, 27, 40, 40
NAMES = ("ratio", "over_references", "g63", "g90", "sem", "cv", "last_over_first", "sp_first", "sp_best")


def neuron(unit: int, floor: float) -> FunctionSubject:
    """Returns a model neuron whose response is never below a share of its best one to photographs."""
    rng = named_generator(unit, "in vivo")
    inner = NormalizationSubject(
        resolution=SIDE,
        orientation_deg=float(rng.uniform(0, 180)),
        cycles_per_image=float(rng.uniform(3, 6)),
        y=float(rng.uniform(10, 21)),
        x=float(rng.uniform(10, 21)),
        exponent=1.0,
        sigma=0.3,
    )
    best = float(best_natural(inner)[0])
    made = FunctionSubject(lambda images: np.maximum(inner.record(images) / best, 0) * (1 - floor) + floor, 1)
    made.resolution = SIDE
    return made


def one(unit: int, seed: int, spikes: float, floor: float) -> dict[str, float]:
    """Does one evolution, and returns what is published of such."""
    subject = Poisson(Drift(neuron(unit, floor), seed=100 * unit + seed), spikes=spikes, best=1.0, seed=seed)
    generator = Fourier(SIDE, cutoff=6)
    optimizer = load_optimizer("cma-diagonal", generator.space, seed=seed, population=POPULATION)
    ds = evolve(
        subject,
        generator,
        optimizer,
        images=GENERATIONS * POPULATION,
        interleave=REFERENCES,
        references="bundled",
        retest_candidates=0,
        seed=seed,
        progress=False,
    )
    scores = generation_scores(ds, "main")
    mean = scores["mean"].values * spikes
    sem = scores["sd"].values * spikes / np.sqrt(np.isfinite(scores["score"].values).sum(1))
    best = int(mean.argmax())
    kind, generation = ds["kind"].values, ds["generation"].values
    natural = kind == "reference"
    value, name = ds["responses"].values[:, 0] * spikes, ds["stimulus_id"].values.astype(str)
    _, image = np.unique(name, return_inverse=True)
    usual = np.bincount(image[natural], value[natural]) / np.maximum(np.bincount(image[natural]), 1)
    gain = [
        value[own].sum() / usual[image[own]].sum()
        for g in range(int(generation.max()) + 1)
        if (own := natural & (generation == g)).any()
    ]
    rise = (mean - mean[0]) / max(mean[best] - mean[0], 1e-9)
    reached = {share: int(np.argmax(rise >= share)) for share in (0.63, 0.9)}
    return {
        "ratio": float(mean[best] / mean[0]),
        "over_references": float(mean[best] / value[natural].mean()),
        "g63": reached[0.63],
        "g90": reached[0.9],
        "sem": float(np.median(sem / mean)),
        "cv": float(np.std(gain, ddof=1)),
        "last_over_first": float(np.mean(gain[-3:]) / np.mean(gain[:3])),
        "sp_first": float(mean[0]),
        "sp_best": float(mean[best]),
    }


def main() -> None:
    """Prints a table of medians and quartiles, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two units, one seed")
    quick = parser.parse_args().quick
    units, seeds = (2, 1) if quick else (8, 2)
    result = {}
    for floor in (0.0, 0.5):
        runs = [one(unit, seed, 20.0, floor) for unit in range(units) for seed in range(seeds)]
        table = {name: np.array([run[name] for run in runs]) for name in NAMES}
        print(f"lowest response {floor:g} of that to the best photograph, {units} units × {seeds} seeds:")
        for name, values in table.items():
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            print(f"  {name:16s} {middle:6.2f}  [{low:.2f}, {high:.2f}]")
        result[f"floor_{floor:g}"] = {name: round(float(np.median(values)), 3) for name, values in table.items()}
    print(json.dumps(result | {"units": units, "seeds": seeds}))


if __name__ == "__main__":
    main()
