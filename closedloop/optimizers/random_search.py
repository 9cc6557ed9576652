"""Random search: independent draws from the prior. The control that every optimizer must beat."""

from __future__ import annotations

from typing import final

from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import AskTell, check_population
from closedloop.signatures import at_door


@final
class RandomSearch(AskTell):
    """Draws codes from the prior and learns nothing.

    Args:
        space: Where to search.
        seed: Seed of its own random generator.
        population: Codes for each generation.
    """

    name = "random"

    @at_door
    def __init__(self, space: Space, seed: int = 0, *, population: int = 40) -> None:
        check_population(population, 1)
        super().__init__(space, seed, population=int(population))
        self.population: int = int(population)

    def _propose(self) -> FloatArray:
        return self.space.sample(self.population, self._rng)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Forgets the answer."""
