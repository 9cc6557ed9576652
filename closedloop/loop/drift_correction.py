"""Taking slow drift out of responses, by what the interleaved reference images do.

The same image answered less in the end than in the beginning has not become worse: the recording has. The responses
to the reference images in the survey are the baseline; those of the last generations tell what has become of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray, State

#: What can be done about drift.
METHODS = ("none", "divide", "regress")


@final
class DriftCorrection:
    """Responses as they would have been in the survey, for each unit (and time bin) by itself.

    ``"divide"``: by the gain Σ now / Σ baseline over the recent references; for responses that are rates.
    ``"regress"``: through the line now = a + b · baseline fitted to them; also for responses that are shifted. Both are
    noisy, so the line is that of least squares across it (Deming 1943, with noise as large now as in the survey); the
    ordinary one is too flat by the noise of the baseline, and what is put back through it too steep.
    Where the references leave the gain at 0 or below, responses stay as they are (divide); where their slope is not
    above 0 by two standard errors, they are shifted only (regress).

    Args:
        method: "divide" or "regress".
        memory: Generations within which a reference response is forgotten (to 1/e).
    """

    def __init__(self, method: str, memory: float) -> None:
        self.method: str = method
        self.keep: float = float(np.exp(-1 / memory))
        self._baseline: FloatArray | None = None
        # Recency-weighted sums over references, each (6, units[, time]): 1, x, y, x², x y, y² of baseline x and now y.
        # Runs of older versions have no y², and go on with the ordinary line.
        self._sums: FloatArray | None = None

    @property
    def begun(self) -> bool:
        """Whether it has a baseline."""
        return self._baseline is not None

    def begin(self, responses: FloatArray) -> None:
        """Takes the survey's responses to all references, ``(references, units[, time])``, as the baseline."""
        self._baseline = responses
        self._sums = np.zeros((6, *responses.shape[1:]))

    def learn(self, which: Sequence[int], responses: FloatArray) -> None:
        """Learns from a generation's responses ``(k, units[, time])`` to the references of index `which`."""
        if self._baseline is None or self._sums is None:
            return
        x, y = self._baseline[list(which)], responses
        valid = ~np.isnan(x + y)
        x, y = np.where(valid, x, 0), np.where(valid, y, 0)
        terms = (valid, x, y, x * x, x * y, y * y)[: len(self._sums)]
        self._sums = self.keep * self._sums + np.stack([v.sum(0) for v in terms])

    def correct(self, responses: FloatArray) -> FloatArray:
        """Corrects responses ``(n, units[, time])`` of the same generation."""
        if self._sums is None:
            return responses
        n, x, y, xx, xy, *yy = self._sums
        if self.method == "divide":
            usable = (x > 0) & (y > 0)
            return np.asarray(responses / np.where(usable, y, 1) * np.where(usable, x, 1))
        mean_x, mean_y = x / np.maximum(n, 1e-12), y / np.maximum(n, 1e-12)
        covariance, variance = xy - n * mean_x * mean_y, xx - n * mean_x**2
        usable = (covariance > 0) & (variance > 1e-9 * xx)
        if yy:
            slope, steep = _line_across(n, variance, covariance, yy[0] - n * mean_y**2)
            slope = np.where(usable & steep, slope, 1)
        else:
            slope = np.where(usable, covariance, 1) / np.where(usable, variance, 1)
        return np.asarray((responses - mean_y) / slope + mean_x)

    def state(self) -> State:
        """Returns baseline and sums."""
        return {"baseline": self._baseline, "sums": self._sums}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._baseline, self._sums = state["baseline"], state["sums"]


def _line_across(n: FloatArray, xx: FloatArray, xy: FloatArray, yy: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Fits the line of least squares across it, of n pairs with centered sums Σx², Σxy and Σy²; returns its slope.

    Also whether it is above 0 by two standard errors: t² = r² (n - 2) / (1 - r²) > 4, with r² = (Σxy)² / (Σx² Σy²).
    """
    unexplained = np.maximum(xx * yy - xy**2, 0)
    steep = (xy > 0) & (xy**2 * (n - 2) > 4 * unexplained)
    apart = yy - xx
    # b = (Σy² - Σx² + √((Σy² - Σx²)² + 4 (Σxy)²)) / 2 Σxy
    slope = (apart + np.hypot(apart, 2 * xy)) / np.where(steep, 2 * xy, 1)
    return slope, steep
