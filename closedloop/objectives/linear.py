"""Weighted sums of units: one unit, a mean, a direction, a difference, a suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.objectives.algebra import Linear
from closedloop.objectives.selecting import one_column, several_columns
from closedloop.signatures import at_door


@at_door
def Unit(column: int) -> Linear:  # noqa: N802 - reads as the noun it makes
    """Returns the response of one unit, by its column."""
    return Linear({one_column(column): 1.0})


@at_door
def Mean(units: Sequence[int]) -> Linear:  # noqa: N802
    """Returns the mean response of several units."""
    columns = several_columns(units, "Mean")
    return Linear({c: 1 / len(columns) for c in columns}, text=f"mean({', '.join(map(str, columns))})")


@at_door
def Direction(weights: Sequence[float]) -> Linear:  # noqa: N802
    """Makes a weighted direction in response space: ``weights (units,)``, normalized to length 1."""
    vector = np.asarray(weights, dtype=float)
    length = float(np.linalg.norm(vector)) if vector.ndim == 1 else 0.0
    if not (np.isfinite(length) and length > 0):
        raise InvalidArgumentError(f"Direction: expected finite weights (units,), not all zero, got {weights!r:.80}.")
    return Linear({i: float(w) for i, w in enumerate(vector / length)})


@at_door
def Difference(a: int, b: int) -> Linear:  # noqa: N802
    """Subtracts unit ``b`` from unit ``a``."""
    first, second = one_column(a), one_column(b)
    return Linear({first: 1.0, second: -1.0} if first != second else {first: 0.0})


@at_door
def Suppression(column: int) -> Linear:  # noqa: N802
    """Negates the response of a unit: evolves what silences it."""
    return Linear({one_column(column): -1.0})
