"""Cholesky-CMA-ES with a rare rank-one update, as the field runs it.

The covariance is kept as a factor A (C = Aᵀ A for row vectors) and its inverse, updated by one direction every tenth
generation. Sources: Suttorp, Hansen & Igel 2009, "Efficient covariance matrix update for variable metric evolution
strategies" (letters; their eqs. 15 and 17); the settings are those of Wang & Ponce 2022, GECCO.

The published program holds A and A⁻¹ as dense matrices (2 · 134 MB for 4096 dimensions, in each saved state). But after
k updates A differs from a multiple of the identity in k directions only; these are what is kept here.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from closedloop.checks import check_positive, check_whole
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
class CholeskyCMAES(MeanSearch):
    """CMA-ES without rank-μ update. Memory O(dim · generations / `every`), at most that of four matrices.

    The paper's first generation is the start code alone; here it is a sample around it, since one score teaches
    nothing. Lost codes are left out of the ranking.

    Args:
        space: Where to search. In a bounded space samples are moved to the bounds.
        seed: Seed of its own random generator.
        population: Samples for each generation, λ; default int(4 + 3 log2 dim), 40 for 4096 dimensions.
        sigma: First step size in units of the space's prior standard deviation; default the paper's 3.0 in
            code units on the generators for which it was published (`Space.published`), elsewhere 0.64 = 3 √4096 / 300,
            for its codes had a shell of radius 300.
        every: Generations between two updates of the covariance.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    name = "cholesky-cma"
    memory: ClassVar[tuple[str, ...]] = ("m", "sigma", "ps", "pc", "k", "a", "u", "v", "inverse_u", "inverse_v")

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        population: int | None = None,
        sigma: float | None = None,
        every: int = 10,
        start: FloatArray | None = None,
    ) -> None:
        check_population(population, 2)
        if sigma is None:
            sigma = 0.64 if space.published is None else space.in_scale(3.0)
        check_positive("sigma", sigma)
        check_whole("every", every, 1)
        self._m = check_start(start, space)
        self.population: int = field_population(space.dim) if population is None else int(population)
        first = None if start is None else self._m
        super().__init__(space, seed, population=self.population, sigma=float(sigma), every=int(every), start=first)
        self.every: int = int(every)
        self._sigma = sigma * space.scale
        self._k = 0
        self._a = 1.0
        self._ps: FloatArray = np.zeros(space.dim)
        self._pc: FloatArray = np.zeros(space.dim)
        # A = a (I + U V) and A⁻¹ = (I + U' V') / a; one column of U and one row of V for each update.
        self._u: FloatArray = np.empty((space.dim, 0))
        self._v: FloatArray = np.empty((0, space.dim))
        self._inverse_u: FloatArray = self._u.copy()
        self._inverse_v: FloatArray = self._v.copy()

    def _mean(self) -> FloatArray:
        """Returns m ``(dim,)``."""
        return self._m

    def _propose(self) -> FloatArray:
        """Draws λ codes ``(λ, dim)``, x = m + σ z A with z ~ N(0, I)."""
        z = self._rng.standard_normal((self.population, self.space.dim))
        return self.space.clip(self._m + self._sigma * self._times_a(z))

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Moves the mean, adapts the step size and, every so often, the covariance."""
        best = ranked(scores)
        if len(best) < 2:
            return
        w, n = log_weights(len(best)), self.space.dim
        mu_eff, cc = float(1 / np.sum(w**2)), 4 / (n + 4)
        y = w @ (codes[best[: len(w)]] - self._m) / self._sigma  # = Σ w z A
        self._m = self._m + self._sigma * y
        # The path of the covariance; the factor keeps it N(0, C) as long as selection is random.
        self._pc = (1 - cc) * self._pc + np.sqrt(cc * (2 - cc) * mu_eff) * y
        # y A⁻¹ = Σ w z: in these coordinates a random path has the length of a standard normal vector.
        self._ps, factor = cumulative_step(self._ps, self._times_inverse(y), mu_eff)
        self._sigma *= factor
        self._k += 1
        if self._k % self.every == 0:
            self._adapt(2 / (n + np.sqrt(2)) ** 2)  # c1 = c_cov of the paper's settings

    def _adapt(self, c1: float) -> None:
        """Updates A and A⁻¹ by rank one with v = pc A⁻¹: C ← (1 - c1) C + c1 pcᵀ pc."""
        v = self._times_inverse(self._pc)
        squared = float(v @ v)
        if squared == 0:
            return
        b = (np.sqrt(1 + c1 / (1 - c1) * squared) - 1) / squared  # (I + b vᵀv)² = I + c1 / (1 - c1) vᵀv
        u = v + self._inverse_u @ (self._inverse_v @ v)  # a A⁻¹ vᵀ
        # Eq. 15 for row vectors: A ← √(1 - c1) (I + b vᵀv) A = √(1 - c1) (A + b vᵀ pc), as v A = pc.
        self._u, self._v = _plus(self._u, self._v, b * v, self._pc / self._a)
        # Eq. 17, the inverse by Sherman & Morrison: A⁻¹ ← A⁻¹ (I - b / (1 + b ‖v‖²) vᵀv) / √(1 - c1).
        self._inverse_u, self._inverse_v = _plus(self._inverse_u, self._inverse_v, -b / (1 + b * squared) * u, v)
        self._a *= float(np.sqrt(1 - c1))

    def _times_a(self, x: FloatArray) -> FloatArray:
        """Returns ``x A`` for rows ``(…, dim)``, without A as a matrix."""
        return np.asarray(self._a * (x + (x @ self._u) @ self._v))

    def _times_inverse(self, x: FloatArray) -> FloatArray:
        """Returns ``x A⁻¹`` for rows ``(…, dim)``."""
        return np.asarray((x + (x @ self._inverse_u) @ self._inverse_v) / self._a)


def _plus(u: FloatArray, v: FloatArray, column: FloatArray, row: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns factors of ``U V + columnᵀ row``, no more than ``dim`` columns and rows."""
    if u.shape[1] < u.shape[0]:
        return np.column_stack([u, column]), np.vstack([v, row])
    return np.asarray(u @ v + np.outer(column, row)), np.eye(len(u))  # from here on the matrix itself is smaller
