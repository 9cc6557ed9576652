"""Columns as text: ``"292"``, ``"7,8"``, ``"0-9"``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from closedloop.errors import InvalidArgumentError


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
