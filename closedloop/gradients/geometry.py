"""Views that move pictures: pad, jitter, roll, scale, rotate, flip, resize.

Images ``(n, 3, h, w)`` in [0, 1]. Every picture draws for itself; all pictures of a batch come out in one size. The
transforms of torchvision draw from torch's global state, and once for the whole batch. Its functions for one picture
were held beside these (torchvision 0.28, bilinear, noise of 64, 224 and 65 × 97 pixels, grey beyond the picture):

* ``crop``, ``pad``, ``horizontal_flip`` are equal, and ours are one line of torch; ``resize`` and the magnifications of
  ``affine`` agree to 3e-5 in single and to 1e-13 in double precision;
* ``rotate`` agrees likewise within the picture, but gives the pixels at its border too much of the grey beyond (0.7 to
  3 % of the values, by up to 0.25);
* ``affine`` does not blur what it reduces: at 0.9 of the size 70 % of the values differ by more than 1/255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from closedloop.checks import check_number, check_whole
from closedloop.errors import InvalidArgumentError

from .sampling import check_numbers, check_pictures, draws, resample


@final
@dataclass(frozen=True)
class Pad:
    """A border around the picture: ``(n, 3, h, w)`` -> ``(n, 3, h + 2 px, w + 2 px)``.

    Attributes:
        px: Its width in pixels.
        value: Its grey level, or "reflect" for the mirrored picture.
    """

    px: int
    value: float | str = 0.5
    copies = 1

    def __post_init__(self) -> None:
        check_whole("px", self.px, 0)
        if self.value != "reflect":
            check_number("value", self.value, 0, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws nothing."""
        size = min(check_pictures(images))
        if not isinstance(self.value, str):
            return functional.pad(images, [self.px] * 4, value=self.value)
        if self.px >= size:
            raise InvalidArgumentError(
                f"px: expected less than the picture's {size} pixels, since there is no more to reflect, got {self.px}."
            )
        return functional.pad(images, [self.px] * 4, mode="reflect")

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Jitter:
    """A window at a random place, as Lucid's: ``(n, 3, h, w)`` -> ``(n, 3, h - px, w - px)``, without a border.

    Attributes:
        px: How far the window can be moved; by px / 2 at most from the middle, and by 0 on average.
    """

    px: int
    copies = 1

    def __post_init__(self) -> None:
        check_whole("px", self.px, 0)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws a row and a column for each picture."""
        height, width = check_pictures(images)
        size = min(height, width)
        if self.px >= size:
            raise InvalidArgumentError(f"px: expected less than the picture's {size} pixels, got {self.px}.")
        corners = [own.integers(self.px, size=2, endpoint=True) for own in draws(rng, len(images))]
        pairs = zip(images, corners, strict=True)
        seen = [image[:, y : y + height - self.px, x : x + width - self.px] for image, (y, x) in pairs]
        return torch.stack(seen) if seen else images[..., self.px :, self.px :]

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Roll:
    """The picture moved in a circle, as in DeepDream: what leaves on one side comes in on the other.

    Attributes:
        px: Largest displacement along each axis, in pixels.
    """

    px: int
    copies = 1

    def __post_init__(self) -> None:
        check_whole("px", self.px, 0)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws a displacement from -px to px for each picture and axis."""
        check_pictures(images)
        moves = [own.integers(-self.px, self.px, size=2, endpoint=True).tolist() for own in draws(rng, len(images))]
        rolled = [image.roll(move, (1, 2)) for image, move in zip(images, moves, strict=True)]
        return torch.stack(rolled) if rolled else images

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class RandomScale:
    """The picture magnified or reduced about its middle, in a frame that keeps its size.

    What a magnification moves out of the frame is not seen, and what a reduction leaves free shows ``value``. (Lucid's
    frame is scaled with the picture, which a subject of fixed resolution would undo, and pictures of a batch could not
    draw for themselves.)

    Attributes:
        factors: The magnifications to choose from; repeat one to make it more frequent.
        value: Grey level beyond the picture.
    """

    factors: Sequence[float]
    value: float = 0.5
    copies = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", check_numbers("factors", self.factors, 0.01, 100))
        check_number("value", self.value, 0, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws a factor for each picture."""
        shape = check_pictures(images)
        factors = [self.factors[int(own.integers(len(self.factors)))] for own in draws(rng, len(images))]
        scaled = [self._zoom(image, shape, factor) for image, factor in zip(images, factors, strict=True)]
        return torch.stack(scaled) if scaled else images

    def _zoom(self, image: Tensor, shape: tuple[int, int], factor: float) -> Tensor:
        """Magnifies one picture ``(3, h, w)``: its middle 1 / factor of each axis fills the frame."""
        (height, width), beyond = shape, (1 - 1 / factor) / 2
        return resample(image, (height * beyond, width * beyond, height / factor, width / factor), shape, self.value)

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class RandomRotate:
    """The picture turned about its middle (bilinear), in a frame that keeps its size.

    Attributes:
        degrees: The angles to choose from, counter-clockwise; repeat one to make it more frequent.
        value: Grey level beyond the picture.
    """

    degrees: Sequence[float]
    value: float = 0.5
    copies = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees", check_numbers("degrees", self.degrees, -360, 360))
        check_number("value", self.value, 0, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws an angle for each picture."""
        height, width = check_pictures(images)
        if not any(self.degrees) or len(images) == 0:
            return images
        chosen = [self.degrees[int(own.integers(len(self.degrees)))] for own in draws(rng, len(images))]
        sin, cos = np.sin(np.deg2rad(chosen)), np.cos(np.deg2rad(chosen))
        zero = np.zeros(len(images))
        # From a pixel of the result to where it comes from; coordinates run from -1 to 1 on both axes, y downward.
        turns = [[cos, -sin * height / width, zero], [sin * width / height, cos, zero]]
        grid = functional.affine_grid(
            images.new_tensor(np.moveaxis(np.array(turns), -1, 0)), list(images.shape), align_corners=False
        )
        return functional.grid_sample(images - self.value, grid, align_corners=False) + self.value

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Flip:
    """The picture as in a mirror, left for right, at times.

    Attributes:
        probability: How often.
    """

    probability: float = 0.5
    copies = 1

    def __post_init__(self) -> None:
        check_number("probability", self.probability, 0, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws for each picture whether it is flipped."""
        check_pictures(images)
        flipped = [own.random() < self.probability for own in draws(rng, len(images))]
        which = torch.tensor(flipped, dtype=torch.bool, device=images.device)
        return torch.where(which[:, None, None, None], images.flip(3), images)

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Resize:
    """The picture at another size (bilinear, antialiased): ``(n, 3, h, w)`` -> ``(n, 3, px, px)``.

    Attributes:
        px: Height and width in pixels.
    """

    px: int
    copies = 1

    def __post_init__(self) -> None:
        check_whole("px", self.px, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws nothing."""
        height, width = check_pictures(images)
        return resample(images, (0, 0, height, width), (self.px, self.px))

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)
