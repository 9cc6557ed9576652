"""A network that is shown whole images and computes no more of them than its units see.

Units of early layers see little: the central ones of lite0's `blocks.1` 19 of 224 pixels across. What lies around them
costs as much to compute and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from closedloop.checks import check_images
from closedloop.images.resizing import resize_images, resize_matrix
from closedloop.interfaces import FloatArray, Subject, Units
from closedloop.networks.resampling import resampled
from closedloop.readable import ReadableSubject

from .receptive import ReceptiveField

#: Windows begin and end at multiples of this many pixels: the grids of all layers lie in them as in the whole image,
#: and so does the padding that a network gives to images of even size.
GRID = 32
#: Images that are cut out at once.
_CHUNK = 64


def window(
    fields: Sequence[ReceptiveField], places: Sequence[Sequence[tuple[int, int]]], resolution: int
) -> tuple[int, int, int] | None:
    """Returns the first row, the first column and the side of the square that some units see, in pixels.

    Args:
        fields: Receptive field of each layer.
        places: For each layer the positions (y, x) of its units.
        resolution: Height and width of the image.

    Returns:
        None where a field was not computed, a unit has no position, or less than half would be saved.
    """
    sure = all(f.method == "computed" and all(s > 0 and GRID % s == 0 for s in f.stride) for f in fields)
    if not sure or resolution % GRID or any(y < 0 or x < 0 for layer in places for y, x in layer):
        return None
    boxes = [
        f.box(y, x, (resolution, resolution)) for f, layer in zip(fields, places, strict=True) for y, x in set(layer)
    ]
    if not boxes:
        return None
    y0, x0 = (min(b[i] for b in boxes) // GRID * GRID for i in (0, 1))
    y1, x1 = (-(-max(b[i] for b in boxes) // GRID) * GRID for i in (2, 3))
    side = max(y1 - y0, x1 - x0)
    if 2 * side**2 > resolution**2:
        return None
    return min(y0, resolution - side), min(x0, resolution - side), side


@final
class Narrowed(ReadableSubject):
    """Shows the part of each image that units see to the same network, which was made for images of that size.

    Args:
        whole: The subject that it stands for.
        inner: The same units, at their positions in the smaller image.
        corner: First row and column of the part.
    """

    def __init__(self, whole: Subject, inner: Subject, corner: tuple[int, int]) -> None:
        self._inner: Any = inner
        self._corner = corner
        self.name: str = whole.name
        self.units: Units = whole.units
        self.resolution: int = getattr(whole, "resolution")  # noqa: B009 - no part of every subject

    @property
    def torch_device(self) -> str:
        """Where it runs, such as "cpu"."""
        device: str = self._inner.torch_device
        return device

    @property
    def engine(self) -> str:
        """The engine in use."""
        engine: str = self._inner.engine
        return engine

    def _part(self, x: Any) -> Any:
        (y, x0), side = self._corner, self._inner.resolution
        return x[..., y : y + side, x0 : x0 + side]

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Returns responses ``(n, units)`` to images ``(n, 3, h, w)`` in [0, 1], of any size."""
        images = check_images(images)
        some = (resize_images(images[i : i + _CHUNK], self.resolution) for i in range(0, len(images), _CHUNK))
        parts = [np.ascontiguousarray(self._part(one)) for one in some]
        side = self._inner.resolution
        found: FloatArray = self._inner.record(np.concatenate(parts or [np.empty((0, 3, side, side), np.float32)]))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into responses ``(n, units)``, graph kept."""
        if x.shape[2:] != (self.resolution, self.resolution):
            x = resampled(x, *(resize_matrix(side, self.resolution) for side in x.shape[2:]))
        found: Tensor = self._inner.forward(self._part(x))
        return found
