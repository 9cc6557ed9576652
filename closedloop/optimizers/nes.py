"""Natural evolution strategy with one step size for all directions.

Settings: Xiao & Kreiman 2020, "XDream", PLoS Computational Biology (20 samples, radius 1.25, learning rate 1.75 and
for the radius 0.05, antithetic). Equations: Glasmachers et al. 2010, "Exponential natural evolution strategies", GECCO,
Algorithm 1 without the shape matrix; the scores are standardized instead of ranked.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import MeanSearch, check_population, check_start
from closedloop.optimizers.directions import check_pairs, draw_directions, score_weights
from closedloop.signatures import at_door


@final
class NES(MeanSearch):
    """Follows the natural gradient of the expected score of N(μ, σ² I). O(dim) memory.

    A lost code takes its mirror image with it.

    Args:
        space: Where to search. In a bounded space codes are moved to the bounds.
        seed: Seed of its own random generator.
        population: Codes for each generation.
        radius: First σ in units of the space's prior standard deviation; default 1.25, in code units on the generators
            for which it was published (`Space.published`).
        lr: Learning rate of the mean, η_μ.
        radius_lr: Learning rate of σ, η_σ.
        antithetic: Whether codes come in pairs, mirrored at the mean.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    name = "nes"
    memory: ClassVar[tuple[str, ...]] = ("mu", "sigma")

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        population: int = 20,
        radius: float | None = None,
        lr: float = 1.75,
        radius_lr: float = 0.05,
        antithetic: bool = True,
        start: FloatArray | None = None,
    ) -> None:
        check_population(population, 2)
        check_pairs(population, antithetic)
        radius = space.in_scale(1.25) if radius is None else radius
        for name, value in {"radius": radius, "lr": lr, "radius_lr": radius_lr}.items():
            check_positive(name, value)
        self._mu = check_start(start, space)
        super().__init__(
            space,
            seed,
            population=int(population),
            radius=radius,
            lr=lr,
            radius_lr=radius_lr,
            antithetic=antithetic,
            start=None if start is None else self._mu,
        )
        self.population: int = int(population)
        self.antithetic: bool = antithetic
        self.lr: float = lr
        self.radius_lr: float = radius_lr
        self._sigma = radius * space.scale

    def _mean(self) -> FloatArray:
        """Returns μ ``(dim,)``."""
        return self._mu

    def _propose(self) -> FloatArray:
        """Draws codes ``(population, dim)`` μ + σ u."""
        u = draw_directions(self._rng, self.population, self.space.dim, self.antithetic)
        return self.space.clip(self._mu + self._sigma * u)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Sets μ ← μ + η_μ σ mean(s u) and σ ← σ exp(η_σ / 2 · mean(s (‖u‖² / dim - 1)))."""
        u = (codes - self._mu) / self._sigma
        s = score_weights(scores, self.antithetic)
        # ∇_δ J = Σ s u, the natural gradient of the mean in units of σ.
        self._mu = self.space.clip(self._mu + self.lr * self._sigma * (s @ u))
        # ∇_σ J = tr(Σ s (u uᵀ - I)) / dim, that of log σ: samples farther out than √dim that score well widen it.
        growth = float(s @ ((u**2).mean(1) - 1))
        self._sigma = float(self._sigma * np.exp(self.radius_lr / 2 * growth))
