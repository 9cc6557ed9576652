"""Raw pixels as a generator: the code is the image. The baseline of XDream and of the fooling images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_images, is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Space

if TYPE_CHECKING:
    from torch import Tensor


def check_resolution(resolution: int) -> int:
    """Returns ``resolution`` if it is a whole number of pixels between 2 and 4096."""
    if not is_whole(resolution) or not 2 <= resolution <= 4096:
        raise InvalidArgumentError(f"resolution: expected 2 to 4096 pixels, got {resolution!r}.")
    return int(resolution)


@final
class Pixels:
    """Every pixel is a coordinate: codes ``(n, 3 * resolution²)`` in [0, 1], uniform prior.

    Args:
        resolution: Height and width in pixels.
    """

    name = "pixels"

    def __init__(self, resolution: int = 64) -> None:
        self.resolution = check_resolution(resolution)
        self.space = Space(dim=3 * self.resolution**2, low=0.0, high=1.0, scale=12**-0.5)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again."""
        return {"name": self.name, "resolution": self.resolution}

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Codes ``(n, dim)`` in [0, 1] -> images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        codes = self.space.check(codes)
        return codes.reshape(len(codes), 3, self.resolution, self.resolution).astype(np.float32)

    def forward(self, codes: Tensor) -> Tensor:
        """The same in torch; keeps the graph and the precision of ``codes``."""
        return codes.reshape(-1, 3, self.resolution, self.resolution)

    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Images ``(n, 3, h, w)`` in [0, 1], of any size -> codes ``(n, dim)``: their pixels, resized if need be."""
        return resize_images(check_images(images), self.resolution).reshape(len(images), self.space.dim).astype(float)
