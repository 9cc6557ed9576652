"""Pictures in figures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from closedloop.figures.style import INK


def draw_picture(ax: Axes, image: NDArray[np.uint8] | None) -> None:
    """Shows a picture without ticks; says so where there is none."""
    ax.axis("off")
    if image is None:
        ax.text(0.5, 0.5, "image not kept", ha="center", va="center", transform=ax.transAxes, color=INK, fontsize=8)
    else:
        ax.imshow(image, interpolation="lanczos")
