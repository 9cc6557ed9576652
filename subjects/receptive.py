"""Receptive fields of the units of a network: which pixels of the image a unit can depend on.

**Computed** where possible: the network is traced to a graph of ATen operations, and one walk along it keeps, for each
tensor, the first pixel, the extent and the step of what its elements see, as in Araujo, Norris & Sim 2019, "Computing
receptive fields of convolutional neural networks", Distill, eqs. 1 to 4. An operation that is not known here gives no
answer for all that follows from it. Then the field is **measured**: where the gradient of a unit with respect to the
image is not zero (Luo, Li, Urtasun & Zemel 2016, "Understanding the effective receptive field").

The field is that of the architecture: weights count as not zero, padding counts as image, and all channels at a
position share the field of the one that sees most.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Node

from closedloop.errors import InvalidArgumentError

Shape = tuple[int, ...]
#: First pixel and one past the last.
Span = tuple[int, int]

#: Noise images that may pass without showing a new pixel before a measurement ends.
PATIENCE = 6


@dataclass(frozen=True)
class ReceptiveField:
    """What a unit sees, as rows and columns of the image; unit (y, x) of a map begins at ``start + stride * (y, x)``.

    Attributes:
        size: Rows, columns in pixels, not clipped by the image; those of the image where every unit sees all of it.
        stride: Pixels between the fields of neighbouring units of the map; 0 where all units see the same.
        start: First row, column seen by the unit at (0, 0); negative where it reaches into the padding.
        method: ``"computed"`` from the graph, or ``"gradient"``.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]
    method: str

    def box(self, y: int, x: int, resolution: tuple[int, int]) -> tuple[int, int, int, int]:
        """What the unit at (y, x) sees of an image of ``resolution`` (rows, columns).

        Returns:
            ``(y0, x0, y1, x1)`` in pixels, half-open, clipped to the image. In a measured field of a network that is
            not translation-covariant (windowed attention) it is right for the middle of the map only.
        """
        if y < 0 or x < 0:
            raise InvalidArgumentError(f"y, x: expected a position in the map, 0 or more, got ({y}, {x}).")
        (y0, y1), (x0, x1) = (
            _clip(start + stride * at, start + stride * at + size, length)
            for start, stride, at, size, length in zip(
                self.start, self.stride, (y, x), self.size, resolution, strict=True
            )
        )
        return y0, x0, y1, x1


def receptive_fields(module: nn.Module, example: Tensor) -> list[ReceptiveField]:
    """The field of each output of ``module``: computed, or else measured.

    Args:
        module: ``module(example)`` is a tuple of tensors: maps ``(1, c, y, x)``, tokens ``(1, t, d)``, or ``(1, f)``.
        example: An image ``(1, 3, h, w)`` of the size that the module will be shown.

    Raises:
        InvalidArgumentError: An output can be neither computed nor measured, see `measured_field`.
    """
    computed = computed_fields(module, example)
    return [known or measured_field(module, example, output) for output, known in enumerate(computed)]


def computed_fields(module: nn.Module, example: Tensor) -> list[ReceptiveField | None]:
    """The field of each output of ``module``, from its graph.

    Args:
        module: ``module(example)`` is a tuple of tensors. It is traced, and not changed.
        example: An image ``(1, 3, h, w)``; its values do not matter.

    Returns:
        One entry for each output; None where the graph holds an operation that is not known here, where units see
        neither the same nor a regular grid (tokens before attention), or for all if the module cannot be traced.
    """
    _check_example(example)
    program = _exported(module, example)
    if program is None:
        return [None] * len(_outputs_alone(module, example))
    seen = _walk(program.graph, program.graph_signature.user_inputs, _resolution(example))
    outputs = {node.name: node for node in program.graph.nodes}
    return [_published(seen, outputs.get(str(name))) for name in program.graph_signature.user_outputs]


# What the elements of a tensor see ------------------------------------------------------------------------------------


class _UnknownError(Exception):
    """What the operation does with positions is not known, or cannot be expressed; the answer is None."""


@dataclass(frozen=True)
class _Axis:
    """Along one axis of the image, element i of dimension `dim` sees ``[start + i * stride, … + size)``.

    `dim` None: all elements see the same ``[start, start + size)``. The image has `length` pixels.
    """

    start: int
    size: int
    stride: int
    dim: int | None
    length: int

    @property
    def clipped(self) -> Span:
        return _clip(self.start, self.start + self.size, self.length)

    def over(self, count: int) -> _Axis:
        """What ``count`` elements see together, within the image."""
        low, high = _clip(self.start, self.start + (count - 1) * self.stride + self.size, self.length)
        return self if self.dim is None else _Axis(low, high - low, 0, None, self.length)

    def covers(self, other: _Axis) -> bool:
        """Whether all elements see at least what one element of ``other``, of fixed dimension, sees."""
        (low, high), (other_low, other_high) = self.clipped, other.clipped
        return self.dim is None and low <= other_low and other_high <= high

    def slide(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> _Axis:
        """After a window along its dimension: Araujo et al. 2019, eqs. 1 and 2."""
        if self.dim is None:
            return self
        start = self.start - padding * self.stride
        size = self.size + (kernel - 1) * dilation * self.stride
        return replace(self, start=start, size=size, stride=self.stride * stride)


@dataclass(frozen=True)
class _Seen:
    """What the elements of a tensor see of the image.

    Attributes:
        rows: Along the image's rows.
        cols: Along its columns.
        scattered: Dimensions over which the elements *together* see ``rows`` × ``cols``, each an unknown part. Then
            neither axis has a dimension.
        ragged: Dimensions along which some elements see less than stated (channels of joined branches).
    """

    rows: _Axis
    cols: _Axis
    scattered: frozenset[int] = frozenset()
    ragged: frozenset[int] = frozenset()

    @property
    def axes(self) -> tuple[_Axis, _Axis]:
        return self.rows, self.cols

    @property
    def positions(self) -> frozenset[int]:
        """The dimensions along which different parts of the image are seen."""
        return self.scattered | {axis.dim for axis in self.axes if axis.dim is not None}

    def renumbered(self, new: Callable[[int], int]) -> _Seen:
        """With dimension d of the tensor called ``new(d)``."""
        rows, cols = (axis if axis.dim is None else replace(axis, dim=new(axis.dim)) for axis in self.axes)
        return _Seen(rows, cols, frozenset(map(new, self.scattered)), frozenset(map(new, self.ragged)))

    def spread(self, shape: Shape, dims: Iterable[int]) -> _Seen:
        """After each element has come to depend on all elements along ``dims``."""
        merged = {dim % len(shape) for dim in dims}
        rows, cols = (axis.over(shape[axis.dim]) if axis.dim in merged else axis for axis in self.axes)  # type: ignore[index]
        return _Seen(rows, cols, self.scattered - merged, self.ragged - merged)

    def without_single(self, shape: Shape) -> _Seen:
        """With the dimensions of length 1 counted as no dimension."""
        return self.spread(shape, [dim for dim, count in enumerate(shape) if count == 1])

    def scatter(self, shape: Shape) -> _Seen:
        """With the regular grid given up, and only what all see together kept."""
        merged = self.spread(shape, (axis.dim for axis in self.axes if axis.dim is not None))
        return replace(merged, scattered=self.positions, ragged=self.ragged)

    def widen(self, shape: Shape, wider: Shape) -> _Seen:
        """After broadcasting from ``shape`` to ``wider``."""
        shift = len(wider) - len(shape)
        repeated = [dim for dim, count in enumerate(shape) if count == 1 and wider[dim + shift] > 1]
        return self.spread(shape, repeated).renumbered(lambda dim: dim + shift)


def _union(a: _Seen, b: _Seen, shape: Shape) -> _Seen:
    """What two tensors of one shape see together, element by element."""
    whole_a, whole_b = a.spread(shape, range(len(shape))), b.spread(shape, range(len(shape)))
    for one, other, whole in ((a, b, whole_b), (b, a, whole_a)):
        covering = zip(one.axes, whole.axes, strict=True)
        if not one.positions and not one.ragged and all(axis.covers(hull) for axis, hull in covering):
            return one
        del other
    ragged = a.ragged | b.ragged
    if not (a.scattered or b.scattered):
        joined = [_joined(*pair, shape) for pair in zip(a.axes, b.axes, strict=True)]
        if joined[0] and joined[1]:
            return _Seen(joined[0], joined[1], ragged=ragged)
    a, b = a.scatter(shape), b.scatter(shape)
    rows, cols = (_hull(*pair) for pair in zip(a.axes, b.axes, strict=True))
    return _Seen(rows, cols, a.scattered | b.scattered, ragged)


def _joined(a: _Axis, b: _Axis, shape: Shape) -> _Axis | None:
    """Two axes together, None where they have different steps."""
    if (a.dim, a.stride) == (b.dim, b.stride):
        return _hull(a, b)
    for one, other in ((a, b), (b, a)):
        if other.dim is not None and one.covers(other.over(shape[other.dim])):
            return one
    return None


def _hull(a: _Axis, b: _Axis) -> _Axis:
    """The shortest interval around two of the same step."""
    start = min(a.start, b.start)
    return replace(a, start=start, size=max(a.start + a.size, b.start + b.size) - start)


def _clip(low: int, high: int, length: int) -> Span:
    return min(max(low, 0), length), min(max(high, 0), length)
