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


def in_unit(values: FloatArray, axis: int = 0) -> tuple[FloatArray, NDArray[np.intc]]:
    """Divides very large or small values by a power of two near their largest: no square overflows or vanishes.

    The digits stay the same, so that a result does not depend on the unit in which responses are measured.

    Args:
        values: Of any shape; NaN stays.
        axis: Along which they have one unit.

    Returns:
        The values, and the exponent of the power of two, whose length along the axis is 1; 0 for usual values.
    """
    largest = np.abs(np.where(np.isfinite(values), values, 0)).max(axis, initial=0.0, keepdims=True)
    exponent = np.frexp(largest)[1]
    # Values from 2⁻¹⁰⁰ to 2¹⁰⁰ are usual: no fourth power of them overflows or vanishes.
    exponent = np.where(np.abs(exponent) > 100, exponent, 0)
    return np.ldexp(values, -exponent), exponent


def spread(values: FloatArray, axis: int = -1) -> FloatArray:
    """Returns the unbiased standard deviation along an axis, without NaN; NaN below two values."""
    scaled, exponent = in_unit(values, axis)
    known = ~np.isnan(scaled)
    n = known.sum(axis, keepdims=True)
    mean = np.where(known, scaled, 0).sum(axis, keepdims=True) / np.maximum(n, 1)
    squares = np.where(known, scaled - mean, 0) ** 2
    found: FloatArray = np.sqrt(squares.sum(axis) / np.where(n > 1, n - 1, np.nan).squeeze(axis))
    return np.ldexp(found, exponent.squeeze(axis))


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
        half = half_width(spread(values) / np.sqrt(n), n - 1, level)
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
    values, _ = in_unit(values, -1)
    enough = informative(values, fewest)
    p = np.full(values.shape[:-1], np.nan)
    if enough.any():
        p[enough] = stats.ttest_1samp(values[enough], 0, axis=-1, nan_policy="omit", alternative=alternative).pvalue
    return p


def welch(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns t and its degrees of freedom of Welch's test that two samples have one mean; t is above 0 where a is.

    Args:
        a: Samples ``(…, n)``; NaN is left out. Of any unit: squares of the largest numbers do not overflow.
        b: The others, ``(…, m)``.

    Returns:
        Two arrays ``(…)``, NaN where a sample has fewer than two values, or both vary by rounding only. That one of
        them does not vary is no matter.
    """
    both, _ = in_unit(np.concatenate([a, b], -1), -1)
    means, squares, counts = [], [], []
    for values in np.split(both, [np.shape(a)[-1]], -1):
        n = (~np.isnan(values)).sum(-1)
        means.append(np.nansum(values, -1) / np.maximum(n, 1))
        squares.append(
            np.where(informative(values), spread(values) ** 2 / np.maximum(n, 1), np.where(n > 1, 0, np.nan))
        )
        counts.append(n)
    total = squares[0] + squares[1]
    t = (means[0] - means[1]) / np.sqrt(np.where(total > 0, total, np.nan))
    return t, np.where(np.isnan(t), np.nan, welch_freedom(*squares, *counts))


def welch_freedom(a: FloatArray, b: FloatArray, n: FloatArray, m: FloatArray) -> FloatArray:
    """Returns Welch's degrees of freedom of a difference of two means; 1 where neither of them has an error.

    ν = (a + b)² / (a² / (n - 1) + b² / (m - 1)), where ``a`` and ``b`` are squared standard errors of n and m values.
    """
    below = a**2 / np.maximum(n - 1, 1) + b**2 / np.maximum(m - 1, 1)
    found: FloatArray = np.where(below > 0, (a + b) ** 2 / np.where(below > 0, below, 1), 1)
    return found
