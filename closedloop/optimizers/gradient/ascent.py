"""Climbs by gradients: what all methods share, and the plain one with its step policies and regularizers.

A gradient method is an optimizer that is told the gradient of the scores with respect to the codes. It proposes the
same few codes again and again, each a step further; they do not know of each other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np

from closedloop.checks import check_flag, check_positive, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import AskTell, check_choice
from closedloop.optimizers.gradient.regularizers import Regularizer, blurred, describe_regularizers, read_regularizers
from closedloop.signatures import at_door


class Ascent(AskTell):
    """Some codes that climb, each by itself.

    All of it happens in working coordinates w = unit · (code - origin). A code whose score or gradient is not finite
    stays where it is, and so does one whose gradient is zero everywhere.

    Args:
        space: Where to search. In a bounded space codes are moved to the bounds before they are shown.
        seed: Seed of its own random generator.
        steps: After so many steps it is `finished`; asked again it stays where it is.
        copies: Codes that climb side by side.
        start: First codes ``(dim,)`` or ``(copies, dim)``; default a draw around the origin.
        spread: Standard deviation of that draw, in working units.
        unit: Working units in a unit of the code; default such that the prior has standard deviation 1.
        origin: Zero of the working coordinates: a code ``(dim,)``, three numbers (the colour of an image in a space of
            pixels), or None for the middle of the prior.
        **options: Further options that make it again.
    """

    needs_gradient = True
    memory: ClassVar[tuple[str, ...]] = ("w", "k")

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        steps: int,
        copies: int = 1,
        start: FloatArray | None = None,
        spread: float = 1.0,
        unit: float | None = None,
        origin: Sequence[float] | FloatArray | None = None,
        **options: Any,
    ) -> None:
        if unit is not None:
            check_positive("unit", unit)
        if not (np.isfinite(spread) and spread >= 0):
            raise InvalidArgumentError(f"spread: expected a finite number of at least 0, got {spread!r}.")
        first = None if start is None else _check_starts(start, space)
        self.steps: int = check_whole("steps", steps, 1)
        copies = check_whole("copies", copies, 1) if first is None else len(first)
        super().__init__(
            space,
            seed,
            steps=self.steps,
            copies=copies,
            start=first,
            spread=spread,
            unit=unit,
            origin=None if origin is None else np.asarray(origin, dtype=float),
            **options,
        )
        self.unit: float = 1 / space.scale if unit is None else float(unit)
        self.origin: FloatArray = _check_origin(origin, space)
        drawn = spread * self._rng.standard_normal((copies, space.dim))
        self._w = drawn if first is None else self.unit * (first - self.origin)
        self._k = 0
        self._slopes: FloatArray | None = None

    @property
    def finished(self) -> bool:
        """Whether all steps are taken."""
        return self._k >= self.steps

    @property
    def taken(self) -> int:
        """Steps taken so far."""
        return self._k

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Takes a step from the codes of the last `ask`, by their scores ``(n,)`` and gradients ``(n, dim)``."""
        self._slopes = None if self._asked is None else _check_gradients(gradients, self._asked)
        super().tell(codes, scores)

    def _propose(self) -> FloatArray:
        return self.space.clip(self.origin + self._w / self.unit)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Takes a step where there is something to go by."""
        slopes, self._slopes = self._slopes, None
        if self.finished or slopes is None:
            return
        g = slopes / self.unit  # ∂score / ∂w: w = unit · (code - origin)
        # A dead unit has no slope anywhere, and a lost presentation no score: such a code stays where it is.
        able = np.isfinite(scores) & np.isfinite(g).all(1) & (g != 0).any(1)
        self._w = self.unit * (codes - self.origin)  # from what was shown: codes may have been moved to the bounds
        if able.any():
            with np.errstate(over="ignore", invalid="ignore"):
                moved = self._step(self._w.copy(), scores, np.where(able[:, None], g, 0.0))
            able &= np.isfinite(moved).all(1)
            self._w = np.where(able[:, None], moved, self._w)
        self._k += 1

    @abstractmethod
    def _step(self, w: FloatArray, scores: FloatArray, g: FloatArray) -> FloatArray:
        """Returns new coordinates for coordinates ``(n, dim)``, their scores ``(n,)`` and gradients ``(n, dim)``."""


def _check_starts(start: FloatArray, space: Space) -> FloatArray:
    codes = np.asarray(start, dtype=float)
    return space.check(codes[None] if codes.ndim == 1 else codes).copy()


def _check_origin(origin: Sequence[float] | FloatArray | None, space: Space) -> FloatArray:
    """Checks the origin, and returns it as a code ``(dim,)``."""
    if origin is None:
        return space.center
    point = np.asarray(origin, dtype=float)
    if point.shape == (3,) and space.dim % 3 == 0:
        point = np.repeat(point, space.dim // 3)
    if point.shape != (space.dim,) or not np.isfinite(point).all():
        raise InvalidArgumentError(f"origin: expected a code ({space.dim},) or three numbers, got {point.shape}.")
    return point


def _check_gradients(gradients: FloatArray | None, codes: FloatArray) -> FloatArray:
    """Returns gradients ``(n, dim)`` as float64; NaN and infinity pass, such a code stays where it is."""
    slopes = np.asarray(np.empty(0) if gradients is None else gradients, dtype=float)
    if slopes.shape != codes.shape:
        came = "None" if gradients is None else f"shape {slopes.shape}"
        raise InvalidArgumentError(f"gradients: expected shape {codes.shape}, one for each code, got {came}.")
    return slopes


@final
class GradientAscent(Ascent):
    """Steps along the gradient, with the regularizers of the field between them.

    Policies, with g the gradient in working coordinates:

    * ``"constant"``: rate · g.
    * ``"mean"``: rate · g / mean|g|, a step of fixed mean size (DeepDream, DGN-AM).
    * ``"progress"``: min(max_rate, rate / ‖g‖²) · g: where the response is linear it rises by `rate` in each step.
    * ``"progress01"``: the same with min(rate, late · (1 - score)) for scores that are probabilities.

    Sources: Yosinski et al. 2015; Nguyen, Yosinski & Clune 2015 (the two "progress" policies); Mahendran & Vedaldi 2015
    (momentum).

    Args:
        space: Where to search.
        seed: Of the first codes.
        steps: See `Ascent`.
        policy: One of the four.
        rate: See there.
        last_rate: Rate of the last step, to which it goes linearly; default the same.
        max_rate: See "progress".
        late: See "progress01".
        momentum: Share of the last step that is added to the next.
        regularizers: Applied in this order after each step; values, or mappings with a name and options, see
            `closedloop.optimizers.gradient.regularizers`.
        spare_last: Leave the regularizers out after the last step, so that the last image is the one that was climbed.
        smooth: Blur of the gradient image in pixels (σ) in the first and in the last step; None for none.
        **options: `copies`, `start`, `spread`, `unit` and `origin` of `Ascent`.
    """

    name = "gradient-ascent"
    memory: ClassVar[tuple[str, ...]] = ("w", "k", "v")

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        steps: int = 200,
        policy: str = "mean",
        rate: float = 0.05,
        last_rate: float | None = None,
        max_rate: float = np.inf,
        late: float = 0.1,
        momentum: float = 0.0,
        regularizers: Sequence[Regularizer | Mapping[str, Any]] = (),
        spare_last: bool = False,
        smooth: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        check_choice("policy", policy, ("constant", "mean", "progress", "progress01"))
        check_flag("spare_last", spare_last)
        for name, value in (("rate", rate), ("last_rate", rate if last_rate is None else last_rate), ("late", late)):
            check_positive(name, value)
        if not max_rate > 0:
            raise InvalidArgumentError(f"max_rate: expected a number above 0, got {max_rate!r}.")
        if not 0 <= momentum < 1:
            raise InvalidArgumentError(f"momentum: expected a number from 0 to below 1, got {momentum!r}.")
        self.regularizers: tuple[Regularizer, ...] = read_regularizers(regularizers)
        self.smooth: tuple[float, float] | None = None if smooth is None else _check_smooth(smooth)
        self._described = describe_regularizers(self.regularizers)
        super().__init__(
            space,
            seed,
            steps=steps,
            policy=policy,
            rate=rate,
            last_rate=last_rate,
            late=late,
            momentum=momentum,
            max_rate=None if np.isinf(max_rate) else max_rate,
            regularizers=self._described,
            spare_last=spare_last,
            smooth=None if smooth is None else list(self.smooth or ()),
            **options,
        )
        self.policy: str = policy
        self.rate: float = float(rate)
        self.max_rate: float = float(max_rate)
        self.late: float = float(late)
        self.last_rate: float = self.rate if last_rate is None else float(last_rate)
        self.momentum: float = float(momentum)
        self.spare_last: bool = bool(spare_last)
        self._v: FloatArray | None = None

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_optimizer` makes it again; None where a regularizer is the user's own."""
        return None if self._described is None else super().recipe

    def _between(self, first: float, last: float) -> float:
        """Returns the value of a linear schedule in the step under way."""
        return first + (last - first) * self._k / max(self.steps - 1, 1)

    def _step(self, w: FloatArray, scores: FloatArray, g: FloatArray) -> FloatArray:
        if self.smooth is not None:
            g = blurred(g, self._between(*self.smooth))
        step = self._length(scores, g) * g
        if self.momentum:
            self._v = step if self._v is None else self.momentum * self._v + step
            step = self._v
        w = w + step
        if self.spare_last and self._k == self.steps - 1:
            return w
        for regularizer in self.regularizers:
            w = regularizer(w, g, self._k)
        return w

    def _length(self, scores: FloatArray, g: FloatArray) -> FloatArray:
        """Returns the factor ``(n, 1)`` of each gradient."""
        rate = np.full((len(g), 1), self._between(self.rate, self.last_rate))
        tiny = np.finfo(float).tiny  # a gradient of 0 is a step of 0, not 0 / 0
        if self.policy == "mean":
            return np.asarray(rate / np.maximum(np.abs(g).mean(1, keepdims=True), tiny))
        if self.policy == "constant":
            return rate
        if self.policy == "progress01":
            rate = np.minimum(
                rate, self.late * (1 - np.nan_to_num(scores)[:, None])
            )  # what is left to a probability of 1
        # A step α g changes a linear response by α ‖g‖²: with α = rate / ‖g‖² by the rate.
        return np.asarray(np.minimum(self.max_rate, rate / np.maximum((g**2).sum(1, keepdims=True), tiny)))


def _check_smooth(smooth: Sequence[float]) -> tuple[float, float]:
    values = np.asarray(smooth, dtype=float)
    if values.shape != (2,) or not (values > 0).all():
        raise InvalidArgumentError(f"smooth: expected two blurs in pixels above 0, first and last, got {smooth!r}.")
    return float(values[0]), float(values[1])
