"""A small network for movies: convolutions in space and time with random weights, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from closedloop.checks import check_images, check_whole
from closedloop.interfaces import FloatArray, Form, Units
from closedloop.readable import ReadableSubject
from closedloop.seeds import STREAM, check_seed, noted_stream, part_generator


@final
class Conv3dSubject(ReadableSubject):
    """Two convolutions in space and time with rectification between them; each unit is a map's mean over the movie.

    ``conv 5×5×3, stride 2 -> relu -> conv 5×5×3, stride 2 -> relu -> mean over time and space``, of movies as their
    deviation from mid-grey. The weights are drawn from the seed with He's standard deviation and without bias, so that
    the network prefers something, though nothing in particular: a subject for tests, and a pattern for networks of
    one's own.

    Args:
        units: Number of units, the maps of the second convolution.
        resolution: Height and width of the movies in pixels, at least 16.
        frames: Pictures of each movie, at least 5.
        rate_hz: Pictures per second.
        channels: 3 for colours, 1 for grey.
        maps: Maps of the first convolution.
        seed: Of the weights.
        stream: How they are drawn: 1 as in older recordings, see `closedloop.seeds.STREAM`.
    """

    name = "conv3d"

    def __init__(
        self,
        units: int = 8,
        resolution: int = 32,
        frames: int = 8,
        rate_hz: float = 20.0,
        channels: int = 3,
        maps: int = 8,
        seed: int = 0,
        stream: int = STREAM,
    ) -> None:
        count, maps = check_whole("units", units, 1), check_whole("maps", maps, 1)
        self.resolution: int = check_whole("resolution", resolution, 16)
        self.frames: int = check_whole("frames", frames, 5)
        self.channels: int = channels
        self.rate_hz: float = float(rate_hz)
        self._form = Form(channels, self.frames, self.rate_hz)
        self._recipe = {"units": count, "maps": maps, "seed": check_seed(seed), **noted_stream(stream)}
        self.units: Units = Units(tuple(f"conv3d.{i}" for i in range(count)), {"layer": ("conv2",) * count})
        rng = part_generator(seed, "conv3d", stream)
        self._first = _drawn(rng, (maps, channels, 3, 5, 5))
        self._second = _drawn(rng, (count, maps, 3, 5, 5))

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_subject` makes it again."""
        form = {key: getattr(self, key) for key in ("resolution", "frames", "rate_hz", "channels")}
        return {"name": self.name, **self._recipe, **form}

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns movies ``(n, frames, channels, resolution, resolution)`` in [0, 1] into responses ``(n, units)``."""
        shown = np.ascontiguousarray(check_images(images, resolution=self.resolution, form=self._form))
        with torch.no_grad():
            # One by one: the sums of a batch may be taken in an order that depends on its size.
            answers = [self.forward(torch.from_numpy(movie[None])).numpy() for movie in shown]
        return np.concatenate([np.empty((0, len(self.units)), np.float32), *answers])

    def forward(self, x: Tensor) -> Tensor:
        """Does the same in torch, with its graph."""
        first, second = (torch.as_tensor(w, dtype=x.dtype, device=x.device) for w in (self._first, self._second))
        moved = x.transpose(1, 2) - 0.5  # torch wants (n, channels, frames, h, w)
        hidden = functional.relu(functional.conv3d(moved, first, stride=(1, 2, 2)))
        maps = functional.relu(functional.conv3d(hidden, second, stride=(1, 2, 2)))
        return maps.mean((2, 3, 4))


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draws weights with the standard deviation √(2 / inputs) (He et al. 2015, equation 10)."""
    spread = (2 / np.prod(shape[1:])) ** 0.5
    return (spread * rng.standard_normal(shape)).astype(np.float32)
