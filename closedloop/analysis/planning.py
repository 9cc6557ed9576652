"""How many images it will take: the probability that an evolution succeeds, by its design, and the cheapest design.

What is expected of a unit is a `NoiseModel`, stated or measured in a pilot (`closedloop.analysis.pilots`). The mean of
a generation rises from `start` towards `ceiling` exponentially in the number of different images that were shown,

    r(i) = ceiling + (start - ceiling) · exp(-i / pace · e(k) / e(1)),

in units of the response to the best reference image. By the breeder's equation (Falconer & Mackay 1996, chapter 11) the
response to selection goes with the accuracy of a score, the square root of its reliability; so k presentations of
each image, whose scores have the reliability ρ(k) = s² / (s² + F / (m k)), make the rise e(k) / e(1) = √(ρ(k) / ρ(1))
times as fast. s is the coefficient of variation over the images of a generation, F the Fano factor, m the mean
response.

Success is what a session tests with fresh presentations: Welch's one-sided test of the evolved image against the best
reference ("beats"), or of the last generation against the first ("rises"). The power is that of the noncentral t
distribution with Welch's degrees of freedom, which simulation confirms (`simulated_power`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.analysis.students import welch
from closedloop.checks import check_number, check_positive, check_whole, check_within
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.loop.settings import Settings, Timing
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: What counts as a success; see above.
Success = Literal["beats", "rises"]
#: What the numbers of a model may be: their squares and ratios are numbers, too.
EXTREMES = (1e-12, 1e12)


@dataclass(frozen=True)
class NoiseModel:
    """What is expected of a unit and of the animal.

    The defaults of drift, lost presentations and pace are those of published sessions in monkeys (170 paired
    evolutions: 8 to 13 % less at the end, 63 % of the rise after 12 generations of 40 images); how far an evolved image
    comes beyond the best reference has no published distribution, and is to be measured in a pilot.

    Attributes:
        spikes: m, the mean response to the best reference image at the beginning: spikes in the counting window.
        fano: F, variance over mean of the responses to one image, above 0.
        drift: Relative change of all responses in 1,000 presentations, above -1.
        lost: Probability that a presentation is lost.
        start: Mean response to the first generation ÷ that to the best reference.
        ceiling: Where the mean of generations tends to, likewise.
        pace: Different images after which 63 % of that way are done, each shown once.
        signal: s, the coefficient of variation of mean responses over the images of a generation, above 0.
        lift: Mean response to the re-tested image ÷ that to its generation.
        spread: Standard deviation of log(ceiling) over units; 0 for one unit that is as said.
    """

    spikes: float = 20.0
    fano: float = 1.0
    drift: float = -0.05
    lost: float = 0.05
    start: float = 0.8
    ceiling: float = 1.3
    pace: float = 480.0
    signal: float = 0.25
    lift: float = 1.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("spikes", "fano", "start", "ceiling", "pace", "signal", "lift"):
            check_number(name, check_positive(name, getattr(self, name)), *EXTREMES)
        check_number("drift", self.drift, -0.999, 10)
        check_number("lost", self.lost, 0, 0.999)
        check_number("spread", self.spread, 0, 10)

    def reliability(self, repeats: float) -> float:
        """Returns ρ(k), the share of the scores' variance that comes from the images, in (0, 1]."""
        noise = self.fano / (self.spikes * self.start * repeats)
        return self.signal**2 / (self.signal**2 + noise)

    def rise(self, images: float, repeats: int, ceiling: FloatArray | float | None = None) -> FloatArray:
        """Returns the mean of a generation before which so many different images were shown, ÷ the best reference."""
        to = self.ceiling if ceiling is None else ceiling
        faster = np.sqrt(self.reliability(repeats) / self.reliability(1))
        return np.asarray(to + (self.start - to) * np.exp(-images / self.pace * faster))

    def gain(self, presentations: float) -> float:
        """Returns what drift makes of a response after so many presentations."""
        return float(np.exp(np.clip(presentations / 1000 * np.log1p(self.drift), -100, 100)))


@dataclass(frozen=True)
class Design:
    """How long a session is.

    Attributes:
        generations: Generations of the evolution.
        per_generation: Different images in each; by default those of `auto`.
        repeats: Presentations of each.
        retest_repeats: Fresh presentations of an image in each re-test.
        interleave: References in each generation.
        references: Reference images of the survey; 160 are bundled.
        candidates: Images that are re-tested first, and references.
        retries: How often a lost presentation is shown again.
    """

    generations: int = 100
    per_generation: int = 10
    repeats: int = Settings.repeats
    retest_repeats: int = Settings.retest_repeats
    interleave: int = Settings.interleave
    references: int = 160
    candidates: int = Settings.retest_candidates
    retries: int = Settings.retries

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_whole(name, value, 0 if name in ("interleave", "references", "retries", "candidates") else 1)

    def evolving(self, lost: float) -> float:
        """Returns the expected presentations before the re-tests, those that are shown again included."""
        shown = self.references + self.generations * (self.per_generation * self.repeats + self.interleave)
        return shown * self._again(lost)

    def presentations(self, lost: float) -> float:
        """Returns the expected presentations of the whole session."""
        return self.evolving(lost) + self.retest_repeats * 2 * (self.candidates + 1) * self._again(lost)

    def _again(self, lost: float) -> float:
        return float(np.sum(lost ** np.arange(self.retries + 1)))

    def kept(self, lost: float) -> float:
        """Returns the share of presentations that have a response after all retries."""
        return float(1 - lost ** (self.retries + 1))


@at_door
def welch_power(
    means: Sequence[float] | NDArray[np.float64],
    variances: Sequence[float] | NDArray[np.float64],
    n: Sequence[float] | NDArray[np.float64],
    alpha: float = 0.05,
) -> float:
    """Returns the probability that Welch's one-sided test finds the first of two samples above the second.

    Args:
        means: Of both populations, ``(2,)``.
        variances: Of both, ``(2,)``.
        n: Values in each sample, ``(2,)``, more than 1; expected numbers need not be whole.
        alpha: Level of the test.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """
    check_within("alpha", alpha, 0.05)
    m, v, k = (np.asarray(values, np.float64) for values in (means, variances, n))
    if not (m.shape == v.shape == k.shape == (2,)) or (v <= 0).any() or (k <= 1).any():
        raise InvalidArgumentError(
            f"means, variances, n: expected two each, variances above 0 and more than one value, got {means!r}, "
            f"{variances!r}, {n!r}."
        )
    return float(_power(m[:1], m[1:], v[:1], v[1:], k[0], k[1], alpha)[0])


def _power(
    a: FloatArray, b: FloatArray, va: FloatArray, vb: FloatArray, na: float, nb: float, alpha: float
) -> FloatArray:
    """Returns the power for several pairs of means and variances, each ``(k,)``, and two sizes of samples."""
    if min(na, nb) <= 1:
        return np.zeros(np.shape(a))  # nothing can be tested
    se2 = va / na + vb / nb
    df = se2**2 / ((va / na) ** 2 / (na - 1) + (vb / nb) ** 2 / (nb - 1))
    delta = (a - b) / np.sqrt(se2)
    found = stats.nct.sf(stats.t.isf(alpha, df), df, np.clip(delta, -30, 30))
    normal = stats.norm.sf(stats.norm.isf(alpha) - delta)
    return np.asarray(np.clip(np.where(np.isnan(found), normal, found), 0, 1))


@at_door
def success_probability(model: NoiseModel, design: Design, success: Success = "beats", alpha: float = 0.05) -> float:
    """Returns the probability that a session succeeds, on average over units where these differ.

    Args:
        model: What is expected.
        design: How long it is.
        success: "beats" the best reference, or "rises" from the first generation to the last.
        alpha: Level of the test: the probability of a success where there is no effect.
    """
    _check_parts(model, design)
    check_within("alpha", alpha, 0.05)
    _check_success(success)
    nodes, weights = np.polynomial.hermite_e.hermegauss(21 if model.spread else 1)  # nodes over units
    ceilings = model.ceiling * np.exp(model.spread * nodes)
    (a, b), (va, vb), (na, nb) = _populations(model, design, success, ceilings)
    return float(np.sum(weights * _power(a, b, va, vb, na, nb, alpha)) / np.sum(weights))


def _populations(
    model: NoiseModel, design: Design, success: Success, ceilings: FloatArray
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray], tuple[float, float]]:
    """Returns means and variances of the two samples that are compared, for each ceiling, and their sizes."""
    gain, kept = model.gain(design.evolving(model.lost)), design.kept(model.lost)
    m, images = model.spikes, design.per_generation * (design.generations - 1)
    last = m * gain * model.rise(images, design.repeats, ceilings)
    if success == "beats":
        a, b = last * model.lift, np.full(len(ceilings), m * gain)
        n = design.retest_repeats * kept
        return (a, b), (model.fano * a, model.fano * b), (n, n)
    first = np.full(len(ceilings), m * model.start)
    noise = model.fano / (design.repeats * kept)
    n = design.per_generation * (1 - (1 - kept) ** design.repeats)
    va, vb = ((model.signal * mean) ** 2 + noise * mean for mean in (last, first))
    return (last, first), (va, vb), (n, n)


@at_door
def simulated_power(
    model: NoiseModel, design: Design, success: Success = "beats", alpha: float = 0.05, runs: int = 2000, seed: int = 0
) -> xr.Dataset:
    """Draws sessions from a model, counts of spikes and losses included, and tests each as a session does.

    Counts are Poisson's for F = 1, negative binomial above and binomial below it.

    Args:
        model: What is expected.
        design: How long it is.
        success: As in `success_probability`.
        alpha: Level of the test.
        runs: How many sessions.
        seed: Of the draws.

    Returns:
        `power`, the share of sessions that succeed, with its Wilson interval `low` and `high` (95 %); coordinates
        `runs` and `seed`.
    """
    _check_parts(model, design)
    check_within("alpha", alpha, 0.05)
    check_whole("runs", runs, 1)
    _check_success(success)
    rng = named_generator(seed, "plan")
    ceilings = model.ceiling * np.exp(model.spread * rng.standard_normal(runs))
    (a, b), _, _ = _populations(model, design, success, ceilings)
    samples = [_drawn(mean, model, design, success, rng) for mean in (a, b)]
    won = int((_welch_p(*samples) < alpha).sum())
    interval = stats.binomtest(won, runs).proportion_ci(method="wilson")
    found = {"power": won / runs, "low": float(interval.low), "high": float(interval.high)}
    return xr.Dataset(found, coords={"runs": runs, "seed": seed})


def _drawn(
    mean: FloatArray, model: NoiseModel, design: Design, success: Success, rng: np.random.Generator
) -> FloatArray:
    """Draws the scores of one sample in each session, ``(runs, n)``, NaN where all presentations were lost."""
    if success == "beats":
        each = np.repeat(mean[:, None], design.retest_repeats, 1)[..., None]
    else:
        size = (len(mean), design.per_generation)
        s2 = np.log1p(model.signal**2)
        image = mean[:, None] * np.exp(np.sqrt(s2) * rng.standard_normal(size) - s2 / 2)
        each = np.repeat(image[..., None], design.repeats, 2)
    counts = _drawn_counts(each, model.fano, rng)
    counts[rng.random(counts.shape) < 1 - design.kept(model.lost)] = np.nan
    valid = ~np.isnan(counts)
    number = valid.sum(-1)
    return np.where(number > 0, np.where(valid, counts, 0).sum(-1) / np.maximum(number, 1), np.nan)


def _drawn_counts(mean: FloatArray, fano: float, rng: np.random.Generator) -> FloatArray:
    """Draws counts of the given means and Fano factor; below 1 only as near as a binomial of whole n comes."""
    if fano == 1:
        return np.asarray(rng.poisson(mean), float)
    if fano > 1:
        return np.asarray(rng.poisson(rng.gamma(mean / (fano - 1), fano - 1)), float)
    n = np.maximum(np.rint(mean / (1 - fano)), np.ceil(mean)).astype(np.int64)
    return np.asarray(rng.binomial(n, mean / np.maximum(n, 1)), float)


def _welch_p(a: FloatArray, b: FloatArray) -> FloatArray:
    """Returns one-sided p-values of rows ``(runs, n)`` without NaN; 1 where nothing can be tested."""
    p = stats.t.sf(*welch(a, b))
    with np.errstate(invalid="ignore"):
        ma, mb = (np.nansum(x, 1) / (~np.isnan(x)).sum(1) for x in (a, b))
    return np.asarray(np.where(np.isnan(p), np.where(ma > mb, 0.0, 1.0), p))


@at_door
def plan(
    models: NoiseModel | Sequence[NoiseModel],
    *,
    generations: Sequence[int] = (20, 40, 80, 120, 160, 240),
    repeats: Sequence[int] = (1,),
    retest_repeats: Sequence[int] = (10, 20, 40),
    design: Design | None = None,
    success: Success = "beats",
    wanted: float = 0.8,
    alpha: float = 0.05,
    sure: bool = False,
    soa_s: float = Timing.soa_s,
    presentations: int | None = None,
) -> xr.Dataset:
    """Returns the probability of success for many designs, and the cheapest one that reaches what is wanted.

    Args:
        models: What is expected; several, as `closedloop.analysis.pilot_models` draws them, give intervals: the first
            is the estimate, the others are its bootstrap.
        generations: Generations to consider.
        repeats: Presentations of each evolving image to consider.
        retest_repeats: Presentations of each image in a re-test to consider.
        design: What is the same in all designs; default `Design()`.
        success: As in `success_probability`.
        wanted: The power that is wanted, between 0 and 1.
        alpha: Level of the test.
        sure: Whether the lower end of the interval must reach it, and not only the estimate; needs several models.
        soa_s: Seconds from one presentation to the next.
        presentations: Those that there is time for, of the whole session; a design that takes more is neither the
            cheapest nor the likeliest. None for any number.

    Returns:
        `power`, `low`, `high` (95 %, NaN for a single model, which has no uncertainty), `images` (evolved
        presentations), `presentations` (of the whole session, with those shown again) and `minutes`, all
        ``(generations, repeats, retest_repeats)``; `cheapest`, the places of the cheapest design ``(3,)``, or -1
        where none reaches what is wanted, with the `reason`; `likeliest`, the places of the design that reaches most,
        or -1 where there is time for none.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """
    whole = isinstance(models, Sequence) and not isinstance(models, str)
    several = [models] if isinstance(models, NoiseModel) else list(models) if whole else []
    if not several or not all(isinstance(model, NoiseModel) for model in several):
        raise InvalidArgumentError(f"models: expected a NoiseModel or several, got {models!r:.80}.")
    if sure and len(several) < 2:
        raise InvalidArgumentError(
            "sure: expected several models, whose spread is the interval, such as those of a pilot's resamples "
            "(closedloop.analysis.pilot_models); a single one has none."
        )
    check_within("wanted", wanted, 0.8)
    check_within("alpha", alpha, 0.05)
    check_positive("soa_s", soa_s)
    if presentations is not None:
        check_whole("presentations", presentations, 1)
    axes = {"generations": generations, "repeats": repeats, "retest_repeats": retest_repeats}
    for name, values in axes.items():
        if not len(values):
            raise InvalidArgumentError(f"{name}: expected at least one number, got none.")
        for value in values:
            check_whole(name, value, 1)
    base = Design() if design is None else design
    _check_parts(several[0], base)
    shape = tuple(len(values) for values in axes.values())
    found = {name: np.full(shape, np.nan) for name in ("power", "low", "high", "images", "presentations")}
    for place in product(*map(range, shape)):
        chosen = {name: int(values[i]) for (name, values), i in zip(axes.items(), place, strict=True)}
        one = replace(base, **chosen)
        powers = [success_probability(model, one, success, alpha) for model in several]
        found["power"][place] = powers[0]
        if len(powers) > 1:
            found["low"][place], found["high"][place] = np.quantile(powers[1:], [0.025, 0.975])
        found["images"][place] = one.generations * one.per_generation * one.repeats
        found["presentations"][place] = one.presentations(several[0].lost)
    reached = found["low" if sure else "power"]
    cheapest, likeliest, reason = _chosen(reached, found["presentations"], wanted, presentations)
    return xr.Dataset(
        {
            **{name: (tuple(axes), values) for name, values in found.items()},
            "minutes": (tuple(axes), found["presentations"] * soa_s / 60),
            "cheapest": ("axis", cheapest),
            "likeliest": ("axis", likeliest),
        },
        coords={
            **{name: [int(v) for v in values] for name, values in axes.items()},
            "axis": list(axes),
            "reason": reason,
            "wanted": wanted,
            "alpha": alpha,
            "per_generation": base.per_generation,
            "success": success,
            "sure": sure,
        },
    )


def _chosen(
    reached: FloatArray, cost: FloatArray, wanted: float, limit: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Returns the places of the cheapest design that reaches what is wanted and of the likeliest, and a reason.

    A place is -1 where there is no such design; of designs that are equally likely the cheapest counts.
    """
    found, none = np.nan_to_num(reached, nan=0.0), np.full(3, -1, np.int64)
    within = np.isfinite(cost) if limit is None else cost <= limit
    bound = "" if limit is None else f" of at most {limit:,} presentations"
    if not within.any():
        return none, none, f"no design{bound} is among them; the shortest takes {float(cost.min()):,.0f}"
    most = within & (found == found[within].max())
    likeliest = _at_least(cost, most)
    enough = within & (found >= wanted)
    if not enough.any():
        reason = f"no design{bound} reaches {wanted:g}; the best one reaches {found[most].max():.2f}"
        return none, likeliest, reason
    return _at_least(cost, enough), likeliest, ""


def _at_least(cost: FloatArray, among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the place of the lowest cost among some."""
    return np.array(np.unravel_index(int(np.where(among, cost, np.inf).argmin()), cost.shape), np.int64)


def _check_parts(model: Any, design: Any) -> None:
    """Raises InvalidArgumentError unless these are a model and a design."""
    for name, value, kind in (("model", model, NoiseModel), ("design", design, Design)):
        if not isinstance(value, kind):
            raise InvalidArgumentError(f"{name}: expected a {kind.__name__}, got {value!r:.80}.")


def _check_success(success: str) -> None:
    if success not in ("beats", "rises"):
        raise InvalidArgumentError(f"success: expected 'beats' or 'rises', got {success!r:.80}.")
