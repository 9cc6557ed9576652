"""Pictures in figures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from closedloop.figures.style import INK

#: White pixels between the frames of a movie, as a share of a frame.
_GAP = 0.05


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


def film_strip(movie: NDArray[np.uint8], across: int, down: int = 1) -> NDArray[np.uint8]:
    """Frames of a movie ``(frames, h, w, 3)``, evenly spaced from the first to the last, as one picture.

    A movie of fewer frames leaves white room.
    """
    frames, height, width, _ = movie.shape
    count, gap = min(across * down, frames), max(1, round(_GAP * width))
    sheet = np.full((down * (height + gap) - gap, across * (width + gap) - gap, 3), 255, np.uint8)
    for place, frame in enumerate(np.rint(np.linspace(0, frames - 1, count)).astype(int)):
        top, left = place // across * (height + gap), place % across * (width + gap)
        sheet[top : top + height, left : left + width] = movie[frame]
    return sheet
