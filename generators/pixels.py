"""Makes images of raw pixels: the code is the image. The baseline of XDream and of the fooling images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_any_images, is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import shown_as
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Form, Space
from closedloop.readable import ReadableGenerator

if TYPE_CHECKING:
    from torch import Tensor


def check_channels(channels: int) -> int:
    """Returns ``channels`` if it is 3 (colour) or 1 (grey).

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if channels not in (1, 3):
        raise InvalidArgumentError(f"channels: expected 3 (red, green, blue) or 1 (grey), got {channels!r}.")
    return int(channels)


def check_resolution(resolution: int) -> int:
    """Returns ``resolution`` if it is a whole number of pixels between 2 and 4096.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if not is_whole(resolution) or not 2 <= resolution <= 4096:
        raise InvalidArgumentError(f"resolution: expected 2 to 4096 pixels, got {resolution!r}.")
    return int(resolution)


def still_images(images: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """Returns images ``(n, 3, h, w)`` or ``(n, 1, h, w)`` in [0, 1], checked, with so many channels.

    Raises:
        InvalidArgumentError: They are no stills.
    """
    stills: NDArray[np.float32] = shown_as(check_any_images(images), Form(channels))
    return stills


@final
class Pixels(ReadableGenerator):
    """A generator whose every pixel is a coordinate: codes ``(n, channels * resolution²)`` in [0, 1], uniform prior.

    Args:
        resolution: Height and width in pixels.
        channels: 3 for colour images, 1 for grey ones.
    """

    name = "pixels"

    def __init__(self, resolution: int = 64, channels: int = 3) -> None:
        self.resolution: int = check_resolution(resolution)
        self.channels: int = check_channels(channels)
        # The standard deviation of a uniform draw from [0, 1] is 1/√12.
        self.space: Space = Space(dim=self.channels * self.resolution**2, low=0.0, high=1.0, scale=12**-0.5)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Returns how `load_generator` makes it again."""
        grey = {} if self.channels == 3 else {"channels": self.channels}
        return {"name": self.name, "resolution": self.resolution, **grey}

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Returns codes ``(n, dim)`` in [0, 1] as images ``(n, channels, h, w)`` float32 in [0, 1]."""
        codes = self.space.check(codes)
        return codes.reshape(len(codes), self.channels, self.resolution, self.resolution).astype(np.float32)

    def forward(self, codes: Tensor) -> Tensor:
        """Returns the same in torch; keeps the graph and the precision of ``codes``."""
        return codes.reshape(-1, self.channels, self.resolution, self.resolution)

    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Returns the codes ``(n, dim)`` of images ``(n, 3, h, w)`` in [0, 1], or grey, of any size: resized pixels."""
        fitted = resize_images(still_images(images, self.channels), self.resolution)
        return fitted.reshape(len(images), self.space.dim).astype(float)
