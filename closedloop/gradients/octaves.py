"""A large canvas seen at several sizes, from coarse to fine: DeepDream's octaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from closedloop.checks import check_number, check_whole
from closedloop.errors import InvalidArgumentError

from .sampling import check_pictures, draws, resample


@final
@dataclass(frozen=True)
class Octaves:
    """Tiles of the canvas at the size of the step's octave (Mordvintsev, Olah & Tyka 2015, DeepDream).

    The smallest octave comes first; every ``steps`` steps the next one follows, and the last, the canvas itself, stays.
    The canvas is moved in a circle, as in DeepDream, and cut into tiles of ``size`` pixels, which overlap where they do
    not fit evenly: every pixel is in some tile. Where an octave is smaller than a tile, it stands in grey.

    DeepDream shows a network the whole octave; tiles do the same for a subject with a resolution of its own, to which a
    larger picture would be shrunk. And DeepDream hands the detail of an octave to the next one, where here all octaves
    are looks at one canvas, which keeps what each has added.

    Attributes:
        canvas: Height and width of the images in pixels.
        size: Height and width of a tile, the subject's resolution.
        octaves: How many sizes.
        ratio: From one size to the next.
        steps: Steps of each octave.
        jitter: Largest displacement along each axis, in pixels of the octave.
        value: Grey level around an octave that is smaller than a tile.
    """

    canvas: int = 512
    size: int = 224
    octaves: int = 4
    ratio: float = 1.4
    steps: int = 10
    jitter: int = 32
    value: float = 0.5

    def __post_init__(self) -> None:
        for name in ("canvas", "size", "octaves", "steps"):
            check_whole(name, getattr(self, name), 1)
        check_whole("jitter", self.jitter, 0)
        check_number("ratio", self.ratio, 1)
        check_number("value", self.value, 0, 1)
        if self.sizes[0] < 1:
            raise InvalidArgumentError(
                f"octaves, ratio: expected a smallest octave of at least 1 pixel, got {self.octaves} octaves of ratio "
                f"{self.ratio:g} below {self.canvas} pixels."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the octaves in pixels, smallest first; each is rounded from the next larger one."""
        sizes = [self.canvas]
        for _ in range(self.octaves - 1):
            sizes.append(round(sizes[-1] / self.ratio))
        return tuple(reversed(sizes))

    @property
    def copies(self) -> int:
        """Tiles of each image, the same in every octave."""
        return (-(-self.canvas // self.size)) ** 2

    def octave(self, step: int) -> int:
        """Returns the size of the octave at a step, in pixels."""
        return self.sizes[min(step // self.steps, self.octaves - 1)]

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Moves images ``(n, 3, canvas, canvas)``, each at random, and returns tiles ``(n copies, 3, size, size)``."""
        if check_pictures(images) != (self.canvas, self.canvas):
            raise InvalidArgumentError(
                f"images: expected {self.canvas} x {self.canvas} pixels, got {images.shape[2]} x {images.shape[3]}; "
                "canvas= says how large the generator's images are."
            )
        octave = self.octave(step)
        seen = resample(images, (0, 0, self.canvas, self.canvas), (octave, octave))
        moves = [own.integers(-self.jitter, self.jitter, 2, endpoint=True) for own in draws(rng, len(images))]
        tiles = [tile for image, move in zip(seen, moves, strict=True) for tile in self._tiles(image, move)]
        return torch.stack(tiles) if tiles else images.new_empty(0, 3, self.size, self.size)

    def _tiles(self, picture: Tensor, move: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[Tensor]:
        """Returns the tiles of one octave, moved in a circle by rows and columns."""
        octave = picture.shape[-1]
        count, side = -(-self.canvas // self.size), min(self.size, octave)
        corners = [i * octave // count for i in range(count)]
        left, right = (self.size - side) // 2, self.size - side - (self.size - side) // 2
        tiles = []
        for y in corners:
            for x in corners:
                tile = picture.roll((int(move[0]) - y, int(move[1]) - x), (1, 2))[:, :side, :side]
                tiles.append(functional.pad(tile, [left, right, left, right], value=self.value))
        return tiles

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)
