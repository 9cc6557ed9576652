"""The default optimizer, `Auto`: it learns from all recent codes at once, and measures how noisy the subject is.

An evolution strategy throws a generation away once its mean has moved. Under noise that is a waste: what one generation
tells about the slope is little, what twenty tell together is much. So the scores of the last codes are described by a
Gaussian process, whose likelihood says how far scores are alike, how large the noise is, and whether it grows with the
response (`closedloop.optimizers.auto_surrogate`). The mean goes to the top of that description, and the next codes are
drawn around it in mirrored pairs, at an angle that shrinks with the budget, and less where there is noise. What the
process takes for noise may be a rough landscape; so one code comes twice in every third generation, and its two scores
say how wide the angle must be.

Related: local Bayesian optimization (Eriksson et al. 2019, "TuRBO", NeurIPS); relevance of coordinates from slopes
(Rasmussen & Williams 2006, section 5.1); the shell, and a planned decay of the angle, are those of SphereCMA (Wang &
Ponce 2022, GECCO); mirrored pairs (Brockhoff et al. 2010, PPSN); the average of the last means (Polyak & Juditsky 1992,
SIAM Journal on Control and Optimization).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import BUDGET, FloatArray, Space, State, Subject
from closedloop.optimizers.auto_coordinates import JITTER, Coordinates
from closedloop.optimizers.auto_surrogate import (
    LENGTHS,
    NOISES,
    Laws,
    Surrogate,
    Warp,
    faded,
    improve_laws,
    log_evidence,
    similarity,
    squared_distances,
    steadied,
    warped_profile,
)
from closedloop.optimizers.base import (
    AskTell,
    averaged,
    check_budget,
    check_population,
    check_start,
    check_state,
    exponent_of,
)
from closedloop.recipes import build
from closedloop.signatures import at_door

#: Generations from one judgement of the process's laws, and of the coordinates' weights, to the next.
JUDGED_EVERY = 8
#: Codes that are remembered where there is no noise: each tells so much that older ones add nothing but time.
QUIET_WINDOW = 400
#: Pairs of scores of one code from which the noise counts as measured: one pair may be alike by chance.
KNOWN_PAIRS = 5


def remembered_codes(dim: int) -> int:
    """Returns how many codes of ``dim`` numbers `Auto` remembers: 800, but at most 2²¹ numbers, 8 MB, in all."""
    return int(min(800, 2**21 // dim))


def auto(
    space: Space,
    seed: int = 0,
    *,
    images: int | None = None,
    population: int = 10,
    start: FloatArray | None = None,
    radius: float | None = None,
    features: str | Mapping[str, Any] | Subject | None = None,
    readout: str | None = None,
) -> Any:
    """Makes `Auto`; with a feature network one with eyes: `closedloop.twins.auto_with_eyes.SightedAuto`.

    Args:
        space: See `Auto`.
        seed: See `Auto`.
        images: See `Auto`.
        population: See `Auto`.
        start: See `Auto`.
        radius: See `Auto`; not with a feature network.
        features: What a twin reads, such as "lite1"; see `closedloop.twins.fit_twin`. None for codes alone.
        readout: How it does; likewise. None for "ridge".
    """
    options: dict[str, Any] = {"images": images, "population": population, "start": start}
    if radius is not None:
        options["radius"] = radius
    if readout is not None:
        options["readout"] = readout
    return (
        Auto(space, seed, **options)
        if features is None
        else build("optimizers", "auto-with-eyes", space, seed, features=features, **options)  # on a floor above
    )


@final
@dataclass(frozen=True)
class Plan:
    """How wide the angle between mean and samples is, in degrees.

    Attributes:
        first: In the beginning, without noise and in much.
        last: In the end, likewise.
        half: Noise, over the scores' own variance, at which the angle is half way between the two, on a logarithmic
            scale.
    """

    first: tuple[float, float]
    last: tuple[float, float]
    half: float

    def angle_deg(self, noise: float, part: float) -> float:
        """Returns the angle at a noise, when this part of the budget is used; it falls exponentially."""
        share = noise / (noise + self.half)
        first, last = (quiet ** (1 - share) * noisy**share for quiet, noisy in (self.first, self.last))
        return float(first * (last / first) ** part)


#: On a shell far codes tell most of a direction under noise; elsewhere an angle is a length, kept within the prior.
SHELL, ELSEWHERE = Plan((45.0, 60.0), (3.0, 30.0), 0.1), Plan((35.0, 35.0), (3.0, 15.0), 0.3)


@final
class Auto(AskTell):
    """Local Bayesian optimization of the score for 2 to some 10,000 dimensions, any noise, and a given budget.

    Lost codes are left out. The unit of the scores does not matter; their level does, for noise may grow with a
    response above 0. Memory: at most 800 codes (400 where there is no noise), or 2²¹ numbers of codes in single
    precision, and the distances between them.

    Args:
        space: Where to search. An unbounded space of at least 16 dimensions is searched by direction and length, from
            the shell of its prior, scale · √dim, on; others as they are, up to the outer end of the prior. Bounds are
            kept.
        seed: Seed of its own random generator.
        images: Budget of codes that the plan is for; default 4000. The last codes are drawn close to the mean.
        population: Codes for each generation.
        start: A code ``(dim,)`` to begin around, instead of with draws from the prior.
        radius: Fixed length of all codes from the middle of the prior, in an unbounded space of at least 16 dimensions;
            default: it is searched, too.
    """

    name = "auto"
    memory: ClassVar[tuple[str, ...]] = (
        "x",  # remembered codes (n, size), in the coordinates of `Coordinates`
        "y",  # their scores (n,)
        "expected",  # what the process expects of them (n,)
        "alpha",  # their weights α in its prediction (n,); None before the first
        "d",  # squared distances between them (n, n)
        "t",  # how many codes were told when they were (n,)
        "w",  # weight of each coordinate in those distances (size,)
        "relevance",  # squared slopes of the process along each coordinate, running mean (size,)
        "m",  # the mean around which samples are drawn (size,); None before the first
        "laws",  # indices of ℓ and η, the power of the noise, indices of c and τ (5,)
        "mean",  # constant part of the prediction, in standard deviations of the scores
        "k",  # generations that were learnt from
        "used",  # codes that were told, lost ones among them
        "doubt",  # variance of the noise by codes that came twice
        "pairs",  # how many such pairs it is the mean of
        "average",  # running mean of the means (size,)
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
        radius: float | None = None,
    ) -> None:
        check_budget(images)
        check_population(population, 2)
        first = None if start is None else check_start(start, space)
        if radius is not None:
            check_positive("radius", radius)
        self.coordinates: Coordinates = Coordinates(space, radius)
        if radius is not None and not self.coordinates.curved:
            raise InvalidArgumentError(
                f"radius: expected none in {space!r}; lengths are fixed in unbounded spaces of 16 dimensions and more."
            )
        if first is not None and self.coordinates.curved and np.allclose(first, space.center):
            raise InvalidArgumentError(
                "start: expected a code away from the middle of the prior; the middle has no direction."
            )
        super().__init__(space, seed, images=images, population=int(population), start=first, radius=radius)
        self.images: int = BUDGET if images is None else int(images)
        self.population: int = int(population)
        self.window: int = max(remembered_codes(space.dim), 2 * self.population)
        self._x = np.empty((0, self.coordinates.size), np.float32)
        self._y, self._t = np.empty(0), np.empty(0)
        self._expected: FloatArray = np.empty(0)
        self._alpha: FloatArray | None = None
        self._d = np.empty((0, 0), np.float32)
        self._w, self._relevance = np.ones(self.coordinates.size), np.zeros(self.coordinates.size)
        self._m = None if first is None else self.coordinates.of(first[None])[0]
        self._laws: NDArray[np.int_] = np.array([4, 6, 0, 0, 0])
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

    @property
    def quiet(self) -> bool:
        """Whether the noise is small beside the scores' own differences; not before it was measured."""
        return self._pairs >= KNOWN_PAIRS and self.noise < self._plan.half

    @property
    def _plan(self) -> Plan:
        """How wide the angle between mean and samples is."""
        return SHELL if self.coordinates.curved else ELSEWHERE

    def angle_deg(self) -> float:
        """Returns the expected angle between mean and samples in the next generation, in degrees."""
        if self._used + 2 * self.population > self.images and self.noise < self._plan.half:
            return 2.25  # the last two generations are drawn close to the mean
        return self._plan.angle_deg(self.noise, self._used / self.images)

    def restore(self, state: State) -> None:
        """Goes back to a saved state, also of a run from before lengths were searched and memories ended."""
        check_state(self.name, state, ("x", "y", "w", "m", "laws"), self.space.dim)
        average = state.get("m") if state.get("k") else None
        state = {"doubt": 0.0, "pairs": 0, "average": average, "exponent": 0, **state}
        if "t" not in state:
            state |= _with_lengths(state, self.coordinates.size - self.space.dim)
        super().restore(state)

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
        remembered = self._x[np.argsort(-self._promised(), kind="stable")].astype(float)
        return self.coordinates.codes(self.coordinates.inside(np.vstack([self._m, self._average, remembered])[:n]))

    def _propose(self) -> FloatArray:
        """Returns codes around the mean, or draws, ``(population, dim)``; in every third generation one comes twice."""
        codes = self._around()
        if self._k % 3 == 0 and self.population > 3:
            codes[-1] = codes[0]
        return codes

    def _around(self) -> FloatArray:
        """Returns codes around the mean in mirrored pairs, ``(population, dim)``; draws from the prior at first."""
        if self._m is None:
            return self._drawn()
        z, half = self._rng.standard_normal((self.population, self.coordinates.size)), self.population // 2
        z[half : 2 * half] = -z[:half]  # mirrored pairs: what is even in z cancels in the slope
        return self.coordinates.codes(self.coordinates.around(self._m, z, float(np.radians(self.angle_deg()))))

    def _drawn(self) -> FloatArray:
        """Returns draws from the prior ``(population, dim)``; the longer nothing answers, the more lengths differ."""
        x = self.coordinates.of(self.space.sample(self.population, self._rng))
        if self.coordinates.free:
            silent = self._used / self.population  # generations without an answer
            wide = min(max(JITTER * np.pi / 4, 0.3 * silent), 1.5)
            x[:, -1] = self._rng.uniform(-wide, wide, self.population)
        return self.coordinates.codes(x)

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
        self._remember(self.coordinates.of(codes).astype(np.float32), scores)
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
        """Adds codes ``(n, size)`` and scores; forgets the oldest beyond the window."""
        expected = np.full(len(y), y.mean()) if self._alpha is None else self._predicted(x)
        most = min(self.window, max(QUIET_WINDOW, 2 * self.population)) if self.quiet else self.window
        left = max(min(len(self._x), most - len(x)), 0)  # others may tell of more codes than are remembered
        old = slice(len(self._x) - left, None)
        self._x = np.vstack([self._x[old], x])
        self._y = np.append(self._y[old], y)
        self._expected = np.append(self._expected[old], expected)
        self._t = np.append(self._t[old], np.full(len(y), float(self._used)))
        w = self._w.astype(np.float32)
        if self._k % JUDGED_EVERY == 0:  # the weights have changed, and all distances with them
            self._d = squared_distances(self._x, self._x, w)
        else:
            new = squared_distances(x, self._x, w)  # (new codes, all): the rest of the matrix stands
            self._d = np.block([[self._d[old, old], new[:, :left].T], [new[:, :left], new[:, left:]]])

    def _predicted(self, x: FloatArray) -> FloatArray:
        """Returns the expected scores of codes ``(n, size)`` before they are told."""
        return Warp(self._y, int(self._laws[3])).back(self._mean + self._surrogate().at(x))

    def _promised(self) -> FloatArray:
        """Returns what is now expected of remembered codes ``(n,)``; old ones may be worth less than they were."""
        if self._laws[4] == 0 or self._alpha is None:
            return self._expected
        k = similarity(self._d, float(LENGTHS[self._laws[0]]))
        return Warp(self._y, int(self._laws[3])).back(self._mean + k @ self._weights())

    def _weights(self) -> FloatArray:
        """Returns α ``(n,)``, each times what still counts of its code."""
        alpha = np.zeros(len(self._x)) if self._alpha is None else self._alpha
        return alpha * faded(self._used - self._t, int(self._laws[4]))

    def _surrogate(self) -> Surrogate:
        """Returns the process as it was last fitted, at this time."""
        return Surrogate(self._x, self._weights(), self._w.astype(np.float32), float(LENGTHS[self._laws[0]]))

    def _fit(self) -> Surrogate:
        """Fits the process to all remembered codes; judges its laws in the first generations, then every so often."""
        laws = Laws(*self._laws.tolist())
        if self._k < 10 or self._k % JUDGED_EVERY == 0:
            rows = self._judges()
            part = self._d[np.ix_(rows, rows)]
            laws = improve_laws(part, self._y[rows], self._expected[rows], self._t[rows], laws)
        warp = Warp(self._y, laws.warp)
        y, profile = warp(self._y), warped_profile(self._expected, laws.power, warp)
        if self._doubt > 0:  # without noise there is nothing that could have heavy tails
            profile = steadied(profile, np.abs(y - warp(self._expected)))
        evidence, self._alpha, self._mean = log_evidence(self._d, y, profile, laws, self._t)
        while evidence == -np.inf:  # codes too close to each other for so little noise
            laws = replace(laws, noise=laws.noise + 1)
            evidence, self._alpha, self._mean = log_evidence(self._d, y, profile, laws, self._t)
        self._laws = np.array([laws.length, laws.noise, laws.power, laws.warp, laws.memory])
        # y - mean = (K + η R) α: the process explains K α of it, and η R α is left to the noise.
        self._expected = warp.back(y - NOISES[laws.noise] * profile * self._alpha)
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
        m: FloatArray = self.coordinates.inside(self._x[int(np.argmax(self._promised()))].astype(float))
        value, slope = surrogate.value_and_slope(m)
        if self._m is not None:
            other, other_slope = surrogate.value_and_slope(self._m)
            if other >= value:
                m, value, slope = self._m, other, other_slope
        first, size = self.coordinates.tangent(slope, m), 0.2  # a step in units of the shell: 0.2 is 11°
        for _ in range(steps):
            uphill = self.coordinates.tangent(slope, m)
            length = float(np.linalg.norm(uphill))
            if length == 0 or size < 1e-3:
                break
            there = self.coordinates.inside(m + size / length * uphill)
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
        directions = slice(self.space.dim)
        if self._k % JUDGED_EVERY == 0 and (mean := self._relevance[directions].mean()) > 0:
            w = 1 - learnt + learnt * self._relevance[directions] / mean  # with mean 1, and never below 1 - learnt
            self._w[directions] = w  # a length stays at 1: all codes tell of it, and its slope is no measure for others


def _with_lengths(state: State, more: int) -> State:
    """Returns what a state of an older version lacks: ``more`` coordinates for lengths, times, warping and memory."""
    n = len(state["y"])
    found = {
        key: np.append(state[key], np.zeros(more)) for key in ("relevance", "m", "average") if state[key] is not None
    }
    return found | {
        "x": np.hstack([state["x"], np.zeros((n, more), np.float32)]).astype(np.float32),
        "w": np.append(state["w"], np.ones(more)),
        "t": np.arange(n) - n + float(state["used"]),
        "laws": np.append(state["laws"], [0, 0]),
    }
