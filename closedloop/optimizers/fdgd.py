"""Finite-difference gradient descent: the slope of the scores along random directions.

Settings: Xiao & Kreiman 2020, "XDream", PLoS Computational Biology (20 samples, radius 1.25, learning rate 1.25,
antithetic). Without noise it reaches their highest responses in late layers; with 20 spikes it falls far behind the
genetic algorithm in fc6, less in fc8.
"""

from __future__ import annotations

from typing import ClassVar, final

from closedloop.checks import check_positive
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import MeanSearch, check_population, check_start
from closedloop.optimizers.directions import check_pairs, draw_directions, score_weights
from closedloop.signatures import at_door


@final
class FDGD(MeanSearch):
    """Steps along g = mean(s u), with directions u ~ N(0, I) and standardized scores s. O(dim) memory.

    For antithetic pairs g is the mean of ``(f(x + r u) - f(x - r u)) u / 2``, over the spread of the scores, so that
    the learning rate does not depend on the unit of the responses. A lost code takes its mirror image with it.

    Args:
        space: Where to search. In a bounded space codes are moved to the bounds.
        seed: Seed of its own random generator.
        population: Codes for each generation.
        radius: Standard deviation of the codes around x, in units of the space's prior standard deviation; default
            1.25, in code units on the generators for which it was published (`Space.published`).
        lr: Length of a step in the same unit, as a multiple of g; default likewise.
        antithetic: Whether directions come in mirrored pairs.
        start: First x ``(dim,)``; default the middle of the prior.
    """

    name = "fdgd"
    memory: ClassVar[tuple[str, ...]] = ("x",)

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        population: int = 20,
        radius: float | None = None,
        lr: float | None = None,
        antithetic: bool = True,
        start: FloatArray | None = None,
    ) -> None:
        check_population(population, 2)
        check_pairs(population, antithetic)
        radius = space.in_scale(1.25) if radius is None else radius
        lr = space.in_scale(1.25) if lr is None else lr
        check_positive("radius", radius)
        check_positive("lr", lr)
        self._x = check_start(start, space)
        first = None if start is None else self._x
        super().__init__(
            space, seed, population=int(population), radius=radius, lr=lr, antithetic=antithetic, start=first
        )
        self.population: int = int(population)
        self.lr: float = lr
        self.antithetic: bool = antithetic
        self.radius: float = radius * space.scale

    def _mean(self) -> FloatArray:
        """Returns x ``(dim,)``."""
        return self._x

    def _propose(self) -> FloatArray:
        """Draws codes ``(population, dim)`` x + r u."""
        u = draw_directions(self._rng, self.population, self.space.dim, self.antithetic)
        return self.space.clip(self._x + self.radius * u)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Sets x ← x + lr · scale · g, in the directions that were tried."""
        u = (codes - self._x) / self.radius  # as shown: in a bounded space codes were moved to the bounds
        # Stein's identity: E[f(x + r u) u] = r ∇E[f(x + r u)]; s has mean 0, which changes nothing but the noise.
        g = score_weights(scores, self.antithetic) @ u
        self._x = self.space.clip(self._x + self.lr * self.space.scale * g)
