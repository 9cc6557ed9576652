"""What every objective does first: checks what came, and takes its columns of the responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from closedloop.checks import is_number, is_whole, real_numbers
from closedloop.errors import InvalidArgumentError
from closedloop.objectives.naming_units import columns_text as columns_text
from closedloop.objectives.naming_units import parse_columns as parse_columns


def selected(responses: Any, columns: Sequence[int] | None, describe: Callable[[], str]) -> Any:
    """Returns chosen columns ``(n, k)`` of responses ``(n, units[, time])``, averaged over time; of numpy in float64.

    Args:
        responses: Numpy or torch.
        columns: Which; None for all.
        describe: The objective's text, for the error.

    Raises:
        InvalidArgumentError: The responses have another shape, or too few columns.
    """
    if not 2 <= responses.ndim <= 3:
        raise InvalidArgumentError(f"responses: expected shape (n, units) or (n, units, time), got {responses.shape}.")
    if columns and max(columns) >= responses.shape[1]:
        raise InvalidArgumentError(
            f"objective {describe()!r}: expected a response column {max(columns)}, got {responses.shape[1]} "
            "units; record more units, or change the objective."
        )
    chosen = responses if columns is None else responses[:, list(columns)]
    if responses.ndim == 3:
        chosen = chosen.mean(-1)
    return chosen.astype(np.float64, copy=False) if isinstance(chosen, np.ndarray) else chosen


def lost(responses: Any) -> Any:
    """Returns where presentations were lost, ``(n,)`` boolean: every response of the row is NaN."""
    absent = responses != responses
    while absent.ndim > 1:
        absent = absent.all(-1)
    return absent


def number(value: Any) -> float:
    """Returns a finite number.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not is_number(value):
        raise InvalidArgumentError(f"objective: expected a number or an objective, got {type(value).__name__}.")
    if not np.isfinite(value):
        raise InvalidArgumentError(f"objective: expected a finite number, got {value}.")
    return float(value)


def one_column(unit: Any) -> int:
    """Returns a response column.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not is_whole(unit) or unit < 0:
        raise InvalidArgumentError(f"unit: expected a response column, a whole number of at least 0, got {unit!r}.")
    return int(unit)


def several_columns(units: Any, name: str) -> tuple[int, ...]:
    """Returns one or more different response columns.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if isinstance(units, (str, bytes)) or not hasattr(units, "__iter__"):
        raise InvalidArgumentError(f"{name}: expected one or more different units, got {units!r}.")
    columns = tuple(one_column(u) for u in units)
    if not columns or len(set(columns)) != len(columns):
        raise InvalidArgumentError(f"{name}: expected one or more different units, got {list(units)!r}.")
    return columns


def by_column(values: Any, name: str) -> dict[int, float]:
    """Returns a finite number for each of one or more response columns.

    Args:
        values: Numbers by column, or ``(units,)`` for the first columns.
        name: What they are called, for an error.

    Raises:
        InvalidArgumentError: They are something else.
    """
    if isinstance(values, Mapping):
        numbers, columns = real_numbers(name, list(values.values())), [one_column(c) for c in values]
    else:
        numbers = real_numbers(name, values)
        columns = list(range(numbers.size))
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise InvalidArgumentError(f"{name}: expected a finite number for one or more units, got {values!r:.80}.")
    return dict(zip(columns, numbers.tolist(), strict=True))
