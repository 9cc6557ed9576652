"""Many small maps in one picture: quicker to send and to draw than one picture each."""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.viewer.inputs import encode_jpeg

#: Quality of a JPEG of preferred stimuli, and the side of its blocks: tiles of whole blocks do not run into each other.
QUALITY, BLOCK = 90, 8
#: Pixels of the largest sprite; larger maps are averaged over blocks.
MOST_PIXELS = 1_000_000


@dataclass(frozen=True)
class Sprite:
    """A picture of tiles, row by row.

    Attributes:
        content: Of maps the pixels themselves, a byte of grey for each, row by row: maps are small, so that no format
            takes less time or keeps their values. Of pictures in colours a file.
        form: "grey", or the format of the file, "jpeg" or "png".
        tile: Height and width of a tile in pixels.
        columns: Tiles in a row.
        rows: Rows of tiles.
        signed: Whether mid-grey is 0; else black is.
        scale: The value that white stands for, where tiles have the layer's scale.
    """

    content: bytes
    form: str
    tile: tuple[int, int]
    columns: int
    rows: int
    signed: bool
    scale: float

    def facts(self) -> dict[str, Any]:
        """Returns what a header says of it."""
        return {
            "form": self.form,
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
    known = maps if np.isfinite(maps).all() else np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(known.min(initial=0.0)), float(known.max(initial=0.0))
    signed, scale = low < -1e-3 * high, max(high, -low)
    divisor: Any = max(scale, 1e-30)
    if individual:
        own = np.abs(known).max((1, 2), initial=0.0)
        divisor = np.maximum(individual * own + (1 - individual) * scale, 1e-30)[:, None, None]
    unit = _averaged(known) / divisor
    if not signed:
        unit = np.maximum(unit, 0)
    if gamma != 1:
        unit = np.sign(unit) * np.abs(unit) ** gamma
    pixels = np.rint(127.5 + 127.5 * unit if signed else 255 * unit).astype(np.uint8)
    sheet, columns, rows = arranged(pixels)
    return Sprite(sheet.tobytes(), "grey", (pixels.shape[1], pixels.shape[2]), columns, rows, signed, scale)


def sprite_of_pictures(pictures: NDArray[np.uint8]) -> Sprite:
    """Draws pictures ``(n, h, w, 3)``, 8-bit RGB, in the order of their tiles: small ones without loss."""
    sheet, columns, rows = arranged(pictures)
    tile, drawn = (pictures.shape[1], pictures.shape[2]), Image.fromarray(sheet)
    if tile[0] % BLOCK or tile[1] % BLOCK:
        buffer = io.BytesIO()
        drawn.save(buffer, "PNG", compress_level=1)
        return Sprite(buffer.getvalue(), "png", tile, columns, rows, False, 255.0)
    return Sprite(encode_jpeg(drawn, QUALITY, subsampling=0), "jpeg", tile, columns, rows, False, 255.0)


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


def _averaged(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps, averaged over blocks where they are too large for a sprite."""
    n, height, width = maps.shape
    if n * height * width <= MOST_PIXELS:
        return maps
    by = ceil(sqrt(n * height * width / MOST_PIXELS))
    rows, columns = max(1, height // by), max(1, width // by)
    cut = maps[:, : rows * min(by, height), : columns * min(by, width)]
    means: NDArray[np.float32] = cut.reshape(n, rows, cut.shape[1] // rows, columns, -1).mean((2, 4))
    return means
