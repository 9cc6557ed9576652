"""A small language for the units of a layer.

======================  =========================================================================================
``7``                   channel 7, at the central position of its map if the layer has one
``[0, 3, 12]``          several; entries may be any of the forms here
``"0-9"``               channels 0 to 9, both included; a Python ``range`` works too
``"all"``               every channel, at the central position
``"full"``              every channel at every position
``"random:50"``         50 different channels drawn by a seed, at the central position
``(12, 3, 4)``          channel 12 at row 3, column 4; ``"(12,3,4)"`` as text
``"0-3,7,(12,3,4)"``    several, as text
======================  =========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from closedloop.checks import is_whole
from closedloop.errors import InvalidArgumentError

UnitSpec: TypeAlias = int | str | range | tuple[int, ...] | Sequence[Any]


@dataclass(frozen=True)
class UnitIndex:
    """One unit of a layer.

    Attributes:
        channel: Channel, or the unit's number in a layer without positions.
        y: Row in the map; -1 where there is none. In a layer of tokens: 0.
        x: Column in the map, or token; -1 where there is none.
        flat: Index into the flattened output of the layer for one image.
        position: "given", "central" (a channel alone was named) or "none" (the layer has no positions).
    """

    channel: int
    y: int
    x: int
    flat: int
    position: str

    @property
    def name(self) -> str:
        """Its name within the layer: ``"7"``, or ``"7@3,4"`` for channel 7 at row 3, column 4."""
        return str(self.channel) if self.position == "none" else f"{self.channel}@{self.y},{self.x}"


@dataclass(frozen=True)
class LayerShape:
    """What a layer returns for one image: ``(units,)``, ``(channels, h, w)`` or ``(tokens, channels)``."""

    layer: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) <= 3:
            raise InvalidArgumentError(
                f"layer {self.layer!r}: expected an output of shape (n, units), (n, channels, h, w) or "
                f"(n, tokens, channels), got ({', '.join(map(str, ('n', *self.shape)))})."
            )

    @property
    def channels(self) -> int:
        """Number of channels, or of units where there are no positions."""
        return self.shape[-1] if len(self.shape) == 2 else self.shape[0]

    @property
    def positions(self) -> tuple[int, int]:
        """Rows and columns of the map; (1, tokens) for tokens, (1, 1) without positions."""
        rows, columns = {1: (1, 1), 2: (1, self.shape[0]), 3: self.shape[1:]}[len(self.shape)]
        return rows, columns

    def central(self, channel: int) -> UnitIndex:
        """A channel at the central position: of a map, or of tokens without a class token."""
        if len(self.shape) == 1:
            return UnitIndex(channel, -1, -1, channel, "none")
        rows, columns = self.positions
        return self.at(channel, rows // 2, columns // 2, "central")

    def at(self, channel: int, y: int, x: int, position: str = "given") -> UnitIndex:
        """A channel at a position."""
        if len(self.shape) == 2:
            return UnitIndex(channel, y, x, x * self.channels + channel, position)
        return UnitIndex(channel, y, x, int(np.ravel_multi_index((channel, y, x), self.shape)), position)


def parse_units(spec: UnitSpec, shape: LayerShape, seed: int = 0) -> list[UnitIndex]:
    """The units that a specification names, in its order, each once.

    Args:
        spec: See the module's table.
        shape: The layer.
        seed: Draws the units of ``"random:N"``.

    Raises:
        InvalidArgumentError: It cannot be read, a unit is out of range, or one is named twice.
    """
    units = list(_parse(spec, shape, seed))
    if not units:
        raise InvalidArgumentError(f"units: expected at least one unit of layer {shape.layer!r}, got {spec!r}.")
    flat = [u.flat for u in units]
    if len(set(flat)) != len(flat):
        twice = next(u for u in units if flat.count(u.flat) > 1)
        raise InvalidArgumentError(f"units: unit {twice.name} of layer {shape.layer!r} is named twice in {spec!r}.")
    return units


def units_text(spec: Any) -> Any:
    """A specification as text, which a file can hold and `parse_units` reads back; a mapping entry by entry."""
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


def _parse(spec: Any, shape: LayerShape, seed: int) -> Iterator[UnitIndex]:
    if isinstance(spec, str):
        for item in re.findall(r"\([^)]*\)|[^,\s]+", spec):
            yield from _parse_text(item, shape, seed)
    elif is_whole(spec):
        yield shape.central(_in_range(int(spec), shape))
    elif _is_position(spec):
        channel, y, x = map(int, spec)
        yield _positioned(channel, y, x, shape)
    elif isinstance(spec, (list, tuple, range, np.ndarray)):
        for item in spec:
            yield from _parse(item, shape, seed)
    else:
        raise InvalidArgumentError(
            f"units: expected a number, list, range, 'all', 'full', 'random:N' or (channel, y, x), got {spec!r}."
        )


def _parse_text(item: str, shape: LayerShape, seed: int) -> Iterator[UnitIndex]:
    rows, columns = shape.positions
    if item == "all":
        yield from (shape.central(c) for c in range(shape.channels))
    elif item == "full":
        if len(shape.shape) == 1:
            yield from _parse_text("all", shape, seed)
        else:
            yield from (shape.at(c, y, x) for c in range(shape.channels) for y in range(rows) for x in range(columns))
    elif match := re.fullmatch(r"random:(\d+)", item):
        yield from (shape.central(c) for c in _draw(int(match[1]), shape, seed))
    elif match := re.fullmatch(r"(\d+)-(\d+)", item):
        first, last = int(match[1]), int(match[2])
        if last < first:
            raise InvalidArgumentError(f"units: expected the smaller number first, got {item!r}.")
        yield from (shape.central(_in_range(c, shape)) for c in range(first, last + 1))
    elif match := re.fullmatch(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)", item):
        yield _positioned(int(match[1]), int(match[2]), int(match[3]), shape)
    elif re.fullmatch(r"-?\d+", item):
        yield shape.central(_in_range(int(item), shape))
    else:
        raise InvalidArgumentError(
            f"units: cannot read {item!r}; expected for instance '7', '0-9', 'all', 'full', 'random:50' or '(12,3,4)'."
        )


def _draw(count: int, shape: LayerShape, seed: int) -> list[int]:
    if not 1 <= count <= shape.channels:
        raise InvalidArgumentError(
            f"units: 'random:{count}' asks for {count} of the {shape.channels} channels of layer {shape.layer!r}."
        )
    drawn = np.random.default_rng(seed).choice(shape.channels, count, replace=False)
    return sorted(int(c) for c in drawn)


def _in_range(channel: int, shape: LayerShape) -> int:
    if not 0 <= channel < shape.channels:
        raise InvalidArgumentError(
            f"units: {channel} is out of range; layer {shape.layer!r} has channels 0 to {shape.channels - 1}."
        )
    return channel


def _positioned(channel: int, y: int, x: int, shape: LayerShape) -> UnitIndex:
    rows, columns = shape.positions
    if len(shape.shape) == 1:
        raise InvalidArgumentError(
            f"units: ({channel}, {y}, {x}) names a position, but layer {shape.layer!r} has none; give {channel} alone."
        )
    if not (0 <= y < rows and 0 <= x < columns):
        raise InvalidArgumentError(
            f"units: position ({y}, {x}) is out of range; layer {shape.layer!r} has rows 0 to {rows - 1} and "
            f"columns 0 to {columns - 1}."
        )
    return shape.at(_in_range(channel, shape), y, x)
