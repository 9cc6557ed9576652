"""Evolution strategy with one step size for all directions: CMA-ES without a covariance matrix.

In thousands of dimensions and a few thousand images the covariance of CMA-ES never adapts (its condition number stays
below 1.01), so what searches is this: weighted recombination and cumulative step-size adaptation (CSA), in O(dim)
memory. Letters and equation numbers follow Hansen 2016, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import (
    MeanSearch,
    check_population,
    check_start,
    cumulative_step,
    field_population,
    log_weights,
    ranked,
)
from closedloop.signatures import at_door


@final
class IsotropicES(MeanSearch):
    """(μ/μ_w, λ) evolution strategy with cumulative step-size adaptation.

    Lost codes are left out of the ranking.

    Args:
        space: Where to search. In a bounded space samples are moved to the bounds, and the step is learnt from the
            moved ones.
        seed: Seed of its own random generator.
        population: Samples for each generation, λ; default 4 + 3 log2(dim), 40 for 4096 dimensions.
        sigma: First step size in units of the space's prior standard deviation.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    name = "isotropic"
    memory: ClassVar[tuple[str, ...]] = ("m", "p", "sigma")

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        population: int | None = None,
        sigma: float = 1.0,
        start: FloatArray | None = None,
    ) -> None:
        check_population(population, 2)
        check_positive("sigma", sigma)
        self._m = check_start(start, space)
        self.population: int = field_population(space.dim) if population is None else int(population)
        first = None if start is None else self._m
        super().__init__(space, seed, population=self.population, sigma=sigma, start=first)
        self._sigma = sigma * space.scale
        self._p: FloatArray = np.zeros(space.dim)

    def _mean(self) -> FloatArray:
        """Returns m ``(dim,)``."""
        return self._m

    def _propose(self) -> FloatArray:
        """Draws λ codes ``(λ, dim)``, x = m + σ z with z ~ N(0, I)."""
        z = self._rng.standard_normal((self.population, self.space.dim))
        return self.space.clip(self._m + self._sigma * z)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Moves the mean toward the better codes and adapts the step size."""
        best = ranked(scores)
        if len(best) < 2:
            return
        w = log_weights(len(best))
        y = w @ (codes[best[: len(w)]] - self._m) / self._sigma  # ⟨y⟩_w = Σ w_i z_i, eq. 41
        self._m = self._m + self._sigma * y  # eq. 42 with c_m = 1
        self._p, factor = cumulative_step(self._p, y, float(1 / np.sum(w**2)))
        self._sigma *= factor
