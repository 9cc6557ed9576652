"""Brings images to another resolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_memory, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.signatures import at_door

#: Luminance whose standard deviation is below half a step of an 8-bit file is flat: without contrast.
FLAT_STD = 0.5 / 255
#: Planes that are resized together, which the caches of a processor hold: of hundreds each step would go to memory.
_PLANES = 24


@cache
def resize_matrix(size: int, new: int) -> NDArray[np.float32]:
    """Returns weights ``(new, size)`` of linear interpolation, with the kernel widened when shrinking (antialiased)."""
    ratio = size / new
    width = max(ratio, 1.0)
    # Pixel i is centred at i + ½: where the centre of each new pixel falls among the old ones.
    centers = (np.arange(new) + 0.5) * ratio - 0.5
    weights = np.maximum(1 - np.abs(np.arange(size)[None] - centers[:, None]) / width, 0)
    normalized: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalized


@at_door
def resize_images(images: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """Returns images ``(…, h, w)`` as ``(…, resolution, resolution)``, bilinear, antialiased; the same if they fit."""
    images, resolution = np.asarray(images), check_whole("resolution", resolution, 1)
    if images.ndim < 2 or 0 in images.shape[-2:]:
        raise InvalidArgumentError(f"images: expected shape (…, h, w), got {images.shape}.")
    height, width = images.shape[-2:]
    if (height, width) == (resolution, resolution):
        return images
    check_memory("resolution", *images.shape[:-2], resolution, resolution)
    rows, columns = resize_matrix(height, resolution), resize_matrix(width, resolution)
    planes = images.reshape(-1, height, width)
    out = np.empty((len(planes), resolution, resolution), np.result_type(rows, images))
    for first in range(0, len(planes), _PLANES):  # each plane by itself, a few in the caches at a time
        some = slice(first, first + _PLANES)
        np.clip(rows @ planes[some] @ columns.T, 0, 1, out=out[some])
    return out.reshape(*images.shape[:-2], resolution, resolution)


def shrink(planes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Returns planes ``(n, h, w)`` as ``(n, side, side)`` by area averaging."""
    rows = average_blocks(planes, side)
    return average_blocks(np.ascontiguousarray(rows.transpose(0, 2, 1)), side).transpose(0, 2, 1)


def average_blocks(planes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Returns planes ``(n, h, w)`` as ``(n, side, w)``; each row counts as far as it lies in the new one.

    By sums of whole rows: faster than a product of matrices, and the same for an image whatever its neighbours.
    """
    n, height, width = planes.shape
    if height == side:
        return planes
    groups = math.gcd(height, side)
    old, new = planes.reshape(n, groups, height // groups, width), side // groups
    if new == 1:
        means: NDArray[np.float32] = old.mean(2)
        return means
    out = np.zeros((n, groups, new, width), np.float32)
    edges = np.arange(new + 1) * (height / side)
    for i in range(new):
        for j in range(math.floor(edges[i]), math.ceil(edges[i + 1])):
            share = np.float32(min(edges[i + 1], j + 1) - max(edges[i], j))
            out[:, :, i] += old[:, :, j] if share == 1 else old[:, :, j] * share
    out *= np.float32(side / height)
    return out.reshape(n, side, width)


def batches(images: NDArray[np.float32], size: int = 8) -> Iterator[NDArray[np.float32]]:
    """Yields images in parts of at most `size`, which the caches of a processor hold."""
    for first in range(0, len(images), size):
        yield images[first : first + size]
