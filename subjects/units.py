"""The units of a layer, named in the language of `closedloop.objectives.naming_units`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.networks.tokens import central_token
from closedloop.objectives.naming_units import Numbered, UnitSpec, named_units


@dataclass(frozen=True)
class UnitIndex:
    """One unit of a layer.

    Attributes:
        channel: Channel, or the unit's number in a layer without positions.
        y: Row in the map; -1 where there is none. In a layer of tokens: 0.
        x: Column in the map, or token; -1 where there is none.
        flat: Index into the flattened output of the layer for one image.
        position: "given"; where a channel alone was named "central", or "middle" in a sequence of tokens that is no
            square of patches; or "none" (the layer has no positions).
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


def channels_last(shape: tuple[int, ...]) -> bool:
    """Tells whether a map is ``(h, w, channels)``: images are square, so the two equal axes are rows and columns."""
    return len(shape) == 3 and shape[0] == shape[1] != shape[2]


@dataclass(frozen=True)
class LayerShape:
    """What a layer returns for one image: ``(units,)``, ``(channels, h, w)`` or ``(tokens, channels)``.

    A map whose first two axes alone are equal is ``(h, w, channels)``, as in a Swin transformer.
    """

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
        return self.shape[-1] if len(self.shape) == 2 or channels_last(self.shape) else self.shape[0]

    @property
    def positions(self) -> tuple[int, int]:
        """Rows and columns of the map; (1, tokens) for tokens, (1, 1) without positions."""
        if len(self.shape) < 3:
            return 1, self.shape[0] if len(self.shape) == 2 else 1
        rows, columns = self.shape[:2] if channels_last(self.shape) else self.shape[1:]
        return rows, columns

    def central(self, channel: int) -> UnitIndex:
        """Returns a channel at the central position: of a map, or of the square of patches that tokens stand for."""
        if len(self.shape) == 1:
            return UnitIndex(channel, -1, -1, channel, "none")
        if len(self.shape) == 2:
            token, position = central_token(self.shape[0])
            return self.at(channel, 0, token, position)
        rows, columns = self.positions
        return self.at(channel, rows // 2, columns // 2, "central")

    def at(self, channel: int, y: int, x: int, position: str = "given") -> UnitIndex:
        """Returns a channel at a position."""
        if len(self.shape) == 2:
            return UnitIndex(channel, y, x, x * self.channels + channel, position)
        place = (y, x, channel) if channels_last(self.shape) else (channel, y, x)
        return UnitIndex(channel, y, x, int(np.ravel_multi_index(place, self.shape)), position)


def parse_units(spec: UnitSpec, shape: LayerShape, seed: int = 0) -> list[UnitIndex]:
    """Returns the units that a specification names, in its order, each once.

    Args:
        spec: See `closedloop.objectives.naming_units`.
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


def _parse(spec: Any, shape: LayerShape, seed: int) -> Iterator[UnitIndex]:
    channels = Numbered(shape.channels, kind="channels", where=f"layer {shape.layer!r}", seed=seed)
    for found in named_units(spec, channels):
        if isinstance(found, tuple):
            yield _positioned(*found, shape)
        elif isinstance(found, int):
            yield shape.central(found)
        else:
            yield from _full(shape)


def _full(shape: LayerShape) -> Iterator[UnitIndex]:
    """Yields every channel at every position."""
    rows, columns = shape.positions
    for channel in range(shape.channels):
        if len(shape.shape) == 1:
            yield shape.central(channel)
        else:
            yield from (shape.at(channel, y, x) for y in range(rows) for x in range(columns))


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
    return shape.at(channel, y, x)
