"""Taking slow drift out of responses, by what the interleaved reference images do.

The same image answered less in the end than in the beginning has not become worse: the recording has. The responses
to the reference images in the survey are the baseline; those of the last generations tell what has become of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from closedloop.interfaces import FloatArray, State

#: What can be done about drift.
METHODS = ("none", "divide", "regress")


@final
class DriftCorrection:
    """Responses as they would have been in the survey, for each unit (and time bin) by itself.

    ``"divide"``: by the gain Σ now / Σ baseline over the recent references; for responses that are rates.
    ``"regress"``: through the line now = a + b · baseline fitted to them; also for responses that are shifted.
    Where the references leave the gain or the slope at 0 or below, responses stay as they are (divide), or are
    shifted only (regress).

    Args:
        method: "divide" or "regress".
        memory: Generations within which a reference response is forgotten (to 1/e).
    """

    def __init__(self, method: str, memory: float) -> None:
        self.method, self.keep = method, float(np.exp(-1 / memory))
        self._baseline: FloatArray | None = None
        # Recency-weighted sums over references, each (5, units[, time]): 1, x, y, x², x y of baseline x and now y.
        self._sums: FloatArray | None = None

    def begin(self, responses: FloatArray) -> None:
        """Takes the survey's responses to all references, ``(references, units[, time])``, as the baseline."""
        self._baseline = responses
        self._sums = np.zeros((5, *responses.shape[1:]))

    def learn(self, which: Sequence[int], responses: FloatArray) -> None:
        """Learns from a generation's responses ``(k, units[, time])`` to the references of index `which`."""
        if self._baseline is None or self._sums is None:
            return
        x, y = self._baseline[list(which)], responses
        valid = ~np.isnan(x + y)
        x, y = np.where(valid, x, 0), np.where(valid, y, 0)
        self._sums = self.keep * self._sums + np.stack([v.sum(0) for v in (valid, x, y, x * x, x * y)])

    def correct(self, responses: FloatArray) -> FloatArray:
        """Responses ``(n, units[, time])`` of the same generation -> corrected ones."""
        if self._sums is None:
            return responses
        n, x, y, xx, xy = self._sums
        if self.method == "divide":
            usable = (x > 0) & (y > 0)
            return np.asarray(responses / np.where(usable, y, 1) * np.where(usable, x, 1))
        mean_x, mean_y = x / np.maximum(n, 1e-12), y / np.maximum(n, 1e-12)
        covariance, variance = xy - n * mean_x * mean_y, xx - n * mean_x**2
        usable = (covariance > 0) & (variance > 1e-9 * xx)
        slope = np.where(usable, covariance, 1) / np.where(usable, variance, 1)
        return np.asarray((responses - mean_y) / slope + mean_x)

    def state(self) -> State:
        """Baseline and sums."""
        return {"baseline": self._baseline, "sums": self._sums}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._baseline, self._sums = state["baseline"], state["sums"]
