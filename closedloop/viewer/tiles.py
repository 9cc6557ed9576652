"""Many small maps in one picture: quicker to send and to draw than one picture each."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.viewer.inputs import encode_jpeg

#: Quality of the JPEG.
QUALITY = 85
#: Pixels of the largest sprite; larger maps are averaged over blocks.
MOST_PIXELS = 1_000_000
#: Side of the blocks of a JPEG: tiles of whole blocks do not run into each other.
BLOCK = 8


@dataclass(frozen=True)
class Sprite:
    """A picture of tiles, row by row.

    Attributes:
        jpeg: The file, grey.
        tile: Height and width of a tile in pixels.
        columns: Tiles in a row.
        rows: Rows of tiles.
        signed: Whether mid-grey is 0; else black is.
        scale: The value that white stands for, where tiles have the layer's scale.
    """

    jpeg: bytes
    tile: tuple[int, int]
    columns: int
    rows: int
    signed: bool
    scale: float

    def facts(self) -> dict[str, Any]:
        """Returns what a header says of it."""
        return {
            "tile": list(self.tile),
            "columns": self.columns,
            "rows": self.rows,
            "signed": self.signed,
            "scale": self.scale,
        }


def sprite_of(maps: NDArray[np.float32], gamma: float = 1.0, individual: float = 0.0) -> Sprite:
    """Draws maps.

    Args:
        maps: ``(n, rows, columns)`` in the order of their tiles; what is not finite is drawn as 0.
        gamma: Exponent of the size of a value; below 1 small ones become visible.
        individual: Share of a tile's own scale in what it is divided by, the layer's being the rest, 0 to 1.
    """
    known = np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0)
    drawn, by = _sized(known)
    low = float(known.min(initial=0.0))
    signed = low < -1e-3 * float(known.max(initial=0.0))
    own = np.abs(known).max((1, 2), initial=0.0)
    scale = float(own.max(initial=0.0))
    unit = drawn / np.maximum(individual * own + (1 - individual) * scale, 1e-30)[:, None, None]
    size = np.abs(unit) ** gamma if gamma != 1 else np.abs(unit)
    grey = 127.5 + 127.5 * np.sign(unit) * size if signed else 255 * np.where(unit > 0, size, 0)
    pixels = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    sheet, columns, rows = arranged(pixels)
    picture = Image.fromarray(sheet)
    if by > 1:  # the sheet is enlarged as a whole, which is quicker than each tile
        picture = picture.resize((by * picture.width, by * picture.height), Image.Resampling.NEAREST)
    tile = by * pixels.shape[1], by * pixels.shape[2]
    return Sprite(encode_jpeg(picture, QUALITY), tile, columns, rows, signed, scale)


def sprite_of_pictures(pictures: NDArray[np.uint8]) -> Sprite:
    """Draws pictures ``(n, h, w, 3)``, 8-bit RGB, in the order of their tiles."""
    sheet, columns, rows = arranged(pictures)
    jpeg = encode_jpeg(Image.fromarray(sheet), QUALITY, subsampling=0)
    return Sprite(jpeg, (pictures.shape[1], pictures.shape[2]), columns, rows, False, 255.0)


def hatched(side: int) -> NDArray[np.uint8]:
    """Returns what stands where there is no picture, ``(side, side, 3)``: diagonal lines, which no stimulus has."""
    down, across = np.indices((side, side))
    return np.where((down + across) % 8 < 2, 88, 32).astype(np.uint8)[..., None].repeat(3, 2)


def shrunk(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resizes a picture ``(h, w, 3)`` to ``(side, side, 3)``."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def arranged(tiles: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """Tiles ``(n, h, w[, 3])`` side by side in one picture that is about square; its columns and rows."""
    n, height, width = tiles.shape[:3]
    columns = max(1, min(n, round(sqrt(n * height / width))))
    rows = max(1, ceil(n / columns))
    rest = tiles.shape[3:]
    sheet = np.zeros((rows * columns, height, width, *rest), np.uint8)
    sheet[:n] = tiles
    grid = sheet.reshape(rows, columns, height, width, *rest)
    return np.ascontiguousarray(np.moveaxis(grid, 2, 1)).reshape(rows * height, columns * width, *rest), columns, rows


def _sized(maps: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Maps, averaged over blocks where they are too large; and how often pixels are repeated until they fill blocks."""
    n, height, width = maps.shape
    if n * height * width > MOST_PIXELS:
        by = ceil(sqrt(n * height * width / MOST_PIXELS))
        rows, columns = max(1, height // by), max(1, width // by)
        cut = maps[:, : rows * min(by, height), : columns * min(by, width)]
        means: NDArray[np.float32] = cut.reshape(n, rows, cut.shape[1] // rows, columns, -1).mean((2, 4))
        return means, 1
    room = [by for by in (BLOCK // gcd(height, width, BLOCK), 2, 1) if n * height * width * by**2 <= MOST_PIXELS]
    return maps, room[0]
