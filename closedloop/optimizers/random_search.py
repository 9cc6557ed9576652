"""Random search: independent draws from the prior. The control that every optimizer must beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import check_population, check_tell
from closedloop.seeds import check_seed, generator_state, restore_generator


@final
class RandomSearch:
    """Draws codes from the prior and learns nothing.

    Args:
        space: Where to search.
        seed: Seed of its own random generator.
        population: Codes for each generation.
    """

    name = "random"
    needs_gradient = False

    def __init__(self, space: Space, seed: int = 0, *, population: int = 40) -> None:
        check_population(population, 1)
        self.space = space
        self.population = int(population)
        self._options = {"seed": seed, "population": self.population}
        self._rng = np.random.default_rng(check_seed(seed))
        self._asked: FloatArray | None = None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_optimizer` makes it again."""
        return {"name": self.name, **self._options}

    def ask(self) -> FloatArray:
        """Draws codes ``(population, dim)`` from the prior; the same again until they are told."""
        if self._asked is None:
            self._asked = self.space.sample(self.population, self._rng)
        return self._asked.copy()

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Checks the answer, and forgets it."""
        check_tell(self._asked, codes, scores)
        self._asked = None

    def state(self) -> State:
        """Pending codes and random generator."""
        return {
            "rng": generator_state(self._rng),
            "asked": None if self._asked is None else self._asked.copy(),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._asked = None if state["asked"] is None else np.array(state["asked"])
        restore_generator(self._rng, state["rng"])
