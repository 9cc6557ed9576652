"""What a foreign model makes of codes, checked once before it is trusted. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.seeds import named_generator

#: Codes on which a model is tried, and on which engines are compared.
PROBE_CODES = 3
#: How far below and above the declared range values may go, as a share of it, before the declaration is doubted.
SLACK = 0.5


def probe_codes(space: Space) -> NDArray[np.float32]:
    """Draws codes ``(3, dim)`` from the prior, the same at every call."""
    return space.sample(PROBE_CODES, named_generator(0, "probe")).astype(np.float32)


def check_raw_images(images: NDArray[Any], alone: NDArray[Any]) -> int:
    """Returns the height and width of a model's images if they are ``(n, 3 or 1, s, s)``, finite, and independent.

    Args:
        images: What the model made of the probe codes.
        alone: What it made of the last of them alone.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise InvalidArgumentError(
            f"module: expected images of shape (n, 3, s, s) or (n, 1, s, s), got {images.shape} for "
            f"{PROBE_CODES} codes."
        )
    if not np.isfinite(images).all():
        raise InvalidArgumentError("module: expected finite images, got NaN or infinity for codes from the space.")
    if len(images) != PROBE_CODES or np.abs(images[-1:] - alone).max() > 1e-3 * max(np.abs(images).max(), 1e-6):
        raise InvalidArgumentError(
            "module: an image depends on the other codes of its batch, or on random numbers; expected the same image "
            "for the same code. Fix its noise."
        )
    return int(images.shape[-1])


def check_range(images: NDArray[Any], output_range: Sequence[float]) -> tuple[float, float]:
    """Returns the values for black and for white if they are two rising numbers that the images fit.

    Raises:
        InvalidArgumentError: Otherwise.
    """
    values = np.asarray(output_range)
    if (
        values.shape != (2,)
        or values.dtype.kind not in "fiu"
        or not np.isfinite(values).all()
        or values[0] >= values[1]
    ):
        raise InvalidArgumentError(
            f"output_range: expected the model's values for black and for white, got {output_range!r}."
        )
    low, high = float(values[0]), float(values[1])
    slack = SLACK * (high - low)
    if images.min() < low - slack or images.max() > high + slack:
        raise InvalidArgumentError(
            f"output_range: expected values from {low:g} (black) to {high:g} (white), got {images.min():.3g} to "
            f"{images.max():.3g} for codes from the space."
        )
    return low, high
