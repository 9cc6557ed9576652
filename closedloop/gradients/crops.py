"""Views of parts: many small windows of one large picture, each at the size that the subject sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from closedloop.checks import check_number, check_whole
from closedloop.errors import InvalidArgumentError

from .sampling import check_numbers, check_pictures, draws, resample


@final
@dataclass(frozen=True)
class Repeat:
    """Several copies of each picture, for the views that follow: ``(n, 3, h, w)`` -> ``(n copies, 3, h, w)``.

    Attributes:
        copies: How many.
    """

    copies: int

    def __post_init__(self) -> None:
        check_whole("copies", self.copies, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws nothing."""
        check_pictures(images)
        return images.repeat_interleave(self.copies, 0)

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Crops:
    """Square windows that shrink from step to step, as in MACO (Fel et al. 2023): -> ``(n copies, 3, size, size)``.

    Sides are drawn from N(mean(step), side_std²) and clipped, where the mean goes in a straight line from ``first`` to
    ``last``; centres from N(center, center_std²) on each axis. All are shares of the picture's side, the shorter one if
    they differ. A window may reach beyond the picture, where it shows ``value``. The published crops are bilinear;
    these are antialiased, too, which makes a difference where a window has more pixels than ``size``.

    Attributes:
        copies: Windows of each picture.
        size: Height and width at which a window is seen, in pixels.
        first: Mean side at step 0.
        last: Mean side at step ``steps - 1``, and after it.
        steps: Steps on the way from the one to the other.
        side_std: Standard deviation of the side.
        limits: Smallest and largest side.
        center: Mean of the centres.
        center_std: Their standard deviation.
        value: Grey level beyond the picture.
    """

    copies: int = 32
    size: int = 224
    first: float = 0.5
    last: float = 0.05
    steps: int = 256
    side_std: float = 0.05
    limits: tuple[float, float] = (0.05, 1.0)
    center: float = 0.5
    center_std: float = 0.15
    value: float = 0.5

    def __post_init__(self) -> None:
        for name in ("copies", "size", "steps"):
            check_whole(name, getattr(self, name), 1)
        for name in ("first", "last", "center", "value"):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("side_std", "center_std"):
            check_number(name, getattr(self, name), 0)
        object.__setattr__(self, "limits", check_sides("limits", self.limits))

    def mean_side(self, step: int) -> float:
        """Returns the mean side of the windows at a step, as a share of the picture's."""
        way = min(step / max(self.steps - 1, 1), 1.0)
        return (1 - way) * self.first + way * self.last

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws a side and a centre for each window."""
        boxes = [self._box(own, self.mean_side(step)) for own in draws(rng, len(images) * self.copies)]
        return _windows(images, self.copies, self.size, self.value, boxes)

    def _box(self, own: np.random.Generator, mean: float) -> tuple[float, float, float]:
        """Draws top, left and side of a window, as shares."""
        side = float(np.clip(own.normal(mean, self.side_std), *self.limits))
        y, x = own.normal(self.center, self.center_std, 2)
        return float(y) - side / 2, float(x) - side / 2, side

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class InnerCrops:
    """Square windows within the picture, of any size and at any place: -> ``(n copies, 3, size, size)``.

    The crops of feature accentuation (Hamblin et al. 2024). Sides are uniform between the limits, as shares of the
    picture's side (the shorter one); corners are uniform where the window fits. Bilinear and antialiased.

    Attributes:
        copies: Windows of each picture.
        size: Height and width at which a window is seen, in pixels.
        limits: Smallest and largest side.
    """

    copies: int = 16
    size: int = 224
    limits: tuple[float, float] = (0.05, 0.99)

    def __post_init__(self) -> None:
        check_whole("copies", self.copies, 1)
        check_whole("size", self.size, 1)
        object.__setattr__(self, "limits", check_sides("limits", self.limits))

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws a side and a corner for each window."""
        height, width = check_pictures(images)
        short = min(height, width)
        room = (height / short, width / short)
        boxes = [self._box(own, room) for own in draws(rng, len(images) * self.copies)]
        return _windows(images, self.copies, self.size, 0.5, boxes)

    def _box(self, own: np.random.Generator, room: tuple[float, float]) -> tuple[float, float, float]:
        """Draws a window's top, left and side, as shares of the shorter of ``room``, the picture's height and width."""
        side = float(own.uniform(*self.limits))
        y, x = own.random(2)
        return float(y) * (room[0] - side), float(x) * (room[1] - side), side

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


def check_sides(name: str, limits: Sequence[float]) -> tuple[float, float]:
    """Returns ``limits`` if they are a smallest and a largest side, above 0 and at most 1."""
    sides = check_numbers(name, limits, 1e-3, 1)
    if len(sides) != 2 or sides[0] > sides[1]:
        raise InvalidArgumentError(f"{name}: expected a smallest and a largest side in (0, 1], got {limits!r}.")
    return sides[0], sides[1]


def _windows(
    images: Tensor, copies: int, size: int, value: float, boxes: Sequence[tuple[float, float, float]]
) -> Tensor:
    """Returns windows ``(n copies, 3, size, size)``, a picture's adjacent; boxes are top, left and side as shares."""
    short = min(check_pictures(images))
    seen = []
    for i, (top, left, side) in enumerate(boxes):
        box = (top * short, left * short, side * short, side * short)
        seen.append(resample(images[i // copies], box, (size, size), value))
    return torch.stack(seen) if seen else images.new_empty(0, 3, size, size)
