"""Options that the networks of several formats share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from closedloop.checks import is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.recording.titles import OUTPUT as OUTPUT  # that of a network, whatever its last module is called


def check_colors(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Returns three finite numbers for R, G and B, above 0 where they are a standard deviation (``name`` "std").

    Raises:
        InvalidArgumentError: Otherwise.
    """
    array = np.asarray(values)
    if array.shape != (3,) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InvalidArgumentError(f"{name}: expected three numbers, one for each of R, G and B, got {values!r}.")
    if name == "std" and array.min() <= 0:
        raise InvalidArgumentError(f"std: expected numbers above 0, got {values!r}.")
    return tuple(float(v) for v in array)


def check_resolution(resolution: int) -> int:
    """Returns a whole number of pixels of at least 1.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not is_whole(resolution) or resolution < 1:
        raise InvalidArgumentError(f"resolution: expected a whole number of pixels, got {resolution!r}.")
    return int(resolution)
