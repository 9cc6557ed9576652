"""Intervals and tests that several analyses share: of means, medians, rates; the bootstrap; Holm's correction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from closedloop.analysis.reasons import all_nan, scalar
from closedloop.analysis.students import half_width, in_unit, spread
from closedloop.checks import check_flag, check_whole, check_within, real_numbers
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

Method = Literal["BCa", "percentile"]


@at_door
def bootstrap(
    samples: ArrayLike | Sequence[ArrayLike],
    statistic: Callable[..., Any] = np.mean,
    *,
    paired: bool = False,
    method: Method = "BCa",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Returns the bootstrap interval of a statistic (Efron & Tibshirani 1993, chapters 13 and 14).

    For tens of values. Over few it is too short (of a mean of nine normal values 95 % cover 89 %, "percentile"): means
    and medians over units have `mean_interval` and `median_interval`.

    Args:
        samples: One sample ``(n,)``, or a tuple or list of samples for a statistic of several. NaN is left out; of
            paired samples the whole pair.
        statistic: From the samples to a number; it gets one array ``(n,)`` for each sample, and may take ``axis``.
        paired: Whether entry i of each sample belongs together and is drawn together.
        method: "BCa" (bias-corrected and accelerated) or "percentile".
        resamples: Number of resamples.
        level: Confidence level, between 0 and 1.
        seed: Seed of the resamples.

    Returns:
        `estimate`, `low`, `high`, and the coordinates `level`, `seed`, `resamples` and `reason`. The interval is NaN,
        with the reason, for a sample of fewer than three values or one whose values are all equal.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """
    check_within("level", level, 0.95)
    check_flag("paired", paired)
    if method not in ("BCa", "percentile"):
        raise InvalidArgumentError(f"method: expected 'BCa' or 'percentile', got {method!r}.")
    resamples = check_whole("resamples", resamples, 100)
    data = _clean(samples, paired)
    noted = {"level": level, "seed": seed, "resamples": resamples}
    if min(len(d) for d in data) == 0:
        return all_nan(("estimate", "low", "high"), "no value").assign_coords(noted)
    estimate = float(statistic(*data))
    if reason := _uninformative(data):
        return scalar({"estimate": estimate, "low": np.nan, "high": np.nan}, reason, **noted)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # NaN, which gets its reason below
        found = stats.bootstrap(
            data,
            statistic,
            paired=paired,
            method=method,
            n_resamples=resamples,
            confidence_level=level,
            rng=named_generator(seed, "bootstrap"),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    reason = "" if np.isfinite([low, high]).all() else "the statistic is the same in all resamples"
    return scalar({"estimate": estimate, "low": low, "high": high}, reason, **noted)


def _clean(samples: ArrayLike | Sequence[ArrayLike], paired: bool) -> list[FloatArray]:
    """Returns the samples without NaN, each ``(n,)``."""
    several = isinstance(samples, (tuple, list)) and len(samples) > 0 and np.ndim(samples[0]) > 0
    arrays = [real_numbers("samples", s) for s in (samples if several else [samples])]  # type: ignore[union-attr]
    shapes = [a.shape for a in arrays]
    if any(a.ndim != 1 for a in arrays):
        raise InvalidArgumentError(f"samples: expected one-dimensional samples, got shapes {shapes}.")
    if not paired:
        return [a[~np.isnan(a)] for a in arrays]
    if len(set(shapes)) > 1:
        raise InvalidArgumentError(f"samples: expected samples of one length for paired=True, got shapes {shapes}.")
    whole = ~np.isnan(arrays).any(0)
    return [a[whole] for a in arrays]


def _uninformative(data: Sequence[FloatArray]) -> str:
    """Says why samples carry no interval; "" if they do."""
    if min(len(d) for d in data) < 3:
        return f"fewer than three values ({min(len(d) for d in data)})"
    if all((d == d[0]).all() for d in data):
        return "all values are equal, so nothing can be resampled"
    return ""


@at_door
def mean_interval(
    values: ArrayLike,
    *,
    method: Literal["t", "studentized"] = "t",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """Returns the interval of a mean over few values, such as units.

    Student's t covers exactly where values are normal, whatever their number; of skewed ones (exponential) 89 % at
    n = 6 to 93 % at n = 40. The studentized bootstrap (Efron & Tibshirani 1993, chapter 12.5) covers 93 to 95 % of
    both, and is longer.

    Args:
        values: One for each unit, ``(n,)``. NaN is left out.
        method: "t" or "studentized".
        level: Confidence level, between 0 and 1.
        resamples: Number of resamples, of "studentized".
        seed: Seed of the resamples.

    Returns:
        `estimate`, `low`, `high`, and the coordinates `level` and `reason`. The interval is NaN, with the reason, for
        fewer than two values (studentized: five) or values that are all equal.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """
    check_within("level", level, 0.95)
    if method not in ("t", "studentized"):
        raise InvalidArgumentError(f"method: expected 't' or 'studentized', got {method!r}.")
    resamples = check_whole("resamples", resamples, 100)
    known = _clean_one(values)
    n, least = len(known), 2 if method == "t" else 5
    if n == 0:
        return all_nan(("estimate", "low", "high"), "no value").assign_coords(level=level)
    estimate, nothing = float(known.mean()), {"low": np.nan, "high": np.nan}
    if n < least:
        return scalar({"estimate": estimate, **nothing}, f"fewer than {least} values ({n})", level=level)
    if (known == known[0]).all():
        return scalar({"estimate": estimate, **nothing}, "all values are equal", level=level)
    error = float(spread(known)) / np.sqrt(n)
    if method == "t":
        half = half_width(error, n - 1, level)
        low, high = estimate - half, estimate + half
    else:
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        drawn = known[named_generator(seed, "studentized").integers(0, n, (resamples, n))]
        errors = spread(drawn, 1) / np.sqrt(n)
        varied = errors > 1e-9 * error  # a resample of one value only has no t
        # t* = (m* - m) / s*, and m - t*(1 - a) s to m - t*(a) s: their equation 12.22.
        t = np.quantile((drawn.mean(1) - estimate)[varied] / errors[varied], tails)
        low, high = estimate - t[::-1] * error
    return scalar({"estimate": estimate, "low": float(low), "high": float(high)}, level=level)


@at_door
def median_interval(values: ArrayLike, *, level: float = 0.95) -> xr.Dataset:
    """Returns the interval of a median between two of the values: it covers at least `level`, whatever they follow.

    The sign test's (Conover 1999, chapter 3.2): each value lies below the median with probability ½, so that
    P(x₍ₖ₎ ≤ median ≤ x₍ₙ₊₁₋ₖ₎) = 1 − 2 P(B < k), B binomial (n, ½). Of fewer than six values not even their whole
    range covers 95 %.

    Args:
        values: One for each unit, ``(n,)``. NaN is left out.
        level: Confidence level, between 0 and 1.

    Returns:
        `estimate`, `low`, `high`, and the coordinates `level`, `covered` (the probability above, at least `level`) and
        `reason`; the interval is NaN, with the reason, of too few values.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """
    check_within("level", level, 0.95)
    known = np.sort(_clean_one(values))
    n = len(known)
    if n == 0:
        return all_nan(("estimate", "low", "high"), "no value").assign_coords(level=level, covered=np.nan)
    estimate = float(np.median(known))
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))  # the largest with P(B < k) ≤ (1 - level) / 2
    covered = 1 - 2 * float(stats.binom.cdf(k - 1, n, 0.5))
    if k == 0:
        missing = {"estimate": estimate, "low": np.nan, "high": np.nan}
        reason = f"too few values ({n}) for a {100 * level:g} % interval of a median"
        return scalar(missing, reason, level=level, covered=np.nan)
    ends = {"estimate": estimate, "low": float(known[k - 1]), "high": float(known[n - k])}
    return scalar(ends, level=level, covered=covered)


def _clean_one(values: ArrayLike) -> FloatArray:
    """Returns the values without NaN, ``(n,)``."""
    given = real_numbers("values", values)
    if given.ndim != 1:
        raise InvalidArgumentError(f"values: expected one for each unit, (n,), got shape {given.shape}.")
    return given[~np.isnan(given)]


@at_door
def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Corrects p-values for their number by Holm (1979): the familywise error stays below alpha.

    Tested against statsmodels, which is too heavy (65 MB) to ask of a rig's computer for one correction.

    Args:
        p: P-values of any shape; NaN is not counted and stays NaN.

    Returns:
        Adjusted values of the same shape: a test is significant where its value is below alpha.

    Raises:
        InvalidArgumentError: A value is not in [0, 1].
    """
    values, known = _p_values(p)
    order = np.argsort(known, kind="stable")
    # p_(i) · (m - i + 1) for the i-th smallest of m, and never below that of a smaller p.
    stepped = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum(stepped, 1)
    whole = np.full(values.shape, np.nan)
    whole[~np.isnan(values)] = adjusted
    return whole


@at_door
def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Corrects p-values by Benjamini & Hochberg (1995): the expected share of false ones among those below alpha.

    Args:
        p: P-values of any shape; NaN is not counted and stays NaN.

    Returns:
        Adjusted values of the same shape.

    Raises:
        InvalidArgumentError: A value is not in [0, 1].
    """
    values, known = _p_values(p)
    whole = np.full(values.shape, np.nan)
    if known.size:
        whole[~np.isnan(values)] = stats.false_discovery_control(known)
    return whole


def _p_values(p: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns p-values as an array, and those that are known ``(n,)``."""
    values = real_numbers("p", p)
    known = values[~np.isnan(values)]
    if known.size and (known.min() < 0 or known.max() > 1):
        raise InvalidArgumentError(f"p: expected values in [0, 1], got [{known.min()}, {known.max()}].")
    return values, known


@at_door
def success_rate(success: xr.Dataset | ArrayLike, *, level: float = 0.95) -> xr.Dataset:
    """Returns the share of evolutions that succeeded, with its Bayesian interval under a uniform prior.

    With k of n, the interval lies between quantiles of Beta(k + 1, n + 1 − k), as in Wang & Ponce's analyses. At 0 of n
    it begins at 0, and at n of n it ends at 1, with the same probability: an interval that left out the rate that was
    observed could not hold a rate of 0 at all.

    Args:
        success: What `success` returned, or a yes or no for each evolution (NaN where it cannot be said).
        level: Probability of the interval.

    Returns:
        `rate`, `low`, `high`, `k` and `n`; NaN with the reason where no evolution can be judged.
    """
    check_within("level", level, 0.95)
    values = real_numbers("success", _verdicts(success)).ravel()
    known = values[~np.isnan(values)]
    if not np.isin(known, (0, 1)).all():
        raise InvalidArgumentError("success: expected yes or no (1 or 0, NaN where unknown) for each evolution.")
    k, n = int(known.sum()), len(known)
    if n == 0:
        return all_nan(("rate", "low", "high"), "no evolution can be judged").assign(k=0, n=0)
    # The posterior of a rate under a uniform prior, Beta(1, 1), after k successes and n - k failures.
    tails = [0, level] if k == 0 else [1 - level, 1] if k == n else [(1 - level) / 2, (1 + level) / 2]
    low, high = stats.beta.ppf(tails, k + 1, n + 1 - k)
    return scalar({"rate": k / n, "low": float(low), "high": float(high), "k": k, "n": n}, level=level)


def _verdicts(success: xr.Dataset | ArrayLike) -> Any:
    """Returns the verdicts of a Dataset; what was given as it is where it is none."""
    if not isinstance(success, xr.Dataset):
        return success
    if "success" not in success:
        raise InvalidArgumentError(
            "success: expected what closedloop.analysis.success returned, got a Dataset of "
            f"{sorted(map(str, success.variables))}."
        )
    return success["success"].values


def rank_auc(a: FloatArray, b: FloatArray, axis: int = -1) -> Any:
    """Returns the probability that a draw of ``a`` exceeds one of ``b``, ties half: Mann & Whitney's U / (n m)."""
    found = stats.mannwhitneyu(a, b, axis=axis, method="asymptotic")  # its p-value, which is not used, is then cheap
    return found.statistic / (a.shape[axis] * b.shape[axis])


def cohens_d(a: FloatArray, b: FloatArray, axis: int = -1) -> Any:
    """Returns the difference of means over the pooled standard deviation (Cohen 1988, equation 2.5.1)."""
    n, m = a.shape[axis], b.shape[axis]
    # s² = ((n - 1) s_a² + (m - 1) s_b²) / (n + m - 2)
    (a, of_a), (b, of_b) = in_unit(a, axis), in_unit(b, axis)
    largest = np.maximum(of_a, of_b)
    a, b = np.ldexp(a, of_a - largest), np.ldexp(b, of_b - largest)
    pooled = ((n - 1) * a.var(axis, ddof=1) + (m - 1) * b.var(axis, ddof=1)) / (n + m - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a.mean(axis) - b.mean(axis)) / np.sqrt(pooled)
