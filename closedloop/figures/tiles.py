"""Draws pictures in figures, and movies as strips of their frames."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from closedloop.figures.style import INK


def draw_picture(ax: Axes, image: NDArray[np.uint8] | None, across: int = 2, down: int = 2) -> None:
    """Shows a picture without ticks; says so where there is none.

    Args:
        ax: Where.
        image: A picture ``(h, w, 3)``, or a movie ``(frames, h, w, 3)``, of which frames from the first to the last
            stand side by side, to be read like words; of one that stands still a single frame.
        across: Frames of a movie in a row.
        down: Rows of frames.
    """
    ax.axis("off")
    if image is None:
        ax.text(0.5, 0.5, "image not kept", ha="center", va="center", transform=ax.transAxes, color=INK, fontsize=8)
        return
    if image.ndim == 4:
        image = image[0] if (image == image[:1]).all() else film_strip(image, across, down)
    ax.imshow(image, interpolation="lanczos")


def film_strip(movie: NDArray[np.uint8], across: int, down: int = 1, gap: float = 0.05) -> NDArray[np.uint8]:
    """Returns frames of a movie, evenly spaced from the first to the last, as one picture ``(h, w, 3)``.

    Args:
        movie: ``(frames, h, w, 3)``; one of fewer frames than there are places leaves white room.
        across: Frames in a row.
        down: Rows of frames.
        gap: White between two frames, as a share of a frame's width; at least a pixel.
    """
    frames, height, width, _ = movie.shape
    count, white = min(across * down, frames), max(1, round(gap * width))
    sheet = np.full((down * (height + white) - white, across * (width + white) - white, 3), 255, np.uint8)
    for place, frame in enumerate(np.rint(np.linspace(0, frames - 1, count)).astype(int)):
        top, left = place // across * (height + white), place % across * (width + white)
        sheet[top : top + height, left : left + width] = movie[frame]
    return sheet


def stretched(image: NDArray[np.uint8], least: float = 2.0, most: float = 100.0) -> tuple[NDArray[np.uint8], float]:
    """Returns a picture whose contrast is low, stretched about its mean colour, and the factor; others as they are.

    Args:
        image: ``(h, w, 3)``, 8-bit.
        least: A picture that would be stretched by less than this stays as it is, with the factor 1.
        most: It is never stretched by more.
    """
    low, high = np.percentile(image, [1, 99])
    span = max((float(image.max()) - float(image.min())) / 2, float(high - low))
    factor = min(0.9 * 255 / span, most) if span > 0 else 1.0
    if factor < least:
        return image, 1.0
    # Each colour's mean becomes the middle grey; all deviations from it grow alike.
    wide = 127.5 + factor * (image - image.mean((0, 1), keepdims=True))
    return np.rint(np.clip(wide, 0, 255)).astype(np.uint8), factor


def contrast_words(factor: float) -> str:
    """Returns how much a picture was stretched, in words; empty where it was not."""
    return "" if factor == 1 else f"contrast ×{factor:.1f}"
