"""Tests about learning: do layers learn at the same moments, and which layers hurt, whatever the seed?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from closedloop.analysis.resampling import holm
from closedloop.analysis.students import students_interval, students_p
from closedloop.checks import check_whole, check_within
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.seeds import named_generator
from closedloop.signatures import at_door


@at_door
def learning_peaks(by_layer: xr.DataArray, width: int = 2) -> xr.DataArray:
    """Moments of learning: steps in which a layer helps more than in all steps around.

    What a layer's share is compared with are its neighbours alone, so that the slow course of training is no peak. The
    first and last steps, of which some neighbours are not known, are none.

    Args:
        by_layer: Shares ``(step, layer)``.
        width: Neighbours on each side.

    Returns:
        Whether there is a peak, ``(step, layer)``.
    """
    values = by_layer.transpose("step", "layer").values
    width = check_whole("width", width, 1)
    padded = np.pad(values, ((width, width), (0, 0)), constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1, axis=0)
    others = np.delete(around, width, axis=-1)
    return by_layer.transpose("step", "layer").copy(data=(values < others.min(-1)) & (values < 0))


@at_door
def peak_synchrony(by_layer: xr.DataArray, width: int = 2, resamples: int = 999, seed: int = 0) -> xr.Dataset:
    """Tests whether peaks of learning coincide across layers.

    The statistic is the number of pairs of layers with a peak in the same step, over all steps. Under the null each
    layer has its own clock: its peaks are shifted in time by a random number of steps, around the end, independently of
    the others, which keeps how they follow each other within the layer. Ties are broken at random by the seed, so that
    p is uniform if the layers are independent. With few steps there are few different shifts.

    Args:
        by_layer: Shares ``(step, layer)``.
        width: See `learning_peaks`.
        resamples: Number of random shifts.
        seed: Of shifts and ties.

    Returns:
        ``pairs`` observed, ``expected`` (mean of the shifted), ``ratio``, ``p`` (one-sided), and ``peaks``
        ``(step, layer)``.

    Raises:
        InvalidArgumentError: Fewer than two layers with peaks.
    """
    peaks = learning_peaks(by_layer, width)
    marks = peaks.values.astype(float)
    if (marks.sum(0) > 0).sum() < 2:
        raise InvalidArgumentError("by_layer: expected at least two layers with peaks of learning.")
    rng, resamples = named_generator(seed, "synchrony"), check_whole("resamples", resamples, 99)
    inner = marks[width : len(marks) - width]  # the others are never peaks, and are no place to be shifted to
    observed = _pairs(inner)
    null = np.array([_pairs(_shifted(inner, rng)) for _ in range(resamples)])
    more, equal = int((null > observed).sum()), int((null == observed).sum())
    p = (more + rng.uniform() * (equal + 1)) / (resamples + 1)
    return xr.Dataset(
        {
            "pairs": observed,
            "expected": null.mean(),
            "ratio": observed / null.mean() if null.mean() else np.nan,
            "p": p,
            "peaks": peaks,
        },
        {"resamples": resamples, "seed": seed, "width": width},
    )


def _pairs(marks: FloatArray) -> float:
    """Counts pairs of layers with a peak in the same step, over all steps."""
    together = marks.sum(1)
    return float((together * (together - 1)).sum() / 2)


def _shifted(marks: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Returns peaks with each layer's moved by a random number of steps, around the end."""
    steps, layers = marks.shape
    rows = (np.arange(steps)[:, None] + rng.integers(steps, size=layers)) % steps
    moved: FloatArray = marks[rows, np.arange(layers)]
    return moved


@at_door
def hurting_layers(allocations: Sequence[xr.Dataset], level: float = 0.95) -> xr.Dataset:
    """Returns which layers hurt, net, over runs with different seeds.

    Args:
        allocations: What `allocation_dataset` returned for each run, of one network.
        level: Of the intervals.

    Returns:
        ``mean`` of the layers' sums of shares, ``low`` and ``high`` (Student's interval over runs), ``p`` (one-sided
        t-test that the mean is above 0), ``p_holm`` (corrected for the number of layers) and ``runs``, ``(layer,)``.
        Interval and p are NaN where all runs are alike, as those of a layer that is frozen.

    Raises:
        InvalidArgumentError: Fewer than two runs, or of networks with different layers.
    """
    check_within("level", level, 0.95)
    layers = [tuple(one["layer"].values.tolist()) for one in allocations]
    if len(layers) < 2 or len(set(layers)) > 1:
        raise InvalidArgumentError(
            f"allocations: expected at least two runs of one network, got {len(layers)} with layers {set(layers)}."
        )
    totals = np.stack([one["by_layer"].sum("step").values for one in allocations], 1)
    return layer_means(totals, allocations[0]["layer"].values.tolist(), level)


def layer_means(totals: FloatArray, layers: Sequence[str], level: float) -> xr.Dataset:
    """Returns what layers came to over runs ``(layer, run)``: means, intervals, and the test that they hurt."""
    mean, low, high = students_interval(totals, level)
    p = students_p(totals, alternative="greater")
    return xr.Dataset(
        {
            "mean": ("layer", mean),
            "low": ("layer", low),
            "high": ("layer", high),
            "p": ("layer", p),
            "p_holm": ("layer", holm(p)),
        },
        {"layer": np.array(layers, dtype=object), "level": level, "runs": totals.shape[1]},
    )
