"""What the rules that stop when sure do where the answer is known: false stops without an effect and with one.

    python benchmarks/stopping.py [--quick] [--runs 1000] [--seed 0] [--rule futility] [--probability 0.1]

`Beats` sees drawn sessions: 40 references, each shown once and then six in each generation, in turn; 75 generations of
40 images that differ by 20 %, so that there are 15 looks. A stop is false where the mean of a generation was not above
that of the best reference. `Futility(500, 0.05)` sees drawn means of 75 generations of 40 images, and looks after
each. A stop is false where 500 more images would have raised the mean by more than 5 % of what it was; beside it stands
by how much they would have, and all that were left. Rates have the exact interval of 95 % (Clopper and Pearson). Two
tables; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from closedloop import Beats, Futility
from closedloop.loop.sequential import Naturals
from closedloop.loop.stopping import Scored

#: Images of a generation, generations, references, and those of them that are shown in a generation.
POPULATION, GENERATIONS, REFERENCES, INTERLEAVE = 40, 75, 40, 6
#: How far the images of a generation differ, as the standard deviation of the logarithm of what drives the unit.
SPREAD = 0.2
#: Images after which a generation is as good as the best reference in sessions that rise, and 63 % of the rise.
PACE = 400
FUTILITY = Futility(500, 0.05)
IMAGES = POPULATION * np.arange(1, GENERATIONS + 1, dtype=float)
Curve = Callable[[Any], Any]


@dataclass(frozen=True)
class Unit:
    """A unit that is shown references and evolving images.

    Attributes:
        best: Spikes that the best reference brings, on average.
        level: Mean of each generation ÷ that of the best reference, after so many images.
        ladder: Whether the references come near the best one by one; else they bring a quarter of it.
        fano: Variance ÷ mean of its counts.
        lost: Share of presentations that are lost.
        drift: Share by which its gain has changed at the end.
        alpha: That of the rule.
        interleave: References that are shown in a generation.
    """

    best: float = 20.0
    level: Curve = np.ones_like
    ladder: bool = False
    fano: float = 1.0
    lost: float = 0.0
    drift: float = 0.0
    alpha: float = 0.05
    interleave: int = INTERLEAVE


def rising(images: Any) -> Any:
    """Returns means that rise from 0.3 to 1.3 times the best reference, by 63 % within `PACE` images."""
    return 1.3 - np.exp(-np.asarray(images, float) / PACE)


def times(factor: float) -> Curve:
    """Returns means that are so many times the best reference from the beginning."""
    return lambda images: np.full(np.shape(images), factor)


#: Sessions in which no generation is above the best reference, and such in which some are.
NULLS = {
    "one reference is as good, the others bring a quarter": Unit(),
    "the same at α = 0.01": Unit(alpha=0.01),
    "the same, two spikes": Unit(best=2),
    "the same, variance twice the mean, one presentation in ten lost": Unit(fano=2, lost=0.1),
    "the same, two references in each generation": Unit(interleave=2),
    "references come near one by one": Unit(ladder=True),
    "*not supposed:* the gain rises by a tenth meanwhile": Unit(drift=0.1),
    "*not supposed:* it rises by 30 %": Unit(drift=0.3),
}
EFFECTS = {
    "1.1 times the best reference": Unit(level=times(1.1)),
    "1.3 times": Unit(level=times(1.3)),
    "1.3 times, two spikes": Unit(level=times(1.3), best=2),
    "twice": Unit(level=times(2.0)),
    "rises from 0.3 to 1.3 times, 63 % of it within 400 images": Unit(level=rising),
}


def counts(mean: NDArray[np.float64], unit: Unit, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws counts: Poisson or, of more variance, negative binomial; NaN where lost."""
    mean = np.asarray(mean, float)
    drawn = rng.poisson(mean) if unit.fano == 1 else rng.negative_binomial(mean / (unit.fano - 1), 1 / unit.fano)
    return np.where(rng.random(mean.shape) < unit.lost, np.nan, drawn)


def looked(unit: Unit, rng: np.random.Generator) -> int | None:
    """Plays a session; returns the generation, from 1, after which `Beats` ends it, or None."""
    references = np.linspace(0.25, 1, REFERENCES) if unit.ladder else np.r_[1.0, np.full(REFERENCES - 1, 0.25)]
    rule, naturals, everything = Beats(unit.alpha), Naturals.none(REFERENCES), np.arange(REFERENCES)
    naturals = naturals.with_scores(everything, counts(unit.best * references, unit, rng))
    level = unit.level(IMAGES)
    for g in range(1, GENERATIONS + 1):
        gain = unit.best * (1 + unit.drift * g / GENERATIONS)
        which = ((g - 1) * unit.interleave + np.arange(unit.interleave)) % REFERENCES
        naturals = naturals.with_scores(which, counts(gain * references[which], unit, rng))
        images = np.exp(SPREAD * rng.standard_normal(POPULATION) - SPREAD**2 / 2)
        if rule.compare(counts(gain * level[g - 1] * images, unit, rng), naturals, g):
            return g
    return None


@dataclass(frozen=True)
class Course:
    """How the means of generations go on.

    Attributes:
        mean: The true mean after so many images.
        noise: Standard deviation of a generation's mean ÷ the first mean.
        lasting: Correlation of that noise from one generation to the next.
    """

    mean: Curve
    noise: float = 0.05
    lasting: float = 0.0


def saturating(pace: float, rise: float = 1.0, silent: float = 0.0) -> Curve:
    """Returns means that rise from 1 by `rise`, by 63 % within `pace` images, after so many without any rise."""
    return lambda images: 1 + rise * (1 - np.exp(-np.maximum(np.asarray(images, float) - silent, 0) / pace))


def supposed(rng: np.random.Generator) -> Course:
    """Draws what the rule supposes: the pace evenly in its logarithm, from 1/20 of all images to 20 times as many."""
    pace = IMAGES[-1] * np.exp(rng.uniform(np.log(0.05), np.log(20)))
    rise = rng.uniform(-0.2, 1.0)
    return Course(saturating(pace, rise / -np.expm1(-IMAGES[-1] / pace)))


COURSES: dict[str, Course | Callable[[np.random.Generator], Course]] = {
    "as supposed: pace and rise (-20 to 100 % over 3,000 images) are drawn": supposed,
    "flat: there is nothing to gain": Course(saturating(1, 0)),
    "flat, noise of 20 %": Course(saturating(1, 0), 0.2),
    "doubles, 63 % of it within 200 images": Course(saturating(200)),
    "within 1,000": Course(saturating(1000)),
    "within 1,000, noise of 20 %": Course(saturating(1000), 0.2),
    "within 5,000": Course(saturating(5000)),
    "within 5,000, noise of 20 %": Course(saturating(5000), 0.2),
    "*not supposed:* flat for 1,000 images, then doubles": Course(saturating(500, silent=1000)),
    "*not supposed:* within 1,000, noise that lasts (0.7 from one generation to the next)": Course(
        saturating(1000), lasting=0.7
    ),
}


def gave_up(course: Course, rule: Futility, rng: np.random.Generator) -> int | None:
    """Draws the means of generations; returns the generation, from 1, after which `Futility` ends it, or None."""
    true, noise, last = course.mean(IMAGES), course.noise * float(course.mean(0.0)), 0.0
    history: list[Scored] = []
    for g in range(GENERATIONS):
        last = course.lasting * last + np.sqrt(1 - course.lasting**2) * noise * rng.standard_normal()
        mean = float(true[g] + last)
        history.append(Scored(mean, mean, int(IMAGES[g])))
        if rule(history):
            return g + 1
    return None


def rate(hits: int, of: int) -> dict[str, Any]:
    """Returns a rate in percent and its exact interval of 95 %."""
    interval = stats.binomtest(hits, of).proportion_ci(0.95)
    return {"percent": 100 * hits / of, "interval": [100 * float(interval.low), 100 * float(interval.high)]}


def middle(values: list[float]) -> list[float] | None:
    """Returns median and quartiles, where there is anything."""
    return [float(q) for q in np.percentile(values, [50, 25, 75])] if values else None


def beaten(unit: Unit, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Returns what becomes of so many sessions under `Beats`: both rates of stops, and when right ones came."""
    level, stops = unit.level(IMAGES), [looked(unit, rng) for _ in range(runs)]
    right = [float(IMAGES[g - 1]) for g in stops if g is not None and level[:g].max() > 1]
    false = sum(g is not None for g in stops) - len(right)
    return {"false": rate(false, runs), "right": rate(len(right), runs), "images": middle(right)}


def given_up(case: Any, runs: int, rng: np.random.Generator, rule: Futility = FUTILITY) -> dict[str, Any]:
    """Returns what becomes of so many courses under `Futility`: rates, when they stopped, what was left, in percent."""
    images, soon, left = [], [], []
    for _ in range(runs):
        course = case(rng) if callable(case) else case
        if (g := gave_up(course, rule, rng)) is not None:
            now, at_last = (float(course.mean(i)) for i in (IMAGES[g - 1], IMAGES[-1]))
            later = float(course.mean(IMAGES[g - 1] + rule.images))
            images.append(float(IMAGES[g - 1]))
            soon.append(100 * (later / now - 1))
            left.append(100 * (at_last / now - 1))
    false = sum(gain > 100 * rule.gain for gain in soon)
    rates = {"false": rate(false, runs), "right": rate(len(images) - false, runs)}
    return {**rates, "images": middle(images), "soon": middle(soon), "left": middle(left)}


def row(name: str, found: Mapping[str, Any]) -> str:
    """Returns a row of a table."""
    cells = [
        f"{found[kind]['percent']:.1f} [{found[kind]['interval'][0]:.1f}, {found[kind]['interval'][1]:.1f}]"
        for kind in ("false", "right")
    ]
    for kind, form in (("images", ",.0f"), ("soon", ".1f"), ("left", ".1f")):
        three = found.get(kind)
        words = "" if three is None else f"{three[0]:{form}} [{three[1]:{form}}, {three[2]:{form}}]"
        cells += [words] if kind in found else []
    return f"| {' | '.join([name, *cells])} |"


def main() -> None:
    """Simulates and prints; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 sessions of each kind")
    parser.add_argument("--runs", type=int, default=1000, help="sessions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rule", choices=("beats", "futility"), help="one of them alone")
    parser.add_argument("--probability", type=float, default=FUTILITY.probability, help="that of futility")
    arguments = parser.parse_args()
    runs, begun = 100 if arguments.quick else arguments.runs, time.monotonic()
    found: dict[str, dict[str, Any]] = {"beats": {}, "futility": {}}
    futile = Futility(FUTILITY.images, FUTILITY.gain, arguments.probability)
    kinds: dict[str, tuple[Mapping[str, Any], Callable[..., dict[str, Any]]]] = {
        "beats": ({**NULLS, **EFFECTS}, beaten),
        "futility": (COURSES, partial(given_up, rule=futile)),
    }
    columns = {
        "beats": "images at right stops",
        "futility": "images at stops | 500 more gain, % | all that are left, %",
    }
    for rule, (cases, play) in kinds.items():
        if arguments.rule not in (None, rule):
            continue
        called = rule if rule == "beats" else f"futility:500:0.05:{arguments.probability:g}"
        print(f"\n| `{called}`, {runs:,} sessions each | false stops, % | right stops, % | {columns[rule]} |")
        print("|---|--:|--:" + "|--:" * len(columns[rule].split("|")) + "|")
        for place, (name, case) in enumerate(cases.items()):
            found[rule][name] = play(case, runs, np.random.default_rng([arguments.seed, rule == "futility", place]))
            print(row(name, found[rule][name]), flush=True)
    seconds = round(time.monotonic() - begun, 1)
    print(json.dumps({"runs": runs, "seed": arguments.seed, "seconds": seconds, **found}))


if __name__ == "__main__":
    main()
