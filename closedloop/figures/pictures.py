"""The pictures behind the names of a recording: files of the run's folder, or made again from their codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from closedloop.errors import RecordingError
from closedloop.figures.style import INK
from closedloop.images import ImageSet, to_bytes
from closedloop.recording import IMAGES, read_references

#: A name -> its picture ``(h, w, 3)`` 8-bit RGB; None where there is none to show.
Pictures = Callable[[str], NDArray[np.uint8] | None]


@final
class RunPictures:
    """The pictures of a run: the PNG files in its folder.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)

    def __call__(self, stimulus_id: str) -> NDArray[np.uint8] | None:
        """The picture ``(h, w, 3)`` of an evolved stimulus; None where it was not kept."""
        path = self.run / IMAGES / f"{stimulus_id}.png"
        if path.parent != self.run / IMAGES or not path.is_file():
            return None
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise RecordingError(f"{path}: cannot read this image ({error}).") from error

    def reference(self, stimulus_id: str) -> NDArray[np.uint8] | None:
        """The picture ``(h, w, 3)`` of a reference, exactly as it was shown; None where the run has no such one."""
        known = self._references
        if known is None or stimulus_id not in known.ids:
            return None
        return to_bytes(known.images[known.ids.index(stimulus_id)]).transpose(1, 2, 0)

    @cached_property
    def _references(self) -> ImageSet | None:
        return read_references(self.run)


def draw_picture(ax: Axes, image: NDArray[np.uint8] | None) -> None:
    """Shows a picture without ticks; says so where there is none."""
    ax.axis("off")
    if image is None:
        ax.text(0.5, 0.5, "image not kept", ha="center", va="center", transform=ax.transAxes, color=INK, fontsize=8)
    else:
        ax.imshow(image, interpolation="lanczos")
