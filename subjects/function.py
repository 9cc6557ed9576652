"""Any callable on images as a subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_array, check_labels
from closedloop.checks import check_images, check_responses, is_whole
from closedloop.errors import InvalidArgumentError, SubjectError
from closedloop.interfaces import FloatArray, Form, Units
from closedloop.readable import ReadableSubject


@final
class FunctionSubject(ReadableSubject):
    """Records whatever a function returns for images.

    Args:
        function: Images ``(n, 3, h, w)`` float32, RGB in [0, 1] -> responses ``(n, units)``, ``(n, units, time)``, or
            ``(n,)`` for a single unit. NaN marks a lost presentation.
        units: Number of units, their names, or a full `Units` description.
        name: For records; default the function's name.
        channels: 3 for colours; 1 for grey images, ``(n, 1, h, w)``.
        frames: Pictures of a movie, for a function of movies ``(n, frames, channels, h, w)``; None for stills.
        rate_hz: Pictures per second of a movie.
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.float32]], Any],
        units: int | Sequence[str] | Units = 1,
        name: str = "",
        channels: int = 3,
        frames: int | None = None,
        rate_hz: float | None = None,
    ) -> None:
        if not callable(function):
            raise InvalidArgumentError(f"function: expected a callable on images, got {type(function).__name__}.")
        self._function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__)).strip("<>")
        self.units: Units = self._describe(units)
        self._form = Form(channels, frames, rate_hz)
        self.channels: int = channels
        self.frames: int | None = frames
        self.rate_hz: float | None = rate_hz

    def _describe(self, units: int | Sequence[str] | Units) -> Units:
        if isinstance(units, Units):
            return units
        if is_whole(units) and units >= 1:
            return Units.numbered(self.name, int(units))
        if isinstance(units, (list, tuple)) and units and all(isinstance(u, str) for u in units):
            return Units(tuple(units), {})
        raise InvalidArgumentError(f"units: expected a number of at least 1, or names, got {units!r}.")

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, or what it is for, into responses ``(n, units[, time])``."""
        shown = check_images(images, form=self._form)
        responses = self._function(shown.copy())  # which it may overwrite
        if len(self.units) == 1 and _is_row(responses, len(shown)):
            check_labels(responses, self.name)
            responses = as_array(f"subject {self.name!r}", responses, SubjectError)[:, None]
        return check_responses(responses, len(shown), len(self.units), self.name, neuroids=list(self.units.neuroid_id))


def _is_row(responses: Any, n: int) -> bool:
    """Tells whether a function returned ``(n,)``, one number for each image."""
    try:
        return bool(np.shape(responses) == (n,))
    except ValueError:  # rows of different length
        return False
