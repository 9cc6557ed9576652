"""Student's t: intervals of means, and tests that a mean is 0, for whichever analysis has few values."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from closedloop.interfaces import FloatArray

#: Values that differ by no more than this part of their size are alike: only rounding tells them apart.
ALIKE = 1e-9


def half_width(error: Any, freedom: Any, level: float) -> Any:
    """Returns half of the interval of an estimate: t((1 + level) / 2; ν) · standard error."""
    return stats.t.ppf((1 + level) / 2, freedom) * error


def informative(values: FloatArray, fewest: int = 2) -> NDArray[np.bool_]:
    """Tells which samples ``(…, n)`` say how far their mean may be off: of enough values, and not all alike.

    The t of values that are all alike is 0 / 0, or infinite where they are not 0: neither is evidence of anything.

    Args:
        values: Samples; NaN is left out.
        fewest: Values that are enough.
    """
    known = ~np.isnan(values)
    high = np.where(known, values, -np.inf).max(-1, initial=-np.inf)
    low = np.where(known, values, np.inf).min(-1, initial=np.inf)
    size = np.abs(np.where(known, values, 0)).max(-1, initial=0)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = (known.sum(-1) >= max(2, fewest)) & (high - low > ALIKE * size)
    return found


def students_interval(
    values: FloatArray, level: float, *, fewest: int = 2, within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns means over the last axis, and where Student's interval of each ends.

    Args:
        values: Samples ``(…, n)``; NaN is left out.
        level: Of the intervals.
        fewest: Values below which there is no interval.
        within: What a mean can be, such as 0 to 1 of shares. The interval is cut there, which costs no coverage.

    Returns:
        Mean, lower and upper end, ``(…)``; NaN for the ends where a sample is not `informative`, and for the mean of
        nothing.
    """
    known = ~np.isnan(values)
    n = known.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(-1) / n
        spread = np.sqrt((np.where(known, values - mean[..., None], 0) ** 2).sum(-1) / (n - 1))
        half = half_width(spread / np.sqrt(n), n - 1, level)
    half = np.where(informative(values, fewest), half, np.nan)
    return mean, np.clip(mean - half, *within), np.clip(mean + half, *within)


def students_p(
    values: FloatArray, *, alternative: Literal["two-sided", "greater"] = "two-sided", fewest: int = 2
) -> FloatArray:
    """Returns the p of the t-test that a mean over the last axis is 0; NaN where a sample is not `informative`.

    Args:
        values: Samples ``(…, n)``; NaN is left out.
        alternative: That the mean is not 0, or that it is greater.
        fewest: Values below which nothing is tested.
    """
    enough = informative(values, fewest)
    p = np.full(values.shape[:-1], np.nan)
    if enough.any():
        p[enough] = stats.ttest_1samp(values[enough], 0, axis=-1, nan_policy="omit", alternative=alternative).pvalue
    return p
