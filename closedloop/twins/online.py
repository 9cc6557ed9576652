"""A twin that is fitted while an experiment goes on, and says what to show next.

It is told codes and scores, looks at the images of the codes, and keeps a Bayesian readout of their features
(`closedloop.twins.posterior`). What it proposes are the tops of draws from that posterior (Thompson 1933): each draw is
climbed through generator and feature network, from the most promising of the codes that were shown. How far it may go
from there is decided by how well it has predicted images before they were shown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.checks import make_images, record_images
from closedloop.errors import CallOrderError, InvalidArgumentError, WeightsError
from closedloop.images.eight_bit import quantize
from closedloop.interfaces import STILL, Differentiable, FloatArray, Generator, Space, State, Subject, form_of
from closedloop.optimizers.base import exponent_of
from closedloop.optimizers.shell import Shell
from closedloop.twins.fitting import layer_columns, standardization
from closedloop.twins.judging import LEAST
from closedloop.twins.places import Places, find_masks
from closedloop.twins.posterior import Beliefs, PoissonPosterior, Posterior, believe, layer_scales, score_noise
from closedloop.twins.reading import (
    FACTORIZED,
    RIDGE,
    Read,
    check_readout,
    chosen_kinds,
    has_mask,
    has_spikes,
    kinds_of,
)

#: Images that it remembers; beyond them the oldest quarter is forgotten.
MOST = 1200
#: Images that decide about noise and layers, at most.
JUDGES = 300
#: One step of a climb, in degrees, and the number of steps of one that is trusted as far as any.
STEP_DEG, STEPS = 5.0, 12
#: Newest images by which skill is measured; and what is believed before: a correlation, worth so many images.
SKILL_OF, PRIOR_SKILL, PRIOR_IMAGES = 100, 0.25, 40
#: Codes from which climbs begin.
STARTS = 30
#: Candidates for each draw where nothing can be differentiated.
SCREENED = 12
#: Share of scores that intervals are to hold; by what they are multiplied first; and by how much the logarithm of that
#: moves with each score.
HELD, FIRST_WIDTH, WIDTH_STEP = 0.9, 2.0, 0.3
#: What it keeps of each image, as attributes of these names with a "_" before them.
_ROWS = ("codes", "scores", "fresh", "predicted", "spread", "covered", "expected", "profile")


@final
class OnlineTwin:
    """Learns scores of codes from their images, and proposes codes.

    Args:
        space: Where codes are searched.
        features: Turns images into features.
        readout: See `closedloop.twins.fit_twin`. Where scores below 0 are told, spikes are read linearly.

    Raises:
        InvalidArgumentError: A mask is wanted, and features have no places.
        UnknownNameError: There is no such readout.
    """

    def __init__(self, space: Space, features: Subject, readout: str = RIDGE) -> None:
        self.shell: Shell = Shell(space)
        self.features: Subject = features
        self.generator: Generator | None = None
        self._readout = check_readout(readout)
        self._columns = layer_columns(features)
        even = np.ones(len(features.units), np.float32)
        kinds_of(readout, Places.of(features, even), 0, features.name)  # whether it has places, before it is shown any
        self._codes = np.empty((0, space.dim))
        self._scores, self._fresh = np.empty(0), np.empty(0)  # 1 for a code that had not been shown before
        self._predicted, self._spread, self._covered = (np.empty(0) for _ in range(3))
        self._expected, self._profile = np.empty(0), np.empty(0)
        self._sizes: list[int] = []
        self._judged = 0
        self._width = FIRST_WIDTH
        self._beliefs: Beliefs | None = None
        self._forget_fit()

    def _forget_fit(self) -> None:
        """Drops what follows from codes and scores."""
        self._seen = np.empty((0, 0), np.float32)  # features (n, features), as they are
        self._x = np.empty((0, 0), np.float32)  # standardized
        self._places: Places | None = None
        self._z = np.empty((0, 0), np.float32)  # what is read of them: channels under a mask, or all
        self._kernel = np.empty((0, 0))
        self._center, self._scale, self._scales = (np.empty(0, np.float32) for _ in range(3))
        self._posterior: Posterior | None = None
        self._stale = len(self._codes) > 0

    def see(self, generator: Generator) -> None:
        """Takes the generator of the images.

        Raises:
            InvalidArgumentError: It makes other images than colour stills, or of other codes.
        """
        if form_of(generator) != STILL:
            raise InvalidArgumentError(
                f"generator: expected one of colour stills, got {form_of(generator).describe()}; a twin reads colours."
            )
        if generator.space != self.shell.space:
            raise InvalidArgumentError(
                f"generator: expected one of {self.shell.space}, got {generator.space}; build the optimizer with "
                "generator.space."
            )
        self.generator = generator

    @property
    def ready(self) -> bool:
        """Whether it has learnt anything."""
        self._replay()
        return self._posterior is not None

    @property
    def skill(self) -> float:
        """Correlation of scores with what was predicted of them before, within generations; shrunken towards 0.25.

        Generations count alike, although later ones, with higher scores, vary more.

        Of the newest images that had not been shown before: an image that comes again is remembered, whatever the
        features say. As long as few were predicted, it is what is believed of a twin beforehand.
        """
        judged = np.isfinite(self._scores) & np.isfinite(self._predicted) & (self._fresh > 0)
        known = np.flatnonzero(judged)[-SKILL_OF:]
        group = np.repeat(np.arange(len(self._sizes)), self._sizes)[known]
        unit = exponent_of(self._scores[known])
        y, f = (np.ldexp(values[known], -unit) for values in (self._scores, self._predicted))
        y, f = (_standardized_within(values, group) for values in (y, f)) if len(known) else (y, f)
        size = float(np.sqrt((y**2).sum() * (f**2).sum()))
        r = float((y * f).sum()) / size if size > 0 else 0.0
        return (PRIOR_IMAGES * PRIOR_SKILL + len(known) * r) / (PRIOR_IMAGES + len(known))

    @property
    def coverage(self) -> tuple[int, int]:
        """How many scores lay in the 90 % intervals that were predicted for them, and of how many."""
        known = self._covered[np.isfinite(self._covered)]
        return int(known.sum()), len(known)

    @property
    def promises(self) -> tuple[FloatArray, FloatArray]:
        """What was predicted of each remembered code before it was shown, ``(n,)``, and its score; NaN where none."""
        return self._predicted.copy(), self._scores.copy()

    def steps(self) -> int:
        """Returns the steps of a climb: 1 for a twin without skill, 12 from a skill of 0.3 on."""
        return int(np.clip(round(STEPS * self.skill / 0.3), 1, STEPS))

    # Learning ----------------------------------------------------------------------------------------------------

    def learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Learns from a generation: codes ``(n, dim)`` and scores ``(n,)``, NaN where lost."""
        self._replay()
        found = self._look(codes)
        self._foresee(found, scores)
        shown = {code.tobytes() for code in self._codes}
        self._fresh = np.append(self._fresh, [code.tobytes() not in shown for code in codes])
        self._codes, self._scores = np.concatenate([self._codes, codes]), np.append(self._scores, scores)
        mean = self._known_scores().mean() if np.isfinite(self._scores).any() else np.nan
        foreseen = self._predicted[len(self._profile) :]
        self._expected = np.append(self._expected, np.where(np.isfinite(foreseen), foreseen, mean))
        self._profile = np.append(self._profile, np.ones(len(scores)))
        self._seen = np.concatenate([self._seen, found]) if len(self._seen) else found
        self._sizes.append(len(codes))
        self._forget_oldest()
        if self._judged and len(self._sizes) < max(self._judged + 1, int(1.25 * self._judged)):
            self._grow(len(codes))
        else:
            self._judge()
        self._fit(anew=True)

    def _shown_generator(self) -> Generator:
        """Returns the generator that it was shown.

        Raises:
            CallOrderError: It was shown none.
        """
        if self.generator is None:
            raise CallOrderError(
                "twin: expected see(generator) before the first ask(), for it looks at images; a session calls it."
            )
        return self.generator

    def _look(self, codes: FloatArray) -> NDArray[np.float32]:
        """Returns features ``(n, features)`` of the images of codes, as they are shown."""
        images = quantize(make_images(self._shown_generator(), codes))
        return record_images(self.features, images, "features: ").astype(np.float32)

    def _foresee(self, found: NDArray[np.float32], scores: FloatArray) -> None:
        """Notes what is predicted of a generation, before it is learnt, and whether its scores lie in the intervals."""
        none = np.full(len(scores), np.nan)
        mean, spread, covered = none, none, none
        if self._posterior is not None:
            unit = exponent_of(self._known_scores())
            x = self._read(self._standardized(found))
            mean = self._posterior.mean(x)
            power = self._beliefs.power if self._beliefs else 0
            together = np.append(self._posterior.expected, mean)
            noise = score_noise(together, power)[len(together) - len(mean) :]
            spread = self._posterior.spread(x, noise)
            mean, spread = np.ldexp(mean, unit), np.ldexp(spread, unit)
            with np.errstate(invalid="ignore"):
                # 1.645 is the standard normal quantile of a two-sided interval of 90 %.
                inside = np.abs(scores - mean) <= 1.6448536269514722 * self._width * spread
            covered = np.where(np.isnan(scores), np.nan, inside)
            self._widen(covered)
        self._predicted = np.append(self._predicted, mean)
        self._spread, self._covered = np.append(self._spread, spread), np.append(self._covered, covered)

    def _widen(self, covered: FloatArray) -> None:
        """Widens the next intervals where these held fewer than 90 % of the scores, and narrows them where more.

        In an evolution scores rise, and their noise with them: the last scores are no sample of the next ones. A width
        that follows them by steps holds its share in the long run, whatever they are (Gibbs & Candès 2021, *NeurIPS*;
        Angelopoulos, Candès & Tibshirani 2023, *NeurIPS*).
        """
        steps = WIDTH_STEP * float(np.nansum(HELD - covered))
        self._width = float(np.clip(self._width * np.exp(steps), 1e-3, 1e3))

    def _forget_oldest(self) -> None:
        """Forgets a quarter of the images, by whole generations, when there are too many."""
        if len(self._scores) <= MOST:
            return
        gone, first = 0, 0
        while gone < MOST // 4:
            gone, first = gone + self._sizes[first], first + 1
        self._sizes = self._sizes[first:]
        for name in _ROWS:
            setattr(self, f"_{name}", getattr(self, f"_{name}")[gone:])
        self._seen = self._seen[gone:]
        self._judged = 0

    def _judge(self) -> None:
        """Standardizes features anew, over all images, and lets the evidence choose noise and layers."""
        self._judged = len(self._sizes)
        self._standardize()
        known = np.flatnonzero(~np.isnan(self._scores))
        y = self._known_scores()
        if len(y) > 1 and y.max() > y.min():
            y, expected = (np.ldexp(v[known], -exponent_of(y)) for v in (self._scores, self._expected))
            at = np.unique(np.linspace(0, len(known) - 1, min(JUDGES, len(known))).round().astype(int))
            self._beliefs = self._believed(self._x[known[at]], y[at], expected[at])
        self._relate()

    def _believed(self, x: NDArray[np.float32], y: FloatArray, expected: FloatArray) -> Beliefs:
        """Returns what the evidence chooses of standardized features with scores; the readout by parts held out."""
        wanted = self._readout
        if y.min() < 0 and has_spikes(wanted):
            wanted = FACTORIZED if has_mask(wanted) else RIDGE
        if wanted == RIDGE:
            return believe(x, list(self._columns.values()), y, expected)
        one = np.ones(len(y))
        kinds = kinds_of(wanted, self._places, float(y.min()), self.features.name)
        kind = kinds[0]
        if len(kinds) > 1 and len(y) >= LEAST:
            kind = chosen_kinds(Read.of(x, self._columns, self._places), kinds, y[:, None], one, len(y))[0]
        mask, columns = None, self._columns
        if has_mask(kind) and self._places is not None:
            mask = find_masks(x, self._places, y[:, None], one)[0]
            x, columns = self._places.seen(x, mask), self._places.columns
        found = replace(believe(x, list(columns.values()), y, expected), kind=kind, mask=mask)
        if not has_spikes(kind):
            return found
        scales = layer_scales(x.shape[1], columns.values(), found.shares)
        spikes = PoissonPosterior(x, (x * scales).astype(float) @ x.T, scales, y)
        return replace(found, ratio=spikes.ratio, power=1)

    def _standardize(self) -> None:
        """Makes the features of the images that were there at the last judgement have mean 0 and variance 1."""
        base = self._seen[: sum(self._sizes[: self._judged])]
        self._center, self._scale = standardization(base)
        self._places = Places.of(self.features, self._scale) if self._readout != RIDGE else None
        self._x = self._standardized(base)

    def _standardized(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((found - self._center) * self._scale)

    def _read(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns what is read of standardized features: channels under the mask, if there is one."""
        mask = None if self._beliefs is None else self._beliefs.mask
        return x if mask is None or self._places is None else self._places.seen(x, mask)

    def _whole(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the weights of all features ``(n, features)`` that weights of what is read are."""
        mask = None if self._beliefs is None else self._beliefs.mask
        return weights if mask is None or self._places is None else self._places.whole(weights, mask)

    def _relate(self) -> None:
        """Computes the kernel of the standardized images."""
        self._z, columns = self._read(self._x), self._columns
        if self._beliefs is not None and self._beliefs.mask is not None and self._places is not None:
            columns = self._places.columns
        shares = np.full(len(columns), 1 / len(columns)) if self._beliefs is None else self._beliefs.shares
        self._scales = layer_scales(self._z.shape[1], columns.values(), shares)
        self._kernel = ((self._z * self._scales) @ self._z.T).astype(float)

    def _grow(self, count: int) -> None:
        """Adds the next ``count`` images to standardized features and kernel."""
        n = len(self._x)
        new = self._standardized(self._seen[n : n + count])
        self._x = np.concatenate([self._x, new])
        new = self._read(new)
        self._z = np.concatenate([self._z, new])
        rows = ((new * self._scales) @ self._z.T).astype(float)
        self._kernel = np.block([[self._kernel, rows[:, :n].T], [rows[:, :n], rows[:, n:]]])

    def _known_scores(self) -> FloatArray:
        return self._scores[~np.isnan(self._scores)]

    def _fit(self, anew: bool) -> None:
        """Fits the readout; with the noise of each image that follows from the last fit, or as it was."""
        known, y, self._posterior = ~np.isnan(self._scores), self._known_scores(), None
        if self._beliefs is None or len(y) < 2 or y.max() == y.min():
            return
        unit = exponent_of(y)
        if anew:
            expected = np.ldexp(self._expected[known], -unit)
            self._profile = np.ones(len(known))
            self._profile[known] = score_noise(expected, self._beliefs.power)
        kernel, z = (self._kernel, self._z) if known.all() else (self._kernel[np.ix_(known, known)], self._z[known])
        y, profile = np.ldexp(y, -unit), self._profile[known]
        if has_spikes(self._beliefs.kind) and y.min() >= 0:
            self._posterior = PoissonPosterior(z, kernel, self._scales, y, self._beliefs.ratio)
        else:
            self._posterior = Posterior(z, kernel, self._scales, y, profile, self._beliefs.ratio)
        if anew:
            # Not what was fitted to a score itself: a noise that follows the score would explain everything.
            self._expected[known] = np.ldexp(self._posterior.left_out(), unit)

    # Proposing ---------------------------------------------------------------------------------------------------

    def propose(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Returns codes ``(count, dim)``: the top of the posterior's mean, then those of draws from it."""
        posterior = self._fitted()
        weights = np.concatenate([posterior.weights[None], posterior.draw(count - 1, rng)])
        return self.shell.codes(self._climbed(self._whole(weights), rng))

    def top(self) -> FloatArray:
        """Returns the code ``(dim,)`` that the posterior's mean takes for the best, near one that was shown."""
        return np.asarray(self.shell.codes(self._climbed(self._whole(self._fitted().weights[None]), None))[0])

    def best_shown(self, n: int) -> FloatArray:
        """Returns up to ``n`` codes that were shown, by what is expected of them, best first, ``(≤ n, dim)``."""
        posterior = self._fitted()
        codes = self._codes[~np.isnan(self._scores)][np.argsort(-posterior.expected, kind="stable")]
        return np.asarray(codes[np.sort(np.unique(codes, axis=0, return_index=True)[1])][:n])

    def _fitted(self) -> Posterior:
        self._replay()
        if self._posterior is None:
            raise CallOrderError("twin: expected a generation with different scores before it proposes any code.")
        return self._posterior

    def _climbed(self, weights: NDArray[np.float32], rng: np.random.Generator | None) -> FloatArray:
        """Returns tops of readouts ``(n, features)``, in units of the shell; by screening where nothing is smooth."""
        posterior = self._fitted()
        known = np.flatnonzero(~np.isnan(self._scores))
        promising = known[np.argsort(-posterior.expected, kind="stable")[:STARTS]]
        start = promising[(self._x[promising] @ weights.T).argmax(0)]
        x = self.shell.inside(self.shell.units(self._codes[start]))
        if isinstance(self.generator, Differentiable) and isinstance(self.features, Differentiable):
            return self._uphill(x, weights * self._scale)
        return x if rng is None else self._screened(x, promising, weights, rng)

    def _uphill(self, x: FloatArray, weights: NDArray[np.float32]) -> FloatArray:
        """Climbs from codes ``(n, dim)``, each along its readout's slope; a step that does not lead up is halved."""
        from closedloop.gradients.readouts import ReadoutPath

        path, size = ReadoutPath(self._shown_generator(), self.features), np.full(len(x), np.radians(STEP_DEG))
        values, slopes = path.slopes(self.shell.codes(x), weights)
        for _ in range(self.steps()):
            uphill = self.shell.tangents(slopes, x)
            uphill = uphill / np.maximum(np.linalg.norm(uphill, axis=1, keepdims=True), 1e-300)
            there = self.shell.moved(x, uphill, size)
            higher, next_slopes = path.slopes(self.shell.codes(there), weights)
            up = higher > values
            x, values = np.where(up[:, None], there, x), np.where(up, higher, values)
            slopes, size = np.where(up[:, None], next_slopes, slopes), np.where(up, size, size / 2)
        return x

    def _screened(
        self, x: FloatArray, promising: NDArray[np.int64], weights: NDArray[np.float32], rng: np.random.Generator
    ) -> FloatArray:
        """Returns the best of many candidates for each readout, no two the same: turned codes, and mixtures of two."""
        count, dim = SCREENED * len(x), x.shape[1]
        near = np.repeat(x, SCREENED, 0)
        others = self.shell.inside(self.shell.units(self._codes[rng.choice(promising, count)]))
        towards = np.where(np.arange(count)[:, None] % 2, others - near, 0)
        away = towards + rng.standard_normal((count, dim)) * (np.where(towards.any(1), 0.3, 1) / np.sqrt(dim))[:, None]
        away = self.shell.tangents(away, near)
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-300)
        angles = np.radians(STEP_DEG) * self.steps() * rng.random(count)
        candidates = self.shell.moved(near, away, angles)
        found = np.concatenate([self._look(self.shell.codes(c)) for c in np.split(candidates, len(x))])
        values = self._standardized(found) @ weights.T
        chosen: list[int] = []
        for column in values.T:
            chosen.append(next(int(i) for i in np.argsort(-column, kind="stable") if i not in chosen))
        return candidates[chosen]

    # State -------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Returns codes and scores, what was predicted of them, and what the evidence chose; no features."""
        beliefs = self._beliefs
        return {
            **{name: getattr(self, f"_{name}").copy() for name in _ROWS},
            "sizes": np.array(self._sizes, np.int64),
            "judged": self._judged,
            "width": self._width,
            "beliefs": None if beliefs is None else np.array([*beliefs.shares, beliefs.ratio, beliefs.power]),
            "kind": RIDGE if beliefs is None else beliefs.kind,
            "mask": None if beliefs is None else beliefs.mask,
            "features": recipes.fingerprint(self.features),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state; features are computed again when they are asked for.

        Raises:
            WeightsError: The feature network is another one now.
        """
        now, then = recipes.fingerprint(self.features), str(state["features"])
        if now and then and not recipes.same_fingerprint(now, then):
            raise WeightsError(
                f"twin: its feature network {self.features.name!r} has other weights or layers ({now[:20]}…) than when "
                f"the run was recorded ({then[:20]}…)."
            )
        for name in _ROWS:
            setattr(self, f"_{name}", np.array(state[name], float))
        self._sizes, self._judged = [int(s) for s in state["sizes"]], int(state["judged"])
        told = state["beliefs"]
        self._width = float(state.get("width", FIRST_WIDTH))
        self._beliefs = None
        if told is not None:
            mask, kind = state.get("mask"), str(state.get("kind", RIDGE))  # runs of older versions tell neither
            shares, ratio, power = np.array(told[:-2]), float(told[-2]), int(told[-1])
            self._beliefs = Beliefs(shares, ratio, power, kind, None if mask is None else np.array(mask, float))
        self._forget_fit()

    def _replay(self) -> None:
        """Computes again what a restored state leaves out, in the same steps, so that it is the same bit by bit."""
        if not self._stale:
            return
        self._stale = False
        ends = np.cumsum(self._sizes)
        self._seen = np.concatenate(
            [self._look(self._codes[e - s : e]) for s, e in zip(self._sizes, ends, strict=True)]
        )
        self._standardize()
        self._relate()
        for size in self._sizes[self._judged :]:
            self._grow(size)
        self._fit(anew=False)


def _standardized_within(values: FloatArray, group: NDArray[np.int64]) -> FloatArray:
    """Returns values ``(n,)`` with mean 0 and variance 1 within each group; 0 where a group does not vary."""
    count = np.maximum(np.bincount(group), 1)
    away = values - (np.bincount(group, values) / count)[group]
    deviation = np.sqrt(np.bincount(group, away**2) / count)[group]
    return np.divide(away, deviation, out=np.zeros_like(away), where=deviation > 0)
