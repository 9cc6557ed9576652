"""What views share: a random generator for each picture, and sampling through which gradients pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from closedloop.checks import check_number
from closedloop.errors import InvalidArgumentError
from closedloop.networks.resampling import resampled
from closedloop.seeds import numbered_generator


def draws(rng: np.random.Generator, n: int) -> list[np.random.Generator]:
    """Makes a random generator for each of ``n`` pictures.

    One number is taken from ``rng``, however many pictures there are: neither what picture i is given nor what the next
    call is given depends on ``n``.
    """
    root = int(rng.integers(2**63))
    return [numbered_generator(root, i) for i in range(n)]


def check_pictures(images: Tensor) -> tuple[int, int]:
    """Returns height and width of ``images`` if they are ``(n, 3, h, w)``, or grey, ``(n, 1, h, w)``.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise InvalidArgumentError(
            f"images: expected a tensor (n, 3, h, w), got {tuple(images.shape)}; a view is given what a generator's "
            f"forward returns{', and none is for movies' if images.ndim == 5 else ''}."
        )
    return int(images.shape[2]), int(images.shape[3])


def check_numbers(name: str, values: Any, low: float = -np.inf, high: float = np.inf) -> tuple[float, ...]:
    """Returns ``values`` as a tuple if they are one or more finite numbers from ``low`` to ``high``.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise InvalidArgumentError(f"{name}: expected a sequence of numbers, got {values!r}.")
    numbers = tuple(check_number(name, value, low, high) for value in values)
    if not numbers:
        raise InvalidArgumentError(f"{name}: expected at least one number, got none.")
    return numbers


def lens(size: int, low: float, side: float, new: int) -> tuple[NDArray[np.float64], int]:
    """Interpolates linearly along one axis: ``new`` samples of the stretch from ``low`` to ``low + side``.

    Pixel i covers the stretch from i to i + 1. The kernel is widened when shrinking (antialiased), and normalized over
    the pixels that there are. A sample beyond the image has no weights.

    Args:
        size: Length of the axis in pixels.
        low: Where the stretch begins, in pixels.
        side: Its length in pixels.
        new: How many samples are wanted.

    Returns:
        Weights ``(new, k)``, and the first of the k pixels that they are for.
    """
    ratio = side / new  # pixels of the image for each sample
    width = max(ratio, 1.0)  # half the base of the triangular kernel: a pixel when enlarging, a sample when shrinking
    # Sample k stands for the stretch from k to k + 1; half a pixel is taken off since pixel i is centred at i + ½.
    centers = low + (np.arange(new) + 0.5) * ratio - 0.5
    first = int(np.clip(np.floor(centers[0] - width), 0, size))
    last = int(np.clip(np.ceil(centers[-1] + width) + 1, first, size))
    # w(d) = max(0, 1 - |d| / width), d the distance of a pixel from the sample.
    weights = np.maximum(1 - np.abs(np.arange(first, last)[None] - centers[:, None]) / width, 0)
    inside = (centers >= -0.5) & (centers <= size - 0.5)
    total = weights.sum(1, keepdims=True)
    return np.where(inside[:, None], weights / np.maximum(total, 1e-12), 0), first


def resample(
    pictures: Tensor, box: tuple[float, float, float, float], shape: tuple[int, int], value: float = 0.5
) -> Tensor:
    """Resamples a box of pictures to another size; keeps the graph.

    Args:
        pictures: ``(…, h, w)``.
        box: Top, left, height and width in pixels; it may reach beyond the picture.
        shape: Height and width of the result.
        value: What is shown beyond the picture.

    Returns:
        ``(…, *shape)``.
    """
    height, width = pictures.shape[-2:]
    top, left, tall, wide = box
    if box == (0, 0, height, width) and shape == (height, width):
        return pictures
    rows, y = lens(height, top, tall, shape[0])
    columns, x = lens(width, left, wide, shape[1])
    # Relative to the grey level beyond the picture, so that a missing weight stands for that level, not for black.
    seen = pictures[..., y : y + rows.shape[1], x : x + columns.shape[1]] - value
    return resampled(seen, rows, columns) + value
