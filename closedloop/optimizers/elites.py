"""MAP-Elites over classes: for each class the best image found so far, all of them bred together.

Source: Nguyen, Yosinski & Clune 2015, "Deep Neural Networks are Easily Fooled", after Mouret & Clune 2015,
"Illuminating search spaces by mapping elites". Needs ``pip install 'closedloop[elites]'``.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_number, check_positive, check_whole
from closedloop.errors import CallOrderError, InvalidArgumentError, require
from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import AskTell

GridArchive = require("ribs.archives", "elites", "map-elites").GridArchive


@final
class MapElites(AskTell):
    """One elite for each class. Codes are told the scores of all classes; a code may become the elite of many.

    Two parents are drawn uniformly from the occupied cells, crossed, and both children are mutated. Every child is
    compared with the elite of *every* class and replaces those it beats; between equals the older one stays. The first
    generation are draws from the prior. The archive is that of pyribs.

    It asks and tells like an optimizer, but learns from a score for each class: `closedloop.protocols.evolve_elites`
    runs it. O(classes · dim) memory.

    Args:
        space: Where to search. In a bounded space children are moved to the bounds.
        classes: Number of classes.
        seed: Seed of its own random generator.
        children: Codes for each generation; 200 for pixels and 400 for pattern-producing networks in the paper.
        initial: Codes of the first generation; None for as many as `children`.
        crossover_rate: Probability that two parents are crossed; None for 0.5 (bounded space) or 0.1 (unbounded).
        crossover_eta: Distribution index of the crossover: more stays nearer to the parents; None for 10 or 15.
        mutation_rate: Probability that a coordinate of a child is mutated.
        mutation_eta: Distribution index of the mutation.
        reach: In an unbounded space, how far from 0 codes may go, in standard deviations of its prior. A mutation is
            relative to the whole range. 6 gives the networks of `CPPN` weights in about the paper's [-10, 10].
    """

    name = "map-elites"

    def __init__(
        self,
        space: Space,
        classes: int,
        seed: int = 0,
        *,
        children: int = 200,
        initial: int | None = None,
        crossover_rate: float | None = None,
        crossover_eta: float | None = None,
        mutation_rate: float = 0.1,
        mutation_eta: float = 15.0,
        reach: float = 6.0,
    ) -> None:
        self.classes: int = check_whole("classes", classes, 1)
        self.children: int = check_whole("children", children, 2)
        # The paper's crossover of pixels (a bounded space) and of pattern-producing networks (an unbounded one).
        rate, eta = (0.5, 10.0) if space.bounded else (0.1, 15.0)
        self.crossover_rate: float = rate if crossover_rate is None else crossover_rate
        self.crossover_eta: float = eta if crossover_eta is None else crossover_eta
        check_number("crossover_rate", self.crossover_rate, 0, 1)
        check_number("mutation_rate", mutation_rate, 0, 1)
        for name, value in {"crossover_eta": self.crossover_eta, "mutation_eta": mutation_eta, "reach": reach}.items():
            check_positive(name, value)
        super().__init__(
            space,
            seed,
            classes=self.classes,
            children=children,
            initial=initial,
            crossover_rate=crossover_rate,
            crossover_eta=crossover_eta,
            mutation_rate=mutation_rate,
            mutation_eta=mutation_eta,
            reach=reach,
        )
        self.initial: int = self.children if initial is None else check_whole("initial", initial, 1)
        self.mutation_rate: float = mutation_rate
        self.mutation_eta: float = mutation_eta
        span = reach * space.scale
        self._limits = (space.low, space.high) if space.bounded else (-span, span)
        self._told = 0
        self._archive = GridArchive(
            solution_dim=space.dim,
            dims=[self.classes],
            ranges=[(-0.5, self.classes - 0.5)],
            dtype=np.float64,
            extra_fields={"evaluation": ((), np.int64)},
        )

    @property
    def told(self) -> int:
        """How many codes were told."""
        return self._told

    @property
    def scores(self) -> FloatArray:
        """Score of each class's elite, ``(classes,)``; NaN where there is none yet."""
        return self._by_class("objective", np.nan)

    @property
    def evaluations(self) -> NDArray[np.int64]:
        """For each class, which of the codes told so far, counted from 1, is its elite, ``(classes,)``; 0 for none."""
        return self._by_class("evaluation", 0).astype(np.int64)

    def _by_class(self, name: str, empty: float) -> FloatArray:
        """Returns a field of the archive ``(classes,)``."""
        found = self._archive.data(["index", name])
        column = np.full(self.classes, empty, np.float64)
        column[found["index"]] = found[name]
        return column

    def elites(self) -> tuple[NDArray[np.int64], FloatArray]:
        """Returns the classes that have an elite ``(m,)``, in order, and its code ``(m, dim)``."""
        found = self._archive.data(["index", "solution"])
        order = np.argsort(found["index"])
        return found["index"][order].astype(np.int64), found["solution"][order]

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Learns from the scores ``(n, classes)`` of the codes of the last `ask`; a row with NaN was lost."""
        if self._asked is None:
            raise CallOrderError("tell: expected a call of ask() first; each ask() is answered by one tell().")
        codes, scores = np.asarray(codes), np.asarray(scores, dtype=float)
        if not np.array_equal(codes, self._asked):
            raise InvalidArgumentError(
                f"codes: expected the {len(self._asked)} codes of the last ask(), unchanged, shape "
                f"{self._asked.shape}, got shape {codes.shape}."
            )
        if scores.shape != (len(codes), self.classes) or np.isinf(scores).any():
            raise InvalidArgumentError(
                f"scores: expected finite numbers (or NaN) of shape ({len(codes)}, {self.classes}), one for each "
                f"class, got shape {scores.shape}{' with infinity' if np.isinf(scores).any() else ''}."
            )
        self._asked = None
        self._learn(codes, scores)

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Gives each class the best of the children if it beats its elite."""
        valid = np.where(np.isnan(scores).any(1, keepdims=True), -np.inf, scores)
        best = valid.argmax(0)  # one after the other or at once: the same elites
        score = valid.max(0)
        won = np.flatnonzero(score > np.nan_to_num(self.scores, nan=-np.inf))
        if len(won):
            which = best[won]
            self._archive.add(codes[which], score[won], won[:, None], evaluation=self._told + which + 1)
        self._told += len(codes)

    def _propose(self) -> FloatArray:
        """Returns children of parents from the archive ``(children, dim)``; draws from the prior at first."""
        occupied, elites = self.elites()
        if not len(occupied):
            return np.clip(self.space.sample(self.initial, self._rng), *self._limits)
        pairs = -(-self.children // 2)
        first, second = elites[self._rng.integers(len(occupied), size=(2, pairs))]
        crossed = cross(first, second, self.crossover_rate, self.crossover_eta, self._limits, self._rng)
        children = np.stack(crossed, 1).reshape(-1, self.space.dim)[: self.children]
        return mutate(children, self.mutation_rate, self.mutation_eta, self._limits, self._rng)

    def state(self) -> State:
        """Returns the elites, each code once, the pending codes and the random generator."""
        found = self._archive.data(["index", "objective", "evaluation", "solution"])
        _, first, which = np.unique(found["evaluation"], return_index=True, return_inverse=True)
        return {
            **super().state(),
            "told": self._told,
            "codes": found["solution"][first],
            "which": which,
            "cells": found["index"],
            "scores": found["objective"],
            "evaluation": found["evaluation"],
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        super().restore(state)
        self._told = int(state["told"])
        self._archive.clear()
        if len(state["cells"]):
            codes = np.asarray(state["codes"])[state["which"]]
            cells = np.asarray(state["cells"])[:, None]
            self._archive.add(codes, state["scores"], cells, evaluation=state["evaluation"])


def cross(
    first: FloatArray, second: FloatArray, rate: float, eta: float, limits: tuple[float, float], rng: Any
) -> tuple[FloatArray, FloatArray]:
    """Crosses half the coordinates by simulated binary crossover within bounds (Deb & Agrawal 1995; as in NSGA-II).

    Args:
        first: Parents ``(n, dim)``.
        second: Their partners ``(n, dim)``.
        rate: Probability that a pair is crossed; other children equal their parents.
        eta: Distribution index.
        limits: Lower and upper bound of each coordinate.
        rng: Draws.

    Returns:
        Two children of each pair, ``(n, dim)`` both.
    """
    low, high = limits
    y1, y2 = np.minimum(first, second), np.maximum(first, second)
    crossed = (rng.random((len(first), 1)) < rate) & (rng.random(first.shape) < 0.5) & (y2 - y1 > 1e-14)
    gap = np.where(crossed, y2 - y1, 1.0)
    u = rng.random(first.shape)
    # β = 1 + 2 (distance to the nearer bound) / (y2 - y1): how far apart children may be before one leaves the bounds.
    c1 = 0.5 * (y1 + y2 - _spread(1 + 2 * (y1 - low) / gap, u, eta) * gap)
    c2 = 0.5 * (y1 + y2 + _spread(1 + 2 * (high - y2) / gap, u, eta) * gap)
    swapped = rng.random(first.shape) < 0.5
    c1, c2 = np.where(swapped, c2, c1), np.where(swapped, c1, c2)
    return (
        np.clip(np.where(crossed, c1, first), low, high),
        np.clip(np.where(crossed, c2, second), low, high),
    )


def _spread(beta: FloatArray, u: FloatArray, eta: float) -> FloatArray:
    """Returns how far apart the children are, in distances of their parents, for uniform ``u``; at most ``beta``."""
    alpha = 2 - beta ** -(eta + 1)  # α, the normalization of a spread cut off at β
    near = u <= 1 / alpha  # children between their parents, else beyond them: inverse of the spread's distribution
    return np.asarray(np.where(near, u * alpha, 1 / (2 - np.minimum(u * alpha, 2 - 1e-12))) ** (1 / (eta + 1)))


def mutate(codes: FloatArray, rate: float, eta: float, limits: tuple[float, float], rng: Any) -> FloatArray:
    """Turns codes ``(n, dim)`` into new ones by polynomial mutation (Deb & Goyal 1996), moved to the bounds.

    Args:
        codes: What is mutated.
        rate: Probability for each coordinate.
        eta: Distribution index; a mutation is (1 / (eta + 2)) of the range between the bounds in the mean.
        limits: Lower and upper bound of each coordinate.
        rng: Draws.
    """
    low, high = limits
    mutated = rng.random(codes.shape) < rate
    u = rng.random(codes.shape)
    # δ has the density (η + 1) / 2 (1 - |δ|)^η on [-1, 1].
    delta = np.where(u < 0.5, (2 * u) ** (1 / (eta + 1)) - 1, 1 - (2 * (1 - u)) ** (1 / (eta + 1)))
    return np.asarray(np.clip(np.where(mutated, codes + delta * (high - low), codes), low, high))
