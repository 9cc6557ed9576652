"""What every objective does first: checks what came, and takes its columns of the responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from closedloop.checks import is_number, is_whole
from closedloop.errors import InvalidArgumentError


def selected(responses: Any, columns: Sequence[int] | None, describe: Callable[[], str]) -> Any:
    """The chosen columns ``(n, k)`` of responses ``(n, units[, time])``, averaged over time; of numpy in float64.

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
    """Where presentations were lost, ``(n,)`` boolean: every response of the row is NaN."""
    absent = responses != responses
    while absent.ndim > 1:
        absent = absent.all(-1)
    return absent


def number(value: Any) -> float:
    """A finite number.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not is_number(value):
        raise InvalidArgumentError(f"objective: expected a number or an objective, got {type(value).__name__}.")
    if not np.isfinite(value):
        raise InvalidArgumentError(f"objective: expected a finite number, got {value}.")
    return float(value)


def one_column(unit: Any) -> int:
    """A response column.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not is_whole(unit) or unit < 0:
        raise InvalidArgumentError(f"unit: expected a response column, a whole number of at least 0, got {unit!r}.")
    return int(unit)


def several_columns(units: Any, name: str) -> tuple[int, ...]:
    """One or more different response columns.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if isinstance(units, (str, bytes)) or not hasattr(units, "__iter__"):
        raise InvalidArgumentError(f"{name}: expected one or more different units, got {units!r}.")
    columns = tuple(one_column(u) for u in units)
    if not columns or len(set(columns)) != len(columns):
        raise InvalidArgumentError(f"{name}: expected one or more different units, got {list(units)!r}.")
    return columns


def parse_columns(text: str, name: str = "unit") -> list[int]:
    """Numbers from a text such as ``"0-3,7"``; none from an empty one.

    Raises:
        InvalidArgumentError: It is something else; the error names the argument ``name``.
    """
    columns: list[int] = []
    for word in text.split(",") if text else ():
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise InvalidArgumentError(f"{name}: expected numbers such as 292, 7,8 or 0-9, got {text!r}.")
        columns += range(int(first), int(last or first) + 1)
    return columns


def columns_text(columns: Sequence[int]) -> str:
    """The text of some columns in their order, consecutive ones together."""
    begins = [0, *(i + 1 for i, (one, next_) in enumerate(pairwise(columns)) if next_ != one + 1), len(columns)]
    spans = [(columns[i], columns[j - 1]) for i, j in pairwise(begins) if i < j]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
