"""A small language for units: the channels of a layer, or the response columns of a subject.

======================  ===========================================================================================
``7``                   number 7; in a layer with positions at the central one, of tokens that of the central patch
``[0, 3, 12]``          several; entries may be any of the forms here
``"0-9"``               0 to 9, both included; a Python ``range`` works too
``"all"``               every one
``"random:50"``         50 different ones drawn by a seed, in ascending order
``"0-3,7,random:2"``    several, as text
``"full"``              every channel at every position
``(12, 3, 4)``          channel 12 at row 3, column 4 of a layer; ``"(12,3,4)"`` as text
======================  ===========================================================================================
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from closedloop.checks import is_whole, read_whole
from closedloop.errors import InvalidArgumentError
from closedloop.seeds import plain_generator

UnitSpec: TypeAlias = int | str | range | tuple[int, ...] | Sequence[Any]
#: A channel, a channel at a row and a column, or "full".
Named: TypeAlias = int | tuple[int, int, int] | str


@dataclass(frozen=True)
class Numbered:
    """What units are counted in.

    Attributes:
        count: How many there are.
        name: The argument that names them, for errors.
        kind: What they are, in the plural: "channels" or "response columns".
        where: What has them: "layer 'fc'" or "the subject".
        seed: Draws those of ``"random:N"``.
    """

    count: int
    name: str = "units"
    kind: str = "response columns"
    where: str = "the subject"
    seed: int = 0

    def checked(self, number: int) -> int:
        """Returns a number that is in range.

        Raises:
            InvalidArgumentError: It is not.
        """
        if not 0 <= number < self.count:
            raise InvalidArgumentError(
                f"{self.name}: {number} is out of range; {self.where} has {self.kind} 0 to {self.count - 1}."
            )
        return number

    def drawn(self, count: int) -> list[int]:
        """Returns different numbers, drawn by the seed.

        Raises:
            InvalidArgumentError: There are not so many.
        """
        if not 1 <= count <= self.count:
            raise InvalidArgumentError(
                f"{self.name}: 'random:{count}' asks for {count} of the {self.count} {self.kind} of {self.where}."
            )
        drawn = plain_generator(self.seed).choice(self.count, count, replace=False)
        return sorted(int(number) for number in drawn)


def named_units(spec: Any, among: Numbered) -> Iterator[Named]:
    """Yields what a specification names, in its order; positions are not checked.

    Raises:
        InvalidArgumentError: It cannot be read, or a channel is out of range.
    """
    if isinstance(spec, str):
        for item in re.findall(r"\([^)]*\)|[^,\s]+", spec):
            yield from _of_text(item, among)
    elif is_whole(spec):
        yield among.checked(int(spec))
    elif _is_position(spec):
        channel, y, x = map(int, spec)
        yield among.checked(channel), y, x
    elif isinstance(spec, (list, tuple, range)) or (isinstance(spec, np.ndarray) and spec.ndim):
        for item in spec:
            yield from named_units(item, among)
    else:
        raise InvalidArgumentError(
            f"{among.name}: expected a number, list, range, 'all', 'full', 'random:N' or (channel, y, x), got {spec!r}."
        )


def _of_text(item: str, among: Numbered) -> Iterator[Named]:
    if item == "all":
        yield from range(among.count)
    elif item == "full":
        yield item
    elif match := re.fullmatch(r"random:(\d+)", item):
        yield from among.drawn(read_whole(among.name, match[1]))
    elif match := re.fullmatch(r"(\d+)-(\d+)", item):
        first, last = (read_whole(among.name, number) for number in match.groups())
        if last < first:
            raise InvalidArgumentError(f"{among.name}: expected the smaller number first, got {item!r}.")
        yield from (among.checked(number) for number in range(first, last + 1))
    elif match := re.fullmatch(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)", item):
        channel, y, x = (read_whole(among.name, number) for number in match.groups())
        yield among.checked(channel), y, x
    elif re.fullmatch(r"-?\d+", item):
        yield among.checked(read_whole(among.name, item))
    else:
        raise InvalidArgumentError(
            f"{among.name}: cannot read {item!r}; expected for instance '7', '0-9', 'all', 'random:50', or in a layer "
            "with positions 'full' or '(12,3,4)'."
        )


def parse_columns(spec: UnitSpec, count: int, seed: int = 0, name: str = "units") -> list[int]:
    """Returns the response columns that a specification names, in its order, each once.

    Args:
        spec: See the module's table; positions belong to layers, and a column has none.
        count: How many columns there are.
        seed: Draws the columns of ``"random:N"``.
        name: The argument, for errors.

    Raises:
        InvalidArgumentError: It cannot be read, a column is out of range, or one is named twice.
    """
    columns: list[int] = []
    for found in named_units(spec, Numbered(count, name, seed=seed)):
        if isinstance(found, tuple):
            raise InvalidArgumentError(
                f"{name}: {found} names a position in a layer, but a response column was asked for; expected for "
                "instance '7', '0-9', 'all' or 'random:50'."
            )
        columns += range(count) if isinstance(found, str) else [found]
    if not columns:
        raise InvalidArgumentError(f"{name}: expected at least one response column, got {spec!r}.")
    if len(set(columns)) != len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise InvalidArgumentError(f"{name}: column {twice} is named twice in {spec!r}.")
    return columns


def columns_text(columns: Sequence[int]) -> str:
    """Returns the text of some columns in their order, consecutive ones together; `read_columns` reads it back."""
    begins = [0, *(i + 1 for i, (one, next_) in enumerate(pairwise(columns)) if next_ != one + 1), len(columns)]
    spans = [(columns[i], columns[j - 1]) for i, j in pairwise(begins) if i < j]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def read_columns(text: str) -> list[int]:
    """Returns the columns of a text that `columns_text` wrote; none of an empty one."""
    return [column for column in named_units(text, Numbered(sys.maxsize)) if isinstance(column, int)]


def units_text(spec: Any) -> Any:
    """Returns a specification as text, which a file can hold and which means the same; a mapping entry by entry."""
    if isinstance(spec, Mapping):
        return {layer: units_text(of_layer) for layer, of_layer in spec.items()}
    if _is_position(spec):
        return "({},{},{})".format(*spec)
    if isinstance(spec, range) and len(spec) > 1 and spec.step == 1:
        return f"{spec.start}-{spec.stop - 1}"
    if isinstance(spec, (list, tuple, range, np.ndarray)):
        return ",".join(str(units_text(item)) for item in spec)
    return str(spec)


def _is_position(spec: Any) -> bool:
    return isinstance(spec, tuple) and len(spec) == 3 and all(isinstance(i, (int, np.integer)) for i in spec)
