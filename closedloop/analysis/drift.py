"""Whether the recording itself changed while an evolution went on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.analysis.reasons import NOISELESS, choose
from closedloop.analysis.reliability import nothing
from closedloop.analysis.runs import check_recording
from closedloop.analysis.units import Moments, Selection, per_unit, select
from closedloop.interfaces import FloatArray
from closedloop.recording.evolutions import RUN
from closedloop.recording.lean import is_lean
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: Generations below which it cannot be told whether a recording wanders.
LEAST = 6
#: Slopes of white noise that those of units are ranked among.
DRAWS = 3999


@at_door
def reference_drift(recording: xr.Dataset) -> xr.Dataset:
    """Measures how responses to the same reference images change over generations.

    A line over generations with an intercept for each image, so that it does not matter which images a generation
    happened to show. Re-tests are left out: the images in them were chosen for their high responses, and would fall
    back towards the mean without any drift.

    A recording that wanders about one level drifts nowhere, but its neighbouring generations are alike, and a t-test
    that takes them for independent finds a slope in a third of such runs. `p` allows for it: the variance of the slope
    is that of Kiefer, Vogelsang & Bunzel (2000), from partial sums of what each generation adds to the slope,
    V = 2/G Σ_g S_g², and slope / √V is ranked among those of white noise in as many generations.

    Args:
        recording: See `closedloop.open_recording`; with references shown between the generations.

    Returns:
        Over ``neuroid``: `slope` (response per generation), `slope_sem` and `p_independent` (of a t-test that
        takes presentations for independent), `p` (of a recording that may wander), `correlation` (partial, with the
        generation number), `change` (slope × span of generations ÷ mean response, so −0.1 is a loss
        of a tenth over the run) and `cv` (standard deviation of the generations' mean deviations ÷ mean response). NaN
        with the reason where no reference was shown in two generations, or (`p`, `slope_sem`, `correlation`) where the
        unit is noiseless.
    """
    check_recording(recording, "responses", "generation")
    kinds = set(recording["kind"].values.tolist())
    if "reference" not in kinds:
        if not is_lean(recording):
            select(recording, None)  # says if it is no recording at all
        names = ("slope", "slope_sem", "p", "p_independent", "correlation", "change", "cv")
        return nothing(recording, names, "no reference images")
    chosen = _within_runs(recording, select(recording, "reference"))
    generation = recording["generation"].values[chosen.rows].astype(float)
    return per_unit(recording, chosen, lambda values: _drift(values, generation, chosen), ("slope", "slope_sem"))


def _within_runs(recording: xr.Dataset, chosen: Selection) -> Selection:
    """Counts images of one name in several runs as several, for each run has its own clock."""
    if RUN not in recording.coords:
        return chosen
    pairs = np.char.add(recording[RUN].values[chosen.rows].astype(str), "/")
    names, index = np.unique(np.char.add(pairs, chosen.names[chosen.index].astype(str)), return_inverse=True)
    order = np.argsort(index, kind="stable")
    return Selection(chosen.rows[order], index[order], names)


def _drift(values: FloatArray, generation: FloatArray, chosen: Selection) -> Mapping[str, NDArray[Any]]:
    """Fits the line y = a_image + slope · generation of each unit by least squares; see `reference_drift`."""
    known = ~np.isnan(values)
    found = Moments.of(values, chosen)
    # Both sides less their mean over the presentations of an image: the intercepts drop out.
    when = np.where(known, generation[:, None], np.nan)
    x = np.where(known, when - Moments.of(when, chosen).mean[chosen.index], 0)
    y = np.where(known, values - found.mean[chosen.index], 0)
    n, images = known.sum(0), (found.n > 0).sum(0)
    df = n - images - 1  # an intercept for each image, and the slope
    xx, xy, yy = (x**2).sum(0), (x * y).sum(0), (y**2).sum(0)
    mean = np.where(known, values, 0).sum(0) / np.maximum(n, 1)
    span = np.nanmax(when, 0, initial=-np.inf) - np.nanmin(when, 0, initial=np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = xy / xx
        # s² = Σ (y - slope x)² / df, and the slope's variance s² / Σ x².
        sem = np.sqrt(np.maximum(yy - slope * xy, 0) / df / xx)
        p_independent = 2 * stats.t.sf(np.abs(slope / sem), df)
        residual = x * np.where(known, y - slope * x, 0)  # what each presentation adds to the slope; sums to 0
        correlation = xy / np.sqrt(xx * yy)
        change = np.where(mean > 0, slope * span / mean, np.nan)
    deviations = [
        np.where(known[generation == g].any(0), _mean(y, known, generation == g), np.nan) for g in np.unique(generation)
    ]
    cv = np.where(mean > 0, _sd(np.stack(deviations)) / np.where(mean > 0, mean, 1), np.nan)
    numbers, place = np.unique(generation, return_inverse=True)
    added = np.zeros((len(numbers), values.shape[1]))
    np.add.at(added, place, residual)
    p = _wander_p(xy, added, numbers)
    still = found.noiseless
    apart = xx <= 0
    return {
        "slope": np.where(apart, np.nan, np.where(still, 0, slope)),
        "slope_sem": np.where(apart | still | (df < 1), np.nan, sem),
        "p": np.where(apart | still | (df < 1) | (len(numbers) < LEAST), np.nan, p),
        "p_independent": np.where(apart | still | (df < 1), np.nan, p_independent),
        "correlation": np.where(apart | still | (df < 1), np.nan, correlation),
        "change": np.where(apart, np.nan, np.where(still & (mean > 0), 0, change)),
        "cv": np.where(apart, np.nan, cv),
        "reason": choose(
            (apart, "no reference image was shown in two generations"),
            (still, f"slope_sem, p, p_independent, correlation: {NOISELESS}"),
            (df < 1, "slope_sem, p, p_independent, correlation: too few presentations"),
            (np.full(len(df), len(numbers) < LEAST), f"p: references were shown in fewer than {LEAST} generations"),
            (mean <= 0, "change, cv: the mean response is not above 0"),
        ),
    }


def _wander_p(xy: FloatArray, added: FloatArray, numbers: FloatArray) -> FloatArray:
    """Returns the p-value ``(units,)`` of slopes xy / Σ x² whose generations may be alike.

    Args:
        xy: Σ x y of each unit ``(units,)``.
        added: Σ x (y − slope x) of each generation ``(generations, units)``.
        numbers: Of the generations ``(generations,)``.
    """
    x = numbers - numbers.mean()
    if len(numbers) < LEAST:
        return np.full(len(xy), np.nan)
    noise = named_generator(0, "slopes of white noise").standard_normal((DRAWS, len(x)))
    noise -= noise.mean(1, keepdims=True)
    of_noise = noise @ x
    null = np.sort(_self_normalized(of_noise, (noise - of_noise[:, None] / (x @ x) * x).T * x[:, None]))
    reached = DRAWS - np.searchsorted(null, _self_normalized(xy, added))
    p: FloatArray = (1 + reached) / (1 + DRAWS)
    return p


def _self_normalized(xy: FloatArray, added: FloatArray) -> FloatArray:
    """Returns |Σ x y| / √V with V = 2/G Σ_g S_g² ``(n,)``; S_g are the partial sums of ``added`` ``(G, n)``."""
    v = 2 / len(added) * (np.cumsum(added, 0) ** 2).sum(0)
    ratio: FloatArray = np.abs(xy) / np.sqrt(np.maximum(v, 1e-300))
    return ratio


def _mean(y: FloatArray, known: NDArray[np.bool_], rows: NDArray[np.bool_]) -> FloatArray:
    """Returns the mean ``(units,)`` over some rows; values that are not known are 0 in ``y``."""
    mean: FloatArray = y[rows].sum(0) / np.maximum(known[rows].sum(0), 1)
    return mean


def _sd(table: FloatArray) -> FloatArray:
    """Returns the standard deviation of each column without its NaN; NaN below two values."""
    known = ~np.isnan(table)
    n = known.sum(0)
    center = np.where(known, table, 0).sum(0) / np.maximum(n, 1)
    squares = np.where(known, (table - center) ** 2, 0).sum(0)
    sd: FloatArray = np.sqrt(squares / np.where(n > 1, n - 1, np.nan))
    return sd
