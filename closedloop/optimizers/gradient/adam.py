"""Adam and NAdam, for gradient ascent.

Sources: Kingma & Ba 2015, "Adam: a method for stochastic optimization", Algorithm 1; Dozat 2016, "Incorporating
Nesterov momentum into Adam", with the momentum schedule of its section 3 (μ_t = β₁ (1 - 0.96^(0.004 t) / 2)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np

from closedloop.checks import check_flag, check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import check_choice
from closedloop.optimizers.gradient.ascent import Ascent
from closedloop.signatures import at_door


@final
class Adam(Ascent):
    """Steps of about `rate` in each coordinate, along the sign of a smoothed gradient.

    Args:
        space: Where to search.
        seed: Of the first codes.
        steps: See `Ascent`.
        rate: Learning rate, in working units.
        betas: Decay of the first and second moment, from 0 to below 1.
        epsilon: Added to the root of the second moment.
        schedule: "constant", or "cosine": the rate falls to 0 along half a cosine.
        nesterov: NAdam instead of Adam.
        **options: `copies`, `start`, `spread`, `unit` and `origin` of `Ascent`.
    """

    name = "adam"
    memory: ClassVar[tuple[str, ...]] = ("w", "k", "m", "v", "product")

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        steps: int = 512,
        rate: float = 0.05,
        betas: Sequence[float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        schedule: str = "constant",
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        check_positive("rate", rate)
        check_positive("epsilon", epsilon)
        check_flag("nesterov", nesterov)
        check_choice("schedule", schedule, ("constant", "cosine"))
        values = np.asarray(betas, dtype=float)
        if values.shape != (2,) or not ((values >= 0) & (values < 1)).all():
            raise InvalidArgumentError(f"betas: expected two numbers from 0 to below 1, got {betas!r}.")
        super().__init__(
            space,
            seed,
            steps=steps,
            rate=rate,
            betas=values.tolist(),
            epsilon=epsilon,
            schedule=schedule,
            nesterov=bool(nesterov),
            **options,
        )
        self.rate: float = float(rate)
        self.epsilon: float = float(epsilon)
        self.schedule: str = schedule
        self.nesterov: bool = bool(nesterov)
        self.betas: tuple[float, float] = float(values[0]), float(values[1])
        self._m, self._v = np.zeros_like(self._w), np.zeros_like(self._w)
        self._product = 1.0

    def _step(self, w: FloatArray, scores: FloatArray, g: FloatArray) -> FloatArray:
        t, (b1, b2) = self._k + 1, self.betas
        self._m = b1 * self._m + (1 - b1) * g  # first moment m_t
        self._v = b2 * self._v + (1 - b2) * g**2  # second moment v_t
        rate = self.rate
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + np.cos(np.pi * self._k / self.steps))
        m = self._corrected(g, t)
        # w_t = w_{t-1} + α m̂_t / (√v̂_t + ε), upwards; v̂_t = v_t / (1 - β₂ᵗ) without the bias of beginning at 0.
        return np.asarray(w + rate * m / (np.sqrt(self._v / (1 - b2**t)) + self.epsilon))

    def _corrected(self, g: FloatArray, t: int) -> FloatArray:
        """Returns the first moment without its bias; for NAdam looking one step ahead."""
        b1 = self.betas[0]
        if not self.nesterov:
            return np.asarray(self._m / (1 - b1**t))
        # μ_t and μ_{t+1}; the bias of the moment is 1 minus their product so far.
        now, ahead = (b1 * (1 - 0.5 * 0.96 ** (0.004 * (t + i))) for i in (0, 1))
        self._product *= now
        return np.asarray(ahead * self._m / (1 - self._product * ahead) + (1 - now) * g / (1 - self._product))
