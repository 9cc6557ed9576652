"""Controls: optimizers that are told scores which say nothing about their codes.

What an evolution does without a signal is not nothing: codes grow, their principal components oscillate, and the best
of many noisy scores is high. A control shows how much of a result is of this kind. By name: ``shuffled:cma``,
``noise:sphere-cma`` and so on, for any optimizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import (
    Attributing,
    Budgeted,
    Described,
    FloatArray,
    Optimizer,
    Recommending,
    Sighted,
    Space,
    State,
)
from closedloop.optimizers.loading import load_optimizer
from closedloop.readable import ReadableOptimizer
from closedloop.seeds import check_seed, generator_state, named_generator, restore_generator
from closedloop.signatures import at_door


class _Control(ReadableOptimizer, ABC):
    """Hands on everything but the scores.

    Args:
        optimizer: The optimizer that is kept in the dark; gradient-free.
        seed: Of what it is told instead.
    """

    kind: ClassVar[str]
    needs_gradient = False

    @at_door
    def __init__(self, optimizer: Optimizer, seed: int = 0) -> None:
        if optimizer.needs_gradient:
            raise InvalidArgumentError(f"optimizer: expected one without gradients, got {optimizer.name!r}.")
        self.optimizer = optimizer
        self.space = optimizer.space
        self.name = f"{self.kind}:{optimizer.name}"
        self._seed = check_seed(seed)
        self._rng = named_generator(seed, self.kind)
        if isinstance(optimizer, Sighted):
            self.see = optimizer.see
        if isinstance(optimizer, Attributing):
            self.proposers = optimizer.proposers

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_optimizer` makes it again; None where the optimizer inside has no recipe."""
        inner = self.optimizer.recipe if isinstance(self.optimizer, Described) else None
        return None if inner is None else {**inner, "name": f"{self.kind}:{inner['name']}", "control_seed": self._seed}

    @property
    def budget(self) -> int | None:
        """That of the optimizer inside; None where it plans with none."""
        return self.optimizer.budget if isinstance(self.optimizer, Budgeted) else None

    def plan(self, images: int) -> None:
        """Hands a budget of `images` codes to the optimizer inside, if it plans with one."""
        if isinstance(self.optimizer, Budgeted):
            self.optimizer.plan(images)

    def ask(self) -> FloatArray:
        """Asks the optimizer inside for its next codes."""
        return self.optimizer.ask()

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Tells it other scores; NaN stays where it is."""
        before = generator_state(self._rng)
        given = np.array(scores, dtype=float)
        if given.ndim == 1:  # all else the optimizer inside refuses
            valid = np.flatnonzero(~np.isnan(given))
            given[valid] = self._instead(given[valid])
        try:
            self.optimizer.tell(codes, given)
        except BaseException:
            restore_generator(self._rng, before)
            raise
        if given.ndim == 1:
            self._told(given[valid])

    def recommend(self, n: int) -> FloatArray:
        """Returns what the optimizer inside takes for the best; none where it recommends nothing."""
        inner = self.optimizer
        return inner.recommend(n) if isinstance(inner, Recommending) else np.empty((0, self.space.dim))

    @abstractmethod
    def _instead(self, scores: FloatArray) -> FloatArray:
        """Returns what is told instead of the scores ``(n,)``, infinity included."""

    def _told(self, scores: FloatArray) -> None:
        """Is called when the optimizer inside has taken the scores ``(n,)`` that it was told."""

    def state(self) -> State:
        """Returns the state of the optimizer inside, and the random generator."""
        return {"optimizer": self.optimizer.state(), "rng": generator_state(self._rng)}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self.optimizer.restore(state["optimizer"])
        restore_generator(self._rng, state["rng"])


@final
class ShuffledScores(_Control):
    """The scores of the first generation, in random order and then drawn again and again: all of them without meaning.

    In the first generation each code is told the score of another. Later ones are told draws from those scores, with
    replacement. Their own scores in another order would keep the mean of each generation, from which an optimizer that
    remembers several generations learns where scores are high.

    Args:
        optimizer: The optimizer that is kept in the dark; gradient-free.
        seed: Of the order.
    """

    kind = "shuffled"

    def __init__(self, optimizer: Optimizer, seed: int = 0) -> None:
        super().__init__(optimizer, seed)
        self._first: FloatArray | None = np.empty(0)  # scores of the first generation; None as older runs have it

    def _instead(self, scores: FloatArray) -> FloatArray:
        if self._first is None or len(self._first) == 0 or np.isinf(scores).any():
            return self._rng.permutation(scores)  # infinity among them is refused by the optimizer inside
        return self._rng.choice(self._first, len(scores))

    def _told(self, scores: FloatArray) -> None:
        if self._first is not None and len(self._first) == 0:
            self._first = scores.copy()

    def state(self) -> State:
        """Returns the state of the optimizer inside, the random generator, and the first generation's scores."""
        return {**super().state(), "first": self._first}

    def restore(self, state: State) -> None:
        """Goes back to a saved state; a run of an older version goes on by the order of each generation's scores."""
        super().restore(state)
        first = state.get("first")
        self._first = None if first is None else np.array(first, dtype=float)


@final
class NoiseScores(_Control):
    """Standard normal noise, whatever was recorded."""

    kind = "noise"

    def _instead(self, scores: FloatArray) -> FloatArray:
        noise = self._rng.standard_normal(len(scores))
        return np.where(np.isinf(scores), scores, noise)  # infinity is refused by the optimizer inside


def shuffled(
    name: str, space: Space, seed: int = 0, *, control_seed: int = 0, images: int | None = None, **options: Any
) -> ShuffledScores:
    """Makes the `ShuffledScores` of an optimizer by name, ``shuffled:NAME``."""
    return ShuffledScores(_inner(name, space, seed, images, options), control_seed)


def noise(
    name: str, space: Space, seed: int = 0, *, control_seed: int = 0, images: int | None = None, **options: Any
) -> NoiseScores:
    """Makes the `NoiseScores` of an optimizer by name, ``noise:NAME``."""
    return NoiseScores(_inner(name, space, seed, images, options), control_seed)


def _inner(name: str, space: Space, seed: int, images: int | None, options: dict[str, Any]) -> Optimizer:
    if not isinstance(name, str):
        raise InvalidArgumentError("optimizer: expected a name after the colon, for instance 'shuffled:cma'.")
    return load_optimizer(name, space, seed, images=images, **options)
