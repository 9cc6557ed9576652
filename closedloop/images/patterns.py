"""Draws the stimuli that a session begins with: squares, patches and gratings, where they are asked for.

Places are rows and columns in pixels, counted from the middle of the first pixel, as the model neurons count them: the
middle of an image is at ``(resolution - 1) / 2``. A `Screen` turns degrees of visual angle into pixels and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from closedloop.errors import RecordingError
from closedloop.images.resizing import resize_matrix
from closedloop.interfaces import FloatArray

#: Scalars of a recording that say on which screen stimuli stood.
RESOLUTION_PX, PX_PER_DEG = "resolution_px", "px_per_deg"


@dataclass(frozen=True)
class Screen:
    """What an image fills, and how large that is to the eye.

    Attributes:
        resolution: Height and width of an image in pixels.
        px_per_deg: Pixels per degree of visual angle; None where that is not known, and lengths are in pixels.
    """

    resolution: int
    px_per_deg: float | None = None

    @property
    def unit(self) -> str:
        """What lengths are given in: "deg" or "px"."""
        return "px" if self.px_per_deg is None else "deg"

    @property
    def sign(self) -> str:
        """The same as a person reads it behind a number: "°" or " px"."""
        return " px" if self.px_per_deg is None else "°"

    @property
    def scale(self) -> float:
        """Pixels of a length of 1."""
        return 1.0 if self.px_per_deg is None else self.px_per_deg

    @property
    def middle(self) -> float:
        """Row and column of the middle of an image."""
        return (self.resolution - 1) / 2

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Returns row and column of a place right of and above the middle."""
        return self.middle - y * self.scale, self.middle + x * self.scale

    def right(self, column: Any) -> Any:
        """Returns how far right of the middle columns lie."""
        return (column - self.middle) / self.scale

    def up(self, row: Any) -> Any:
        """Returns how far above the middle rows lie."""
        return (self.middle - row) / self.scale

    def scalars(self) -> dict[str, float]:
        """Returns what a recording says of it; NaN where degrees are not known."""
        return {RESOLUTION_PX: self.resolution, PX_PER_DEG: self.px_per_deg or float("nan")}

    @classmethod
    def of_recording(cls, recording: xr.Dataset) -> Screen:
        """Returns the screen of a recording.

        Raises:
            RecordingError: It says nothing of one.
        """
        if RESOLUTION_PX not in recording.coords or PX_PER_DEG not in recording.coords:
            raise RecordingError(
                f"recording: expected {RESOLUTION_PX} and {PX_PER_DEG}, which the protocols map_field, gratings and "
                "invariance record."
            )
        known = float(recording[PX_PER_DEG])
        return cls(int(recording[RESOLUTION_PX]), known if np.isfinite(known) else None)


def squares(box: NDArray[np.int64], level: FloatArray, resolution: int, background: float) -> NDArray[np.float32]:
    """Draws one square in each image.

    Args:
        box: First row and column, and the row and column behind the last ones, ``(4, n)``.
        level: Grey level of each square, in [0, 1], ``(n,)``.
        resolution: Height and width of the images in pixels.
        background: Grey level around it.

    Returns:
        ``(n, 3, resolution, resolution)`` float32, RGB in [0, 1].
    """
    images = np.full((len(level), 3, resolution, resolution), background, np.float32)
    for image, (top, left, bottom, right), grey in zip(images, box.T, level, strict=True):
        image[:, top:bottom, left:right] = grey
    return images


def patch(
    content: NDArray[np.float32], y: float, x: float, sd: float, resolution: int, background: float
) -> NDArray[np.float32]:
    """Draws a picture small, seen through a Gaussian window: six standard deviations of it wide, so nothing is cut off.

    Args:
        content: The picture, ``(3, h, h)`` in [0, 1].
        y: Row of the window's middle in pixels.
        x: Its column.
        sd: Standard deviation of the window in pixels.
        resolution: Height and width of the image in pixels.
        background: Grey level beyond the window.

    Returns:
        ``(3, resolution, resolution)`` float32, RGB in [0, 1].
    """
    down, right = (np.exp(-((np.arange(resolution) - at) ** 2) / (2 * sd**2)) for at in (y, x))
    window = np.outer(down, right).astype(np.float32)
    drawn, inside = placed(content, y, x, 6 * sd, 0.0, resolution, background)
    found: NDArray[np.float32] = (background + window * inside * (drawn - background)).astype(np.float32)
    return found


def placed(
    content: NDArray[np.float32],
    y: float,
    x: float,
    width: float,
    rotation_deg: float,
    resolution: int,
    background: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draws a picture at a place, in a size and turned, on a uniform background.

    It is made smaller with a widened kernel (antialiased), and interpolated linearly. At the middle, upright and in its
    own size it is the picture itself.

    Args:
        content: The picture, ``(3, h, h)`` in [0, 1].
        y: Row of its middle in pixels.
        x: Column of its middle.
        width: Its width in pixels.
        rotation_deg: Counterclockwise.
        resolution: Height and width of the image in pixels.
        background: Grey level around it.

    Returns:
        The image ``(3, resolution, resolution)`` float32 in [0, 1], and which share of each of its pixels the picture
        covers, ``(resolution, resolution)``.
    """
    if rotation_deg % 360 == 0:  # along each axis by itself, which is faster, and exact for a picture left as it is
        rows, columns = (_weights(middle, width, content.shape[-1], resolution) for middle in (y, x))
        drawn = background + rows @ (content - np.float32(background)) @ columns.T
        return np.clip(drawn, 0, 1).astype(np.float32), np.outer(rows.sum(1), columns.sum(1)).astype(np.float32)
    side = max(1, round(min(width, content.shape[-1])))  # what is larger than the picture is magnified below
    matrix = resize_matrix(content.shape[-1], side)
    small = matrix @ (content - background) @ matrix.T
    zoom, turn = width / side, np.deg2rad(rotation_deg)
    # Where a pixel of the image comes from: back by the angle (rows point down), and smaller by the zoom.
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / zoom
    offset = (side - 1) / 2 - back @ np.array([y, x])
    planes = [
        ndimage.affine_transform(plane, back, offset, (resolution, resolution), order=1, mode="grid-constant")
        for plane in (*small.astype(float), np.ones((side, side)))
    ]
    found = np.clip(background + np.stack(planes[:-1]), 0, 1)
    return found.astype(np.float32), planes[-1].astype(np.float32)


def _weights(middle: float, width: float, size: int, resolution: int) -> NDArray[np.float32]:
    """Returns weights ``(resolution, size)`` of linear interpolation of a line of pixels that is moved and resized.

    Where it ends the weights fall to 0, so that it fades into the background within a pixel.
    """
    ratio = size / width
    kernel = max(ratio, 1.0)  # widened when it shrinks
    at = (np.arange(resolution) - middle) * ratio + (size - 1) / 2
    beyond = np.arange(-int(np.ceil(kernel)), size + int(np.ceil(kernel)))  # as if the line went on
    weights = np.maximum(1 - np.abs(beyond[None] - at[:, None]) / kernel, 0)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    found: NDArray[np.float32] = weights[:, (beyond >= 0) & (beyond < size)].astype(np.float32)
    return found


def grating(
    orientation_deg: FloatArray,
    cycles_per_px: FloatArray,
    phase_deg: FloatArray,
    y: float,
    x: float,
    resolution: int,
    *,
    contrast: float,
    background: float,
    sd: float | None = None,
) -> NDArray[np.float32]:
    """Draws sinusoidal gratings.

    Args:
        orientation_deg: Of the stripes, counterclockwise from horizontal, ``(n,)``.
        cycles_per_px: Spatial frequency.
        phase_deg: Phase of the cosine at ``(y, x)``: 0 is the middle of a bright stripe.
        y: Row of the middle in pixels.
        x: Its column.
        resolution: Height and width of the images in pixels.
        contrast: Michelson contrast on a background of one half, in (0, 1].
        background: Grey level around it, and mean of its own.
        sd: Standard deviation of a Gaussian window in pixels; None for a grating that fills the image.

    Returns:
        ``(n, 3, resolution, resolution)`` float32, RGB in [0, 1].
    """
    rows, columns = np.mgrid[:resolution, :resolution]
    dy, dx = rows - y, columns - x
    turn = np.deg2rad(orientation_deg)[:, None, None]
    across = np.sin(turn) * dx + np.cos(turn) * dy  # rows point down, so this is the distance across the stripes
    phase = 2 * np.pi * np.asarray(cycles_per_px)[:, None, None] * across + np.deg2rad(phase_deg)[:, None, None]
    window = 1.0 if sd is None else np.exp(-(dy**2 + dx**2) / (2 * sd**2))
    grey = background + min(background, 1 - background) * contrast * window * np.cos(phase)
    return np.repeat(np.clip(grey, 0, 1).astype(np.float32)[:, None], 3, axis=1)
