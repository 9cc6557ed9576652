"""CyberAgent's cmaes as an optimizer by name, "cmaes:SepCMA": what a package of one's own adds, in a folder."""

from __future__ import annotations

from typing import Any, final

import cmaes
import numpy as np

from closedloop.errors import UnknownNameError
from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import MeanSearch


@final
class Separable(MeanSearch):
    """Their SepCMA, with its default settings.

    Its state is the scores so far: its draws come from the seed alone, so that asking and telling again brings it back.
    """

    name = "cmaes:SepCMA"
    memory = ("scores", "seed")

    def __init__(self, space: Space, seed: int = 0) -> None:
        super().__init__(space, seed)
        self._seed = seed
        self._begin()

    def _begin(self) -> None:
        space = self.space
        bounds = np.tile([space.low, space.high], (space.dim, 1)) if space.bounded else None
        self._inner = cmaes.SepCMA(space.center, space.scale, bounds=bounds, seed=self._seed)
        self._scores = np.empty((0, self._inner.population_size))

    def _mean(self) -> FloatArray:
        return np.array(self._inner._mean)

    def _propose(self) -> FloatArray:
        return np.stack([self._inner.ask() for _ in range(self._inner.population_size)])

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        self._inner.tell([(code, -float(score)) for code, score in zip(codes, scores, strict=True)])
        self._scores = np.vstack([self._scores, scores])

    def restore(self, state: State) -> None:
        """Goes back to a saved state, by asking and telling again."""
        self._seed = int(state["seed"])
        self._begin()
        for scores in state["scores"]:
            self._learn(self._propose(), scores)
        if state["asked"] is not None:
            self._propose()  # the codes that were pending are drawn, too
        super().restore(state)


def from_cmaes(method: str, space: Space, seed: int = 0) -> Any:
    """Builds the optimizer of a name."""
    if method != "SepCMA":
        raise UnknownNameError(f"optimizer: no optimizer 'cmaes:{method}' here; there is 'cmaes:SepCMA'.")
    return Separable(space, seed)
