"""How reliable responses are: what repeats of the same image say about noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.reasons import CONSTANT, NOISELESS, choose
from closedloop.analysis.students import in_unit
from closedloop.analysis.units import (
    Kind,
    Moments,
    Selection,
    averaging,
    correlations,
    per_unit,
    pieces,
    select,
    unit_coords,
)
from closedloop.checks import check_whole
from closedloop.interfaces import FloatArray
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: The reason where an analysis over images has too few of them.
TOO_FEW_REPEATED = "fewer than three images were presented at least twice"


def nothing(recording: xr.Dataset, names: tuple[str, ...], reason: str) -> xr.Dataset:
    """Returns NaN for every unit and each name, for one reason."""
    units = recording.sizes["neuroid"]
    coords = {**unit_coords(recording), "reason": ("neuroid", np.full(units, reason, dtype=object))}
    return xr.Dataset({name: ("neuroid", np.full(units, np.nan)) for name in names}, coords=coords)


@at_door
def fano_factor(recording: xr.Dataset, *, kind: Kind = None, repeats: int = 5) -> xr.Dataset:
    """Returns the variance over the mean of the response to the same image, averaged over images.

    Meant for spike counts: 1 for a Poisson process. Churchland et al. 2010, *Nature Neuroscience*.

    Args:
        recording: See `closedloop.open_recording`.
        kind: Which presentations: "reference", "retest" …; None for the references in their unselected
            presentations, or for all where there are none: re-tests were chosen for their high responses, and so were
            evolved images.
        repeats: Least number of presentations of an image that counts.

    Returns:
        Over ``neuroid``: `fano`, the mean over images of the unbiased variance ÷ mean; `slope`, that of the regression
        of variance on mean through the origin; `n`, the images that count (mean response above 0). NaN with the reason
        where there are no repeats or no noise.
    """
    least = check_whole("repeats", repeats, 2)
    asked = select(recording, kind, natural=True)
    chosen = asked.repeated(least)
    if len(chosen.names) == 0:
        return nothing(recording, ("fano", "slope", "n"), _too_few(asked, least))

    def measure(values: FloatArray) -> Mapping[str, NDArray[Any]]:
        found = Moments.of(values, chosen)
        counts = (found.n >= least) & (found.mean > 0)
        n = counts.sum(0)
        mean, variance = (np.where(counts, v, 0) for v in (found.mean, found.variance))
        missing = np.where((n > 0) & ~found.noiseless, 1.0, np.nan)
        ratio = np.divide(variance, mean, out=np.zeros_like(mean), where=counts)  # F = σ² / μ of each image
        return {
            "fano": missing * ratio.sum(0) / np.maximum(n, 1),
            # Least squares of σ² on μ without an intercept: Σ μ σ² / Σ μ².
            "slope": missing * (mean * variance).sum(0) / np.where(n > 0, (mean**2).sum(0), np.nan),
            "n": n.astype(float),
            "reason": choose(
                (n == 0, f"no image with a mean response above 0 was presented at least {least} times"),
                (found.noiseless, NOISELESS),
            ),
        }

    return per_unit(recording, chosen, measure, ("fano", "slope"))


def _too_few(asked: Selection, least: int) -> str:
    """Says why there is no result where no image that was asked for was presented often enough, and what to ask for."""
    most = int(asked.counts.max())
    cure = f"give repeats={most}, or another kind" if most > 1 else "give another kind"
    return f"no image of these was presented at least {least} times, but {most} at most; {cure}, such as 'retest'"


@at_door
def split_half(recording: xr.Dataset, *, kind: Kind = None, splits: int = 100, seed: int = 0) -> xr.Dataset:
    """Measures split-half reliability: the correlation over images between the means of two halves of the repeats.

    Averaged over random splits, then corrected to the full number of repeats by Spearman & Brown (1910): for means over
    f times as many, f r / (1 + (f − 1) r). f is 2 for an even number of repeats; of an odd number k one repeat is in
    neither half, and f is k ÷ ((k − 1) / 2).

    Args:
        recording: See `closedloop.open_recording`.
        kind: Which presentations: "reference", "retest" …; None for the references in their unselected
            presentations, or for all where there are none: re-tests were chosen for their high responses, and so were
            evolved images.
        splits: Number of random splits.
        seed: Seed of the splits.

    Returns:
        Over ``neuroid``: `r` (mean over splits), `r_sd` (standard deviation over splits) and `reliability`
        (Spearman-Brown). NaN with the reason where no image was repeated, or the unit has no noise or no signal at all.
    """
    splits = check_whole("splits", splits, 1)
    chosen = select(recording, kind, natural=True).repeated(2)
    if len(chosen.names) < 3:
        return nothing(recording, ("r", "r_sd", "reliability"), TOO_FEW_REPEATED)
    rng = named_generator(seed, "split-half")
    halves = [random_halves_of(chosen, rng) for _ in range(splits)]

    def measure(values: FloatArray) -> Mapping[str, NDArray[Any]]:
        found = Moments.of(values, chosen)
        known = ~np.isnan(values)
        filled, present = np.where(known, values, 0), known.astype(float)
        r = np.stack([correlations(_mean(a, filled, present), _mean(b, filled, present)) for a, b in halves])
        longer = _lengthening(halves, present, found.n)
        usable = ~(np.isnan(r).any(0) | found.noiseless)
        mean = np.where(usable, r.mean(0), np.nan)
        sd = np.where(usable, r.std(0), np.nan)
        few = (found.n > 1).sum(0) < 3
        reason = choose((few, TOO_FEW_REPEATED), (found.noiseless, NOISELESS), (~usable, CONSTANT))
        with np.errstate(divide="ignore"):
            # Spearman & Brown: the reliability of a mean over f times as many repeats.
            below = 1 + (longer - 1) * mean
            corrected = np.where(below > 0, longer * mean / below, np.nan)
        return {"r": mean, "r_sd": sd, "reliability": corrected, "reason": reason}

    return per_unit(recording, chosen, measure).assign_coords(splits=splits, seed=seed)


def random_halves_of(chosen: Selection, rng: np.random.Generator) -> tuple[Any, Any]:
    """Returns matrices that sum two random halves of each stimulus's presentations, one left out of an odd number."""
    # Sorted by stimulus, and at random within it: a presentation's place among those of its stimulus, from 0.
    order = np.lexsort((rng.random(len(chosen.rows)), chosen.index))
    counts = chosen.counts
    position = np.empty(len(order), dtype=int)
    position[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    half = (counts // 2)[chosen.index]
    first, second = position < half, (position >= half) & (position < 2 * half)
    return tuple(averaging(chosen.index, part, len(counts)) for part in (first, second))


def half_means(recording: xr.Dataset, chosen: Selection, summing: Any) -> FloatArray:
    """Returns means ``(stimuli, units)`` of the presentations that a matrix of `random_halves_of` sums."""
    found = []
    for _, values in pieces(recording, chosen.rows):
        known = ~np.isnan(values)
        found.append(_mean(summing, np.where(known, values, 0), known.astype(float)))
    return np.concatenate(found, axis=1)


def _lengthening(halves: list[tuple[Any, Any]], present: FloatArray, n: FloatArray) -> FloatArray:
    """Returns how many times more repeats all are than a half, ``(units,)``: the f of Spearman & Brown.

    The noise of a mean over images of h_i repeats is as the mean of 1 / h_i; f is its ratio of halves to all.
    """
    half, whole = np.zeros(n.shape[1]), np.zeros(n.shape[1])
    for pair in halves:
        counts = [summing @ present for summing in pair]
        both = (counts[0] > 0) & (counts[1] > 0)
        with np.errstate(divide="ignore"):
            half += np.where(both, (1 / counts[0] + 1 / counts[1]) / 2, 0).sum(0)
            whole += np.where(both, 1 / n, 0).sum(0)
    ratio: FloatArray = half / np.where(whole > 0, whole, np.nan)
    return ratio


def _mean(summing: Any, filled: FloatArray, present: FloatArray) -> FloatArray:
    """Returns means ``(stimuli, units)`` of the presentations that a matrix sums; NaN where there are none."""
    n = summing @ present
    mean: FloatArray = (summing @ filled) / np.where(n > 0, n, np.nan)
    return mean


def _anova(found: Moments) -> dict[str, FloatArray]:
    """Returns sums of squares and degrees of freedom between and within stimuli, each ``(units,)``."""
    total = found.n.sum(0)
    # Grand mean over presentations; SS_between = Σ n_i (m_i - grand)², SS_within = Σ Σ (x - m_i)².
    grand = np.nansum(found.n * found.mean, 0) / np.where(total > 0, total, np.nan)
    between = np.nansum(found.n * (found.mean - grand) ** 2, 0)
    df_between = (found.n > 0).sum(0) - 1.0
    return {
        "between": between,
        "within": found.squares.sum(0),
        "df_between": df_between,
        "df_within": total - df_between - 1,
    }


def _unfit(found: Moments, parts: Mapping[str, FloatArray]) -> NDArray[Any]:
    """Says why an analysis of variance says nothing about a unit; "" where it does."""
    return choose(
        ((parts["df_between"] < 1) | (parts["df_within"] < 1), "too few images, or none presented twice"),
        (found.noiseless, NOISELESS),
    )


@at_door
def noise_ceiling(recording: xr.Dataset, *, kind: Kind = None) -> xr.Dataset:
    """Returns the highest correlation a perfect model could reach with a unit's mean responses, given their noise.

    From a one-way analysis of variance over repeats: the explainable share of the variance of the mean responses is
    (MS_between − MS_within) ÷ MS_between, the intraclass correlation ICC(1, k) of Shrout & Fleiss 1979; the ceiling is
    its square root, CC_max of Schoppe et al. 2016 (Sahani & Linden 2003).

    Args:
        recording: See `closedloop.open_recording`.
        kind: Which presentations: "reference", "retest" …; None for the references in their unselected
            presentations, or for all where there are none: re-tests were chosen for their high responses, and so were
            evolved images.

    Returns:
        Over ``neuroid``: `explainable` (at most 1; below 0 by chance where there is no signal) and `ceiling` (0 where
        explainable is not above 0); and `median`, the median ceiling over units. NaN with the reason for a unit without
        repeats or noise.
    """
    chosen = select(recording, kind, natural=True).repeated(2)
    if len(chosen.names) < 3:
        return nothing(recording, ("explainable", "ceiling"), TOO_FEW_REPEATED).assign(median=np.nan)

    def measure(values: FloatArray) -> Mapping[str, NDArray[Any]]:
        found = Moments.of(values, chosen)
        parts = _anova(found)
        reason = _unfit(found, parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            ms_between, ms_within = parts["between"] / parts["df_between"], parts["within"] / parts["df_within"]
            share = np.where(reason == "", (ms_between - ms_within) / ms_between, np.nan)
        return {"explainable": share, "ceiling": np.sqrt(np.maximum(share, 0)), "reason": reason}

    found = per_unit(recording, chosen, measure)
    known = found["ceiling"].values[~np.isnan(found["ceiling"].values)]
    return found.assign(median=float(np.median(known)) if len(known) else np.nan)


@at_door
def selectivity(recording: xr.Dataset, *, kind: Kind = None) -> xr.Dataset:
    """Makes an analysis of variance over images: does a unit distinguish them, and by how much?

    F = MS_between ÷ MS_within; η² = SS_between ÷ SS_total; ω² = (SS_between − df_between · MS_within) ÷
    (SS_total + MS_within), which is not inflated by the number of images (Hays 1963).

    Args:
        recording: See `closedloop.open_recording`.
        kind: Which presentations: "reference", "retest" …; None for the references in their unselected
            presentations, or for all where there are none: re-tests were chosen for their high responses, and so were
            evolved images.

    Returns:
        Over ``neuroid``: `f`, `p`, `eta_squared`, `omega_squared`, `df_between`, `df_within`; NaN with the reason where
        no image was repeated, or repeats are identical.
    """
    names = ("f", "p", "eta_squared", "omega_squared", "df_between", "df_within")
    chosen = select(recording, kind, natural=True).repeated(2)
    if len(chosen.names) < 2:
        return nothing(recording, names, "fewer than two images were presented at least twice")
    return per_unit(recording, chosen, lambda values: _selectivity(Moments.of(values, chosen)))


def _selectivity(found: Moments) -> dict[str, NDArray[Any]]:
    """Returns what `selectivity` says of each unit."""
    from scipy.stats import f as f_distribution

    parts = _anova(found)
    between, within, df_b, df_w = (parts[k] for k in ("between", "within", "df_between", "df_within"))
    reason = _unfit(found, parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        ms_within = within / df_w
        f = between / df_b / ms_within
        total = between + within
        values = {
            "f": f,
            "p": f_distribution.sf(f, df_b, df_w),
            "eta_squared": between / total,
            "omega_squared": (between - df_b * ms_within) / (total + ms_within),
        }
    usable = reason == ""
    return {
        **{name: np.where(usable, value, np.nan) for name, value in values.items()},
        "df_between": df_b,
        "df_within": df_w,
        "reason": reason,
    }


@at_door
def noise_correlation(recording: xr.Dataset, *, kind: Kind = None, repeats: int = 3) -> xr.Dataset:
    """Correlates units by their trial-to-trial variability around the mean response to each image.

    Responses are z-scored within each image before they are pooled (Cohen & Kohn 2011, *Nature Neuroscience*). The
    residuals of all units are held in memory, 4 bytes for each presentation and unit.

    Args:
        recording: See `closedloop.open_recording`.
        kind: Which presentations: "reference", "retest" …; None for the references in their unselected
            presentations, or for all where there are none: re-tests were chosen for their high responses, and so were
            evolved images.
        repeats: Least number of presentations of an image that counts.

    Returns:
        `correlation` over ``neuroid`` and ``neuroid_b``; rows and columns of a unit without noise are NaN, with the
        reason.
    """
    least = check_whole("repeats", repeats, 2)
    asked = select(recording, kind, natural=True)
    chosen = asked.repeated(least)
    units = recording.sizes["neuroid"]
    if len(chosen.names) == 0:
        why = np.full(units, _too_few(asked, least), dtype=object)
        return correlation_table(recording, np.full((units, units), np.nan), why)
    found = [_residuals(in_unit(values)[0], chosen, least) for _, values in pieces(recording, chosen.rows)]
    residuals = np.concatenate([r for r, _ in found], axis=1)
    silent = np.concatenate([s for _, s in found])
    matrix = column_correlation(residuals)
    empty = np.isnan(np.diag(matrix))
    return correlation_table(recording, matrix, choose((silent, NOISELESS), (empty, "too few repeats")))


def _residuals(values: FloatArray, chosen: Selection, least: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns z-scores within each stimulus ``(n, units)``, and which units have no noise ``(units,)``."""
    found = Moments.of(values, chosen)
    sd = np.sqrt(np.where((found.n >= least) & ~found.noiseless & (found.squares > 0), found.variance, np.nan))
    return ((values - found.mean[chosen.index]) / sd[chosen.index]).astype(np.float32), found.noiseless


def column_correlation(values: NDArray[np.floating], at_once: int = 1024) -> FloatArray:
    """Returns Pearson's correlation of all columns of ``(n, units)`` over common rows, ``(units, units)``.

    The diagonal is 1; NaN where there are fewer than three common rows or no variance. Products of ``at_once`` rows are
    summed at a time.
    """
    known, (values, _) = ~np.isnan(values), in_unit(values)
    # Centred on the column's mean: it changes no correlation, and keeps the sums below exact.
    level = np.nansum(values, 0, dtype=float) / np.maximum(known.sum(0), 1)
    n, sum_a, square_a, product = (np.zeros((values.shape[1], values.shape[1])) for _ in range(4))
    for start in range(0, len(values), at_once):
        rows = slice(start, start + at_once)
        # Entry (a, b) of each sum runs over the rows that both have: Σ x_a = xᵀk, Σ x_a² = (x²)ᵀk, Σ x_a x_b = xᵀx.
        x, k = np.where(known[rows], values[rows] - level, 0), known[rows].astype(float)
        n += k.T @ k
        sum_a += x.T @ k
        square_a += (x**2).T @ k
        product += x.T @ x
    with np.errstate(divide="ignore", invalid="ignore"):
        # n cov(a, b) = Σ x_a x_b - Σ x_a Σ x_b / n, and likewise n var(a) over the rows shared with b.
        covariance = product - sum_a * sum_a.T / n
        variance = square_a - sum_a**2 / n
        # A difference of nearly equal sums is rounding: such a variance is none.
        floor = 1e-12 * np.maximum(square_a, 1e-300)
        size = np.sqrt(np.where(variance > floor, variance, np.nan))
        matrix: FloatArray = np.where(n > 2, np.clip(covariance / (size * size.T), -1, 1), np.nan)
    return matrix


def correlation_table(recording: xr.Dataset, matrix: FloatArray, reason: NDArray[Any]) -> xr.Dataset:
    """Returns a matrix between units with their coordinates; those of the second dimension end in ``_b``."""
    coords = {**unit_coords(recording), **unit_coords(recording, "neuroid_b"), "reason": ("neuroid", reason)}
    return xr.Dataset({"correlation": (("neuroid", "neuroid_b"), matrix)}, coords=coords)
