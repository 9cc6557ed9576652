"""The default optimizer, `Auto`: it learns from all recent codes at once, and measures how noisy the subject is.

An evolution strategy throws a generation away once its mean has moved. Under noise that is a waste: what one generation
tells about the slope is little, what twenty tell together is much. So the scores of the last codes are described by a
Gaussian process, whose likelihood says how far scores are alike, how large the noise is, and whether it grows with the
response (`closedloop.optimizers.auto_surrogate`). The mean goes to the top of that description, and the next codes are
drawn around it in mirrored pairs, at an angle that shrinks with the budget, and less where there is noise. What the
process takes for noise may be a rough landscape; so one code comes twice in every third generation, and its two scores
say how far the angle may shrink.

Related: local Bayesian optimization (Eriksson et al. 2019, "TuRBO", NeurIPS); relevance of coordinates from slopes
(Rasmussen & Williams 2006, section 5.1); the shell, and a planned decay of the angle, are those of SphereCMA (Wang &
Ponce 2022, GECCO); mirrored pairs (Brockhoff et al. 2010, PPSN); the average of the last means (Polyak & Juditsky 1992,
SIAM Journal on Control and Optimization).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import at_door
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import BUDGET, FloatArray, Space, State, Subject
from closedloop.optimizers.auto_surrogate import (
    LENGTHS,
    NOISES,
    Laws,
    Surrogate,
    improve_laws,
    log_evidence,
    noise_profile,
    squared_distances,
)
from closedloop.optimizers.base import (
    AskTell,
    averaged,
    check_budget,
    check_population,
    check_start,
    exponent_of,
)
from closedloop.optimizers.shell import Shell
from closedloop.recipes import build

#: By which name `auto` with a feature network is found, on a floor above.
SIGHTED = "auto-with-eyes"
#: Generations from one judgement of the process's laws, and of the coordinates' weights, to the next.
JUDGED_EVERY = 8


def remembered_codes(dim: int) -> int:
    """Returns how many codes of ``dim`` numbers `Auto` remembers: 800, but at most 2²¹ numbers, 8 MB, in all."""
    return int(min(800, 2**21 // dim))


def first_angle_deg(dim: int) -> float:
    """Returns the first angle between mean and samples on a shell of ``dim`` dimensions, in degrees.

    35° up to 600 dimensions; beyond them it grows with a power of them to 50° at 4,096 and more.
    """
    return float(min(35.0 * max(1.0, dim / 600) ** 0.186, 50.0))


def auto(
    space: Space,
    seed: int = 0,
    *,
    images: int | None = None,
    population: int = 10,
    start: FloatArray | None = None,
    features: str | Mapping[str, Any] | Subject | None = None,
) -> Any:
    """Makes `Auto`; with a feature network one with eyes: `closedloop.twins.auto_with_eyes.SightedAuto`.

    Args:
        space: See `Auto`.
        seed: See `Auto`.
        images: See `Auto`.
        population: See `Auto`.
        start: See `Auto`.
        features: What a twin reads, such as "lite1"; see `closedloop.twins.fit_twin`. None for codes alone.
    """
    options: dict[str, Any] = {"images": images, "population": population, "start": start}
    return (
        Auto(space, seed, **options)
        if features is None
        else build("optimizers", SIGHTED, space, seed, features=features, **options)
    )


@final
class Auto(AskTell):
    """Local Bayesian optimization of the score for 2 to some 10,000 dimensions, any noise, and a given budget.

    Lost codes are left out. The unit of the scores does not matter; their level does, for noise may grow with a
    response above 0. Memory: at most 800 codes, or 2²¹ numbers of codes in single precision, and the distances between
    them.

    Args:
        space: Where to search. An unbounded space of at least 16 dimensions is searched on the shell of its prior,
            scale · √dim; others as they are, up to the outer end of the prior. Bounds are kept.
        seed: Seed of its own random generator.
        images: Budget of codes that the plan is for; default 4000. The last codes are drawn close to the mean.
        population: Codes for each generation.
        start: A code ``(dim,)`` to begin around, instead of with draws from the prior.
    """

    name = "auto"
    memory = (
        "x",  # remembered codes (n, dim), from the middle of the space in units of the shell's radius
        "y",  # their scores (n,)
        "expected",  # what the process expects of them (n,)
        "alpha",  # their weights α in its prediction (n,); None before the first
        "d",  # squared distances between them (n, n)
        "w",  # weight of each coordinate in those distances (dim,)
        "relevance",  # squared slopes of the process along each coordinate, running mean (dim,)
        "m",  # the mean around which samples are drawn (dim,); None before the first
        "laws",  # indices of ℓ and η, and the power of the noise (3,)
        "mean",  # constant part of the prediction, in standard deviations of the scores
        "k",  # generations that were learnt from
        "used",  # codes that were told, lost ones among them
        "doubt",  # variance of the noise by codes that came twice
        "pairs",  # how many such pairs it is the mean of
        "average",  # running mean of the means (dim,)
        "exponent",  # of the power of two that is the unit of the scores here
    )

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        images: int | None = None,
        population: int = 10,
        start: FloatArray | None = None,
    ) -> None:
        check_budget(images)
        check_population(population, 2)
        first = None if start is None else check_start(start, space)
        self.shell = Shell(space)
        if first is not None and self.shell.curved and np.allclose(first, space.center):
            raise InvalidArgumentError(
                "start: expected a code away from the middle of the prior; the middle has no direction."
            )
        super().__init__(space, seed, images=images, population=int(population), start=first)
        self.images, self.population = BUDGET if images is None else int(images), int(population)
        self.window = max(remembered_codes(space.dim), 2 * self.population)
        self.first = first_angle_deg(space.dim) if self.shell.curved else 35.0
        self._x = np.empty((0, space.dim), np.float32)
        self._y, self._expected = np.empty(0), np.empty(0)
        self._alpha: FloatArray | None = None
        self._d = np.empty((0, 0), np.float32)
        self._w, self._relevance = np.ones(space.dim), np.zeros(space.dim)
        self._m = None if first is None else self.shell.inside(self.shell.units(first))
        self._laws: NDArray[np.int_] = np.array([4, 6, 0])
        self._mean, self._k, self._used = 0.0, 0, 0
        self._doubt, self._pairs = 0.0, 0
        self._average: FloatArray | None = None
        self._exponent = 0
        self._heard: tuple[FloatArray, FloatArray] = (np.empty((0, space.dim)), np.empty(0))

    @property
    def budget(self) -> int | None:
        """The codes that it was told it may ask for; None as long as nobody has said it."""
        images: int | None = self._options["images"]
        return images

    def plan(self, images: int) -> None:
        """Plans with a budget of `images` codes; before the first `ask`."""
        self.images = self._take_budget(images)

    @property
    def noise(self) -> float:
        """Variance of the noise, by codes that came twice, over that of the remembered scores' own differences."""
        spread = float(self._y.var()) if len(self._y) else 0.0
        # The variance of the scores is that of their own differences and of the noise: the first is what is left.
        return float(self._doubt / max(spread - self._doubt, 1e-3 * self._doubt, 1e-300))

    def angle_deg(self) -> float:
        """Returns the expected angle between mean and samples in the next generation, in degrees."""
        if self._used + 2 * self.population > self.images:
            return 2.25  # the last two generations are drawn close to the mean
        # The angle falls exponentially over the budget: to 3° without noise, to 15° in much. Between the two it is
        # interpolated on a logarithmic scale, half way where the noise has 0.3 times the scores' own variance.
        last = 3.0 * (15.0 / 3.0) ** (self.noise / (self.noise + 0.3))
        return float(self.first * (last / self.first) ** (self._used / self.images))

    def restore(self, state: State) -> None:
        """Goes back to a saved state, also of a run from before codes came twice or means were averaged."""
        average = state.get("m") if state.get("k") else None
        super().restore({"doubt": 0.0, "pairs": 0, "average": average, "exponent": 0, **state})

    def hear(self, codes: FloatArray, scores: FloatArray) -> None:
        """Takes codes ``(n, dim)`` that others proposed, with their scores ``(n,)``; NaN where lost.

        The `tell` that follows learns from them, too. They count towards the budget.
        """
        self._heard = (np.array(codes, float), np.array(scores, float))

    def recommend(self, n: int) -> FloatArray:
        """Returns up to ``n`` codes it takes for the best, best first, ``(≤ n, dim)``; none before it has learnt.

        The mean, the average of the last means, and then remembered codes by what it expects of them.
        """
        if self._m is None or self._average is None:
            return np.empty((0, self.space.dim))
        remembered = self._x[np.argsort(-self._expected, kind="stable")].astype(float)
        return self.shell.codes(self.shell.inside(np.vstack([self._m, self._average, remembered])[:n]))

    def _propose(self) -> FloatArray:
        """Returns codes around the mean, or draws, ``(population, dim)``; in every third generation one comes twice."""
        codes = self._around()
        if self._k % 3 == 0 and self.population > 3:
            codes[-1] = codes[0]
        return codes

    def _around(self) -> FloatArray:
        """Returns codes around the mean in mirrored pairs, ``(population, dim)``; draws from the prior at first."""
        if self._m is None:
            drawn = self.shell.units(self.space.sample(self.population, self._rng))
            return self.shell.codes(self.shell.inside(drawn))
        z, half = self._rng.standard_normal((self.population, self.space.dim)), self.population // 2
        z[half : 2 * half] = -z[:half]  # mirrored pairs: what is even in z cancels in the slope
        angle = np.radians(self.angle_deg())
        if not self.shell.curved:
            # ‖z‖ ≈ √dim, so that a sample is the angle in radians away, in units of the shell.
            return self.shell.codes(self.shell.inside(self._m + angle / np.sqrt(self.space.dim) * z))
        z -= np.outer(z @ self._m, self._m)  # into the tangent plane at m, then to length 1
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        # Exponential map: from m along the great circle in the direction z, by the angle.
        return self.shell.codes(np.cos(angle) * self._m + np.sin(angle) * z)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Describes the scores anew and moves the mean to the top of the description."""
        (others, of_others), self._heard = self._heard, (self._heard[0][:0], np.empty(0))
        self._used += len(scores) + len(of_others)
        kept, heard = ~np.isnan(scores), ~np.isnan(of_others)
        if not kept.any() and not heard.any():
            return
        told = self._in_unit(np.append(scores[kept], of_others[heard]))
        codes, scores = self._join(codes[kept], told[: kept.sum()])
        codes, scores = np.concatenate([codes, others[heard]]), np.append(scores, told[kept.sum() :])
        self._remember(self.shell.units(codes).astype(np.float32), scores)
        if self._y.max() == self._y.min():
            self._alpha = None
            return
        surrogate = self._fit()
        self._m, slope = self._climb(surrogate)
        self._average = averaged(self._average, self._m, self._k)
        self._k += 1
        self._weigh(slope)

    def _in_unit(self, scores: FloatArray) -> FloatArray:
        """Divides scores by a power of two near the first ones; by a new one, for all, where they outgrow it by far."""
        grown = exponent_of(scores) - self._exponent
        if (not len(self._y) and scores.any()) or grown > 100:
            self._exponent += grown
            self._y, self._expected = np.ldexp(self._y, -grown), np.ldexp(self._expected, -grown)
            self._doubt = float(np.ldexp(self._doubt, -2 * grown))
        return np.asarray(np.ldexp(scores, -self._exponent))

    def _join(self, codes: FloatArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Joins a code that came twice, of codes ``(n, dim)`` and scores, to one; its two scores tell the noise."""
        if len(codes) < 3 or not np.array_equal(codes[0], codes[-1]):
            return codes, scores
        keep = self._pairs / (self._pairs + 1)  # a mean of the first 15 pairs, then one that forgets the oldest
        # Two scores of one code differ by noise alone: half of the squared difference is its variance, unbiased.
        self._doubt = keep * self._doubt + (1 - keep) * (scores[0] - scores[-1]) ** 2 / 2
        self._pairs = min(self._pairs + 1, 15)
        return codes[:-1], np.append((scores[0] + scores[-1]) / 2, scores[1:-1])

    def _remember(self, x: FloatArray, y: FloatArray) -> None:
        """Adds codes ``(n, dim)`` and scores; forgets the oldest beyond the window."""
        expected = np.full(len(y), y.mean()) if self._alpha is None else self._predicted(x)
        left = min(len(self._x), self.window - len(x))
        old = slice(len(self._x) - left, None)
        self._x = np.vstack([self._x[old], x])
        self._y = np.append(self._y[old], y)
        self._expected = np.append(self._expected[old], expected)
        w = self._w.astype(np.float32)
        if self._k % JUDGED_EVERY == 0:  # the weights have changed, and all distances with them
            self._d = squared_distances(self._x, self._x, w)
        else:
            new = squared_distances(x, self._x, w)  # (new codes, all): the rest of the matrix stands
            self._d = np.block([[self._d[old, old], new[:, :left].T], [new[:, :left], new[:, left:]]])

    def _predicted(self, x: FloatArray) -> FloatArray:
        """Returns the expected scores of codes ``(n, dim)`` before they are told."""
        return np.asarray(self._y.mean() + self._y.std() * (self._mean + self._surrogate().at(x)))

    def _surrogate(self) -> Surrogate:
        """Returns the process as it was last fitted."""
        alpha = np.zeros(len(self._x)) if self._alpha is None else self._alpha
        return Surrogate(self._x, alpha, self._w.astype(np.float32), float(LENGTHS[self._laws[0]]))

    def _fit(self) -> Surrogate:
        """Fits the process to all remembered codes; judges its laws in the first generations, then every so often."""
        y = (self._y - self._y.mean()) / self._y.std()
        laws = Laws(*self._laws.tolist())
        if self._k < 10 or self._k % JUDGED_EVERY == 0:
            laws = improve_laws(self._d, y, self._expected, self._judges(), laws)
        profile = noise_profile(self._expected, laws.power)
        evidence, self._alpha, self._mean = log_evidence(self._d, y, profile, laws)
        while evidence == -np.inf:  # codes too close to each other for so little noise
            laws = replace(laws, noise=laws.noise + 1)
            evidence, self._alpha, self._mean = log_evidence(self._d, y, profile, laws)
        self._laws = np.array([laws.length, laws.noise, laws.power])
        # y - mean = (K + η R) α: the process explains K α of it, and η R α is left to the noise.
        left_to_noise = NOISES[laws.noise] * profile * self._alpha
        self._expected = self._y.mean() + self._y.std() * (y - left_to_noise)
        return self._surrogate()

    def _judges(self, most: int = 400) -> NDArray[np.intp]:
        """Returns the rows that judge laws, at most ``most``: the newest, and as many of the others at random."""
        n, half = len(self._y), most // 2
        if n <= most:
            return np.arange(n)
        return np.append(np.sort(self._rng.choice(n - half, half, replace=False)), np.arange(n - half, n))

    def _climb(self, surrogate: Surrogate, steps: int = 20) -> tuple[FloatArray, FloatArray]:
        """Returns the top of the description, and the slope where the climb began, both ``(dim,)``.

        Starts at the mean or at the most promising of the remembered codes, and takes ``steps`` steps at most. A step
        that leads up makes the next 1.3 times as long; one that does not is taken back and halved.
        """
        m: FloatArray = self.shell.inside(self._x[int(np.argmax(self._expected))].astype(float))
        value, slope = surrogate.value_and_slope(m)
        if self._m is not None:
            other, other_slope = surrogate.value_and_slope(self._m)
            if other >= value:
                m, value, slope = self._m, other, other_slope
        first, size = self.shell.tangent(slope, m), 0.2  # a step in units of the shell: 0.2 is 11°
        for _ in range(steps):
            uphill = self.shell.tangent(slope, m)
            length = float(np.linalg.norm(uphill))
            if length == 0 or size < 1e-3:
                break
            there = self.shell.inside(m + size / length * uphill)
            higher, next_slope = surrogate.value_and_slope(there)
            if higher > value:
                m, value, slope, size = there, higher, next_slope, 1.3 * size
            else:
                size /= 2
        return m, first

    def _weigh(self, slope: FloatArray) -> None:
        """Makes coordinates along which scores rose steeply, again and again, count more in distances."""
        new, learnt = 0.1, 0.8  # share of this generation's slope; share of a weight that slopes decide
        # Along coordinates scaled by √w the slope is ∂f/∂x_j / √w_j. `slope` comes times ℓ².
        self._relevance = (1 - new) * self._relevance + new * (slope / LENGTHS[self._laws[0]] ** 2) ** 2 / self._w
        if self._k % JUDGED_EVERY == 0 and (mean := self._relevance.mean()) > 0:
            self._w = 1 - learnt + learnt * self._relevance / mean  # with mean 1, and never below 1 - learnt
