"""Curves of a run that grow with it: scores of its threads by generation, and how its references answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from closedloop.interfaces import FloatArray

#: Columns of a curve, a row for each generation.
_COLUMNS = ("generation", "mean", "low", "high", "best", "best_id", "images")


@dataclass
class Curve:
    """One thread's evolution by generation, as lists that only grow.

    Attributes:
        name: Of the thread.
        objective: What is maximized.
        target: The same in words.
        columns: ``generation``, ``mean``, ``low`` and ``high`` (of the band), ``best``, ``best_id`` and ``images``.
        population: Name and score of each image of the last generation, the best first.
    """

    name: str
    objective: str
    target: str
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    population: list[tuple[str, float]] = field(default_factory=list)

    def add(self, generation: int, ids: Any, scores: FloatArray) -> None:
        """Adds a generation: names and scores of its presentations ``(n,)``."""
        names, first, times = np.unique(ids, return_index=True, return_counts=True)
        values = scores[first]
        order = np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")
        valid = values[~np.isnan(values)]
        low, high = np.percentile(valid, (10, 90)) if len(valid) else (np.nan, np.nan)
        before = self.columns["images"][-1] if self.columns["images"] else 0
        row = {
            "generation": generation,
            "mean": float(valid.mean()) if len(valid) else np.nan,
            "low": float(low),
            "high": float(high),
            "best": float(values[order[0]]),
            "best_id": str(names[order[0]]),
            "images": before + int(times.sum()),
        }
        for name, value in row.items():
            self.columns[name].append(value)
        self.population = [(str(names[i]), float(values[i])) for i in order]

    def since(self, generation: int) -> dict[str, list[Any]]:
        """Returns what is known of later generations."""
        start = int(np.searchsorted(self.columns["generation"], generation, side="right"))
        return {name: values[start:] for name, values in self.columns.items()}


@dataclass
class Baseline:
    """What the references answered in each block, by each thread's objective, and how that drifts.

    Attributes:
        generation: Numbers of the blocks; -1 for the survey.
        level: For each thread the mean score of the references that were shown then.
        drift: The same minus what these very images scored when they were shown first.
        first: That score, for each thread by the image's name.
    """

    generation: list[int] = field(default_factory=list)
    level: dict[str, list[float]] = field(default_factory=dict)
    drift: dict[str, list[float]] = field(default_factory=dict)
    first: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, generation: int, ids: Any, scores: Mapping[str, FloatArray]) -> None:
        """Adds a block: names of the references ``(n,)`` and their scores ``(n,)`` by thread."""
        self.generation.append(generation)
        for thread, values in scores.items():
            known = self.first.setdefault(thread, {})
            for name, value in zip(map(str, ids), values, strict=True):
                known.setdefault(name, float(value))
            before = np.array([known[str(name)] for name in ids])
            self.level.setdefault(thread, []).append(_mean(values))
            self.drift.setdefault(thread, []).append(_mean(values - before))

    def since(self, generation: int) -> dict[str, Any]:
        """Returns what is known of later blocks."""
        start = int(np.searchsorted(self.generation, generation, side="right"))
        return {
            "generation": self.generation[start:],
            "level": {thread: values[start:] for thread, values in self.level.items()},
            "drift": {thread: values[start:] for thread, values in self.drift.items()},
        }


def _mean(values: FloatArray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else float("nan")
