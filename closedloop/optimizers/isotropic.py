"""Evolution strategy with one step size for all directions: CMA-ES without a covariance matrix.

In thousands of dimensions and a few thousand images the covariance of CMA-ES never adapts (its condition number stays
below 1.01), so what searches is this: weighted recombination and cumulative step-size adaptation (CSA), in O(dim)
memory. Letters and equation numbers follow Hansen 2016, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import (
    check_population,
    check_positive,
    check_start,
    check_tell,
    field_population,
    log_weights,
)
from closedloop.seeds import check_seed, generator_state, restore_generator


@final
class IsotropicES:
    """(μ/μ_w, λ) evolution strategy with cumulative step-size adaptation.

    Args:
        space: Where to search. In a bounded space samples are moved to the bounds, and the step is learnt from the
            moved ones.
        seed: Seed of its own random generator.
        population: Samples for each generation, λ; default 4 + 3 log2(dim), 40 for 4096 dimensions.
        sigma: First step size in units of the space's prior standard deviation.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    name = "isotropic"
    needs_gradient = False

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
        self.space = space
        self.population = field_population(space.dim) if population is None else int(population)
        self._options: dict[str, Any] = {"seed": seed, "population": self.population, "sigma": sigma}
        self._rng = np.random.default_rng(check_seed(seed))
        self._m = check_start(start, space)
        self._options |= {} if start is None else {"start": self._m.tolist()}
        self._sigma = sigma * space.scale
        self._p = np.zeros(space.dim)
        self._asked: FloatArray | None = None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_optimizer` makes it again."""
        return {"name": self.name, **self._options}

    def ask(self) -> FloatArray:
        """Draws λ codes ``(λ, dim)``, x = m + σ z with z ~ N(0, I); the same again until they are told."""
        if self._asked is None:
            z = self._rng.standard_normal((self.population, self.space.dim))
            self._asked = self.space.clip(self._m + self._sigma * z)
        return self._asked.copy()

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Moves the mean toward the better codes and adapts the step size. Lost codes are left out."""
        codes, scores = check_tell(self._asked, codes, scores)
        self._asked = None
        kept = np.flatnonzero(~np.isnan(scores))
        if len(kept) < 2:
            return
        ranked = kept[np.argsort(-scores[kept], kind="stable")]
        w = log_weights(len(ranked))
        mu_eff = float(1 / np.sum(w**2))
        y = w @ (codes[ranked[: len(w)]] - self._m) / self._sigma
        self._m = self._m + self._sigma * y  # eq. 42 with c_m = 1
        self._adapt(y, mu_eff)

    def _adapt(self, y: FloatArray, mu_eff: float) -> None:
        """Cumulative step-size adaptation, eqs. 43-44, with c_σ = √μ_eff / (√μ_eff + √N) of the Cholesky-CMA-ES."""
        n = self.space.dim
        c = np.sqrt(mu_eff) / (np.sqrt(mu_eff) + np.sqrt(n))
        d = 1 + c + 2 * max(0.0, np.sqrt((mu_eff - 1) / (n + 1)) - 1)
        self._p = (1 - c) * self._p + np.sqrt(c * (2 - c) * mu_eff) * y
        expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # E‖N(0, I)‖
        self._sigma = float(self._sigma * np.exp(c / d * (np.linalg.norm(self._p) / expected - 1)))

    def state(self) -> State:
        """Mean, step size, path, pending codes and random generator."""
        return {
            "m": self._m.copy(),
            "p": self._p.copy(),
            "sigma": self._sigma,
            "rng": generator_state(self._rng),
            "asked": None if self._asked is None else self._asked.copy(),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._m, self._p = np.array(state["m"]), np.array(state["p"])
        self._sigma = float(state["sigma"])
        self._asked = None if state["asked"] is None else np.array(state["asked"])
        restore_generator(self._rng, state["rng"])
