"""What every optimizer does at its door: the order of calls, shapes, and the random generator's state."""

from __future__ import annotations

import numpy as np

from closedloop.errors import CallOrderError, InvalidArgumentError
from closedloop.interfaces import FloatArray, Space


def check_positive(name: str, value: float | None) -> None:
    """Raises unless ``value`` is None or a finite number above 0."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if value is not None and not (number and np.isfinite(value) and value > 0):
        raise InvalidArgumentError(f"{name}: expected a finite number above 0, got {value!r}.")


def check_population(population: int | None, minimum: int) -> None:
    """Raises unless ``population`` is None or a whole number of at least ``minimum``."""
    if population is None:
        return
    if isinstance(population, bool) or not isinstance(population, (int, np.integer)) or population < minimum:
        raise InvalidArgumentError(f"population: expected a whole number of at least {minimum}, got {population!r}.")


def check_start(start: FloatArray | None, space: Space) -> FloatArray:
    """Returns the first mean ``(dim,)``: ``start`` if it fits the space, else the middle of the prior."""
    if start is None:
        return space.center
    start = np.asarray(start, dtype=float)
    if start.shape != (space.dim,):
        raise InvalidArgumentError(f"start: expected shape ({space.dim},), got {start.shape}.")
    checked: FloatArray = space.check(start[None])[0].copy()
    return checked


def check_tell(asked: FloatArray | None, codes: FloatArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns ``codes (n, dim)`` and ``scores (n,)`` as float64 if they answer the last `ask`.

    Args:
        asked: What the last `ask` returned, None where there was none.
        codes: What the caller hands back.
        scores: One number for each code; NaN where the presentation was lost.

    Raises:
        CallOrderError: `tell` without `ask`.
        InvalidArgumentError: Wrong shapes, or other codes than those asked for.
    """
    if asked is None:
        raise CallOrderError("tell: expected a call of ask() first; each ask() is answered by one tell().")
    codes, scores = np.asarray(codes), np.asarray(scores, dtype=float)
    if codes.shape != asked.shape or not np.array_equal(codes, asked):
        raise InvalidArgumentError(
            f"codes: expected the {len(asked)} codes of the last ask(), unchanged, shape {asked.shape}, "
            f"got shape {codes.shape}."
        )
    if scores.shape != (len(asked),):
        raise InvalidArgumentError(f"scores: expected shape ({len(asked)},), got {scores.shape}.")
    if np.isinf(scores).any():
        raise InvalidArgumentError("scores: expected finite numbers, or NaN for a lost presentation; got infinity.")
    return codes.astype(float, copy=False), scores


def log_weights(n: int) -> FloatArray:
    """Positive recombination weights ``(n // 2 or 1,)`` for ``n`` ranked samples, sum 1 (Hansen 2016, eq. 49)."""
    mu = max(n // 2, 1)
    weights = np.log((n + 1) / 2) - np.log(np.arange(1, mu + 1)) if n > 1 else np.ones(1)
    return np.asarray(weights / weights.sum())


def field_population(dim: int) -> int:
    """The field's population size 4 + 3 log2(dim): 40 for a code of 4096 (Wang & Ponce 2022)."""
    return int(4 + np.floor(3 * np.log2(dim)))
