"""Stopping when sure: rules with a probability, which look several times and say how often they err.

`Futility` asks whether more images are worth while: the posterior probability that the next N gain more than a share.
`Beats` asks whether the evolution is done: a sequential test that the images of a generation drive the unit more than
every reference image does, whose level holds over all looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from closedloop.checks import check_number, check_positive, check_whole, check_within
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.loop.stopping import Plateau, Scored, StoppingRule, Target
from closedloop.readable import percent


def chance_of_gain(history: Sequence[Scored], images: int, gain: float) -> float:
    """Returns the posterior probability that more images raise the mean of a generation by more than a share.

    The mean is a + b φ(i) with φ(i) = 1 - exp(-i / κ) after i images, with Gaussian noise of unknown variance: flat
    priors on a, on the rise b φ over the images so far and on the logarithm of the variance, and a uniform prior on the
    logarithm of κ from 1/20 of the images so far to 20 times as many, where the curve is all but a straight line. Then
    the future rise is Student's t for each κ, and κ is averaged over by its marginal likelihood (Gelman et al. 2013,
    Bayesian Data Analysis, chapter 14).

    Args:
        history: Of one thread; generations that were lost are left out.
        images: How many more.
        gain: Share of the present mean, by its absolute value.

    Returns:
        A number in [0, 1]; 1 where there are fewer than six generations.
    """
    known = [s for s in history if np.isfinite(s.mean)]
    if len(known) < 6:
        return 1.0
    y, i = np.array([s.mean for s in known]), np.array([s.images for s in known], float)
    # Paces are multiples of the images so far; the last ones are all but straight lines.
    n, pace = len(y), (np.geomspace(0.05, 20, 41) * i[-1])[:, None]  # all paces at once, one in each row
    seen = 1 - np.exp(-(i - i[0]) / pace)
    x = seen / seen[:, -1:]  # b is then the rise over the images so far
    future = (1 - np.exp(-(i[-1] - i[0] + images) / pace[:, 0])) / seen[:, -1] - 1
    # The line a + b x by least squares: `spread` is the sum of squares of x about its mean, 1 / spread the variance of
    # b over that of the noise, and 1 / (n spread) the determinant of the inverse of the normal equations.
    about = x - x.mean(1, keepdims=True)
    spread = (about**2).sum(1)
    b = about @ y / spread
    a = y.mean() - b * x.mean(1)
    rest = np.maximum(((y - a[:, None] - b[:, None] * x) ** 2).sum(1), 1e-300)
    weight = -0.5 * np.log(n * spread) - (n - 2) / 2 * np.log(rest)
    # Of the rise to come, b · future, and of the share of the present mean a + b that it must exceed.
    asked, scale = gain * np.abs(a + b), future * np.sqrt(rest / (n - 2) / spread)
    chance = stdtr(n - 2, (b * future - asked) / np.maximum(scale, 1e-300))  # scipy.stats is slow to import
    share = np.exp(weight - weight.max())
    return float((share * chance).sum() / share.sum())


@final
@dataclass(frozen=True)
class Futility:
    """Stops when more images are unlikely to be worth while.

    Attributes:
        images: N, how many more images are considered.
        gain: Share of the present mean by which they must raise it.
        probability: Posterior probability of that below which the thread ends; see `chance_of_gain`. It is looked at
            after every generation, so that the rule errs more often than this: in 3 % of drawn evolutions with 0.02, in
            18 % with 0.1 (`benchmarks/stopping.py`).
    """

    images: int = 500
    gain: float = 0.05
    probability: float = 0.02

    def __post_init__(self) -> None:
        check_whole("Futility: images", self.images, 1)
        check_positive("Futility: gain", self.gain)
        check_within("Futility: probability", self.probability, 0.02)

    def __call__(self, history: Sequence[Scored]) -> str | None:
        """Returns a reason once the probability is below the one that is asked for."""
        chance = chance_of_gain(history, self.images, self.gain)
        if chance >= self.probability:
            return None
        return (
            f"futility: the probability that {self.images:,} more images raise the mean by more than "
            f"{percent(self.gain, 1)} is {chance:.2g}"
        )


class Naturals(NamedTuple):
    """What is known of the reference images by a thread's objective, presentation by presentation.

    Attributes:
        n: Presentations of each that were not lost, ``(m,)``.
        mean: Mean score of each, ``(m,)``; 0 where none.
        squares: Sum of squared deviations from it, ``(m,)``.
    """

    n: FloatArray
    mean: FloatArray
    squares: FloatArray

    @classmethod
    def none(cls, m: int) -> Naturals:
        """Returns what is known before the first presentation."""
        return cls(np.zeros(m), np.zeros(m), np.zeros(m))

    def with_scores(self, which: NDArray[np.int64], scores: FloatArray) -> Naturals:
        """Adds one score for each presentation, NaN where lost (Welford 1962)."""
        n, mean, squares = (column.copy() for column in self)
        for i, score in zip(which.tolist(), scores.tolist(), strict=True):
            if np.isfinite(score):
                n[i] += 1
                step = score - mean[i]
                mean[i] += step / n[i]
                squares[i] += step * (score - mean[i])
        return Naturals(n, mean, squares)


@runtime_checkable
class Comparing(Protocol):
    """A stopping rule that compares a thread's images with the references."""

    def compare(self, scores: FloatArray, naturals: Naturals, generation: int) -> str | None:
        """Looks at the scores ``(n,)`` of a generation's images, NaN where lost; ``generation`` counts from 1."""
        ...


@final
@dataclass(frozen=True)
class Beats:
    """Stops when the images of a generation drive the unit more than the best reference image does.

    At each look Welch's one-sided test is asked of the generation against each reference; only if it is above every one
    of them the thread ends. That has the level of a single test whichever reference is the best, which nobody has to
    guess (an intersection-union test, Berger 1982), so that the luck of the seemingly best one does no harm. Look k has
    the level alpha / (k (k + 1)): their sum is alpha, however many looks there are. The images of a generation were
    chosen before they were shown, so their scores are fresh. The variance of a reference's responses is F times its
    mean, with F pooled over all references that were shown twice, or the pooled variance where that is more.

    The level supposes that responses do not drift upwards between survey and look: with drift take `drift="divide"`.
    References must be shown again (`interleave`), the more the sooner it ends.

    Attributes:
        alpha: Probability that it ends though no generation so far was above the best reference, at most.
        every: Generations from one look to the next.
    """

    alpha: float = 0.05
    every: int = 5

    def __post_init__(self) -> None:
        check_within("Beats: alpha", self.alpha, 0.05)
        check_whole("Beats: every", self.every, 1)

    def __call__(self, history: Sequence[Scored]) -> str | None:
        """Returns None: it looks at references, too; see `compare`."""
        return None

    def compare(self, scores: FloatArray, naturals: Naturals, generation: int) -> str | None:
        """Returns a reason once a look finds the generation above every reference."""
        if generation % self.every:
            return None
        look = generation // self.every
        level = self.alpha / (look * (look + 1))
        p = largest_p(scores, naturals)
        if not p <= level:
            return None
        return (
            f"beats: the mean of the generation is above every reference (p = {p:.2g}, look {look}, "
            f"alpha {self.alpha:g} over all looks)"
        )


def largest_p(scores: FloatArray, naturals: Naturals) -> float:
    """Returns the largest one-sided p-value of a generation against each reference that was shown.

    Args:
        scores: Of the images of a generation, ``(n,)``, NaN where lost.
        naturals: Of the references.

    Returns:
        A number in [0, 1]; 1 where nothing can be tested: fewer than two scores, or no reference that was shown twice.
    """
    x = scores[np.isfinite(scores)]
    seen = naturals.n > 0
    n, mean, squares = (column[seen] for column in naturals)
    free = n - 1
    if len(x) < 2 or not seen.any() or free.sum() < 1:
        return 1.0
    pooled = squares.sum() / free.sum()
    level = (free * np.maximum(mean, 0)).sum()
    v = np.maximum(pooled, squares.sum() / level * mean) if level > 0 else np.full(len(n), pooled)
    a, b = x.var(ddof=1) / len(x), v / n
    if (a + b).min() <= 0:  # without noise
        return 0.0 if x.mean() > mean.max() else 1.0
    df = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / free.sum())
    return float(stdtr(df, (mean - x.mean()) / np.sqrt(a + b)).max())


#: Rules by name, as files and commands have them.
RULES: dict[str, type[StoppingRule]] = {"plateau": Plateau, "target": Target, "futility": Futility, "beats": Beats}


def parse_rule(word: str) -> dict[str, float | int | str]:
    """Returns a rule as a file has it from a word such as "futility:500:0.05:0.02" or "beats:0.05".

    Numbers stand in the order of the rule's attributes; those that are left out have their defaults.

    Raises:
        InvalidArgumentError: No such rule, too many numbers, or something else.
    """
    name, *numbers = word.strip().split(":")
    if name not in RULES:
        raise InvalidArgumentError(
            f"stop: expected one of {', '.join(sorted(RULES))}, with numbers behind colons, got {word!r:.80}."
        )
    known = [entry.name for entry in fields(RULES[name])]  # type: ignore[arg-type]
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        raise InvalidArgumentError(f"stop: {name}: expected numbers, got {word!r:.80}.") from None
    if len(values) > len(known):
        raise InvalidArgumentError(f"stop: {name}: expected at most {len(known)} numbers ({', '.join(known)}).")
    said: dict[str, float | int | str] = {"name": name}
    for key, value in zip(known, values, strict=False):
        check_number(f"stop: {name}: {key}", value)
        whole = key in ("generations", "images", "every") and value == int(value)
        said[key] = int(value) if whole else value
    return said
