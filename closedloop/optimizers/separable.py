"""Separable CMA-ES: a variance for each coordinate, learnt faster than a full covariance, in O(dim) memory.

Letters and settings: Ros & Hansen 2008, "A simple modification in CMA-ES achieving linear time and space complexity",
PPSN X.
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
    expected_norm,
    ranked,
)
from closedloop.signatures import at_door


@final
class SeparableCMA(MeanSearch):
    """(μ/μ_w, λ)-CMA-ES with a diagonal covariance. Lost codes are left out of the ranking.

    Args:
        space: Where to search. In a bounded space samples are moved to the bounds.
        seed: Seed of its own random generator.
        population: Samples for each generation, λ; default 4 + 3 ln(dim), 28 for 4096 dimensions.
        sigma: First step size in units of the space's prior standard deviation.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    name = "separable-cma"
    memory: ClassVar[tuple[str, ...]] = ("m", "sigma", "c", "ps", "pc", "g")

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
        self.population: int = 4 + int(3 * np.log(space.dim)) if population is None else int(population)
        first = None if start is None else self._m
        super().__init__(space, seed, population=self.population, sigma=sigma, start=first)
        self._sigma, self._g = sigma * space.scale, 0
        self._c: FloatArray = np.ones(space.dim)
        self._ps: FloatArray = np.zeros(space.dim)
        self._pc: FloatArray = np.zeros(space.dim)

    def _mean(self) -> FloatArray:
        """Returns m ``(dim,)``."""
        return self._m

    def _propose(self) -> FloatArray:
        """Draws λ codes ``(λ, dim)``, x = m + σ D z with D² = C and z ~ N(0, I)."""
        z = self._rng.standard_normal((self.population, self.space.dim))
        return self.space.clip(self._m + self._sigma * np.sqrt(self._c) * z)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Moves the mean, then adapts step size and variances."""
        best = ranked(scores)
        if len(best) < 2:
            return
        self._g += 1
        mu = len(best) // 2
        w = np.log(mu + 1) - np.log(np.arange(1, mu + 1))  # w_i ∝ ln(μ + 1) - ln i, sum 1
        w /= w.sum()
        y = (codes[best[:mu]] - self._m) / self._sigma  # = D z of the μ best
        mean = w @ y  # ⟨y⟩_w
        self._m = self._m + self._sigma * mean
        mu_eff = float(1 / np.sum(w**2))
        steady = self._adapt_step(mean, mu_eff)
        self._adapt_variances(y, w, mean, mu_eff, steady)

    def _adapt_step(self, mean: FloatArray, mu_eff: float) -> bool:
        """Adapts the step size cumulatively; returns h_σ, whether the path is no longer than chance would have it."""
        n = self.space.dim
        c = (mu_eff + 2) / (n + mu_eff + 3)  # c_σ
        d = 1 + c + 2 * max(0.0, np.sqrt((mu_eff - 1) / (n + 1)) - 1)  # d_σ
        # p_σ of D⁻¹⟨y⟩: with a diagonal C its root is that of each coordinate.
        self._ps = (1 - c) * self._ps + np.sqrt(c * (2 - c) * mu_eff) * mean / np.sqrt(self._c)
        length = float(np.linalg.norm(self._ps))
        # Longer than a random path: σ grows. The root corrects h_σ for a path that began at 0.
        self._sigma = float(self._sigma * np.exp(c / d * (length / expected_norm(n) - 1)))
        return bool(length / np.sqrt(1 - (1 - c) ** (2 * (self._g + 1))) < (1.4 + 2 / (n + 1)) * expected_norm(n))

    def _adapt_variances(self, y: FloatArray, w: FloatArray, mean: FloatArray, mu_eff: float, steady: bool) -> None:
        """Updates the diagonal by rank one and rank μ, the latter (dim + 2) / 3 times as fast as a matrix."""
        n = self.space.dim
        cc, c1 = 4 / (n + 4), 2 / ((n + 1.3) ** 2 + mu_eff)
        # c_cov of a full matrix with μ_cov = μ_eff: the rank-one share 1 / μ_eff, the rank-μ share the rest.
        full = 2 / mu_eff / (n + np.sqrt(2)) ** 2 + (1 - 1 / mu_eff) * min(
            1.0, (2 * mu_eff - 1) / ((n + 2) ** 2 + mu_eff)
        )
        cmu = min((n + 2) / 3 * full, 1 - c1)
        self._pc = (1 - cc) * self._pc + steady * np.sqrt(cc * (2 - cc) * mu_eff) * mean
        lost = (1 - steady) * cc * (2 - cc)  # what the path misses in a generation in which it stood still
        self._c = (1 + c1 * lost - c1 - cmu) * self._c + c1 * self._pc**2 + cmu * (w @ y**2)
