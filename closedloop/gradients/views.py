"""What a subject is shown of an image while a gradient is taken.

A picture that excites a unit only as it is, to the pixel, is rarely the one that was asked for; one that does so moved,
scaled, turned or in noise says more about the unit. A view makes such pictures and keeps the graph. Its random numbers
come from the generator it is given, one for a call whatever the batch: picture i sees the same alone and among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, final, runtime_checkable

import numpy as np
from torch import Tensor

from closedloop.errors import InvalidArgumentError

from .appearance import Blur, ColorJitter, ColorOffset, Noise
from .crops import Crops, InnerCrops, Repeat
from .geometry import Flip, Jitter, Pad, RandomRotate, RandomScale, Resize, Roll
from .sampling import check_pictures

__all__ = [
    "Blur",
    "Chain",
    "ColorJitter",
    "ColorOffset",
    "Crops",
    "Flip",
    "InnerCrops",
    "Jitter",
    "Noise",
    "Pad",
    "RandomRotate",
    "RandomScale",
    "Repeat",
    "Resize",
    "Roll",
    "View",
    "Whole",
]


@runtime_checkable
class View(Protocol):
    """Shows pictures of images; same random generator, same pictures."""

    @property
    def copies(self) -> int:
        """Pictures made of each image."""
        ...

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Images ``(n, 3, h, w)`` in [0, 1] -> pictures ``(n * copies, 3, h', w')``, those of an image adjacent.

        Args:
            images: With their graph, in any floating-point type.
            step: How many gradients were taken before, for views that change on the way.
            rng: Where all of its random numbers come from.
        """
        ...

    def describe(self) -> str:
        """Its text."""
        ...


@final
@dataclass(frozen=True)
class Whole:
    """The image as it is."""

    copies = 1

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws nothing."""
        check_pictures(images)
        return images

    def describe(self) -> str:
        """Its text, which `parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Chain:
    """One view after the other.

    Attributes:
        views: In the order in which they are applied.
    """

    views: Sequence[View]

    def __post_init__(self) -> None:
        views = tuple(self.views)
        wrong = next((view for view in views if not isinstance(view, View)), None)
        if wrong is not None or not views:
            came = "none" if not views else repr(wrong)
            raise InvalidArgumentError(f"views: expected one or more views, such as Jitter(8), got {came}.")
        object.__setattr__(self, "views", views)

    @property
    def copies(self) -> int:
        """Pictures made of each image."""
        return prod(view.copies for view in self.views)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Images ``(n, 3, h, w)`` -> pictures ``(n * copies, 3, h', w')``."""
        for view in self.views:
            images = view(images, step, rng)
        return images

    def describe(self) -> str:
        """Its text, which `parse_view` reads back."""
        return " | ".join(view.describe() for view in self.views)
