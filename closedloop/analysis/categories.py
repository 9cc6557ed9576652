"""Selectivity for categories of images: d′ of each against the others, and how reliable the responses are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.reasons import choose
from closedloop.analysis.reliability import half_means, random_halves_of, split_half
from closedloop.analysis.units import Moments, pieces, select, unit_coords
from closedloop.checks import check_whole, check_within
from closedloop.errors import RecordingError
from closedloop.interfaces import FloatArray
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: The coordinate of presentations that names an image's category.
CATEGORY = "category"
#: Images of a category below which nothing is said of its spread, and splits behind an interval of the reliability.
_FEWEST, _SPLITS = 3, 20


@at_door
def category_selectivity(
    recording: xr.Dataset,
    *,
    units: UnitSpec | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Measures how well each unit tells each category from all others, with bootstrap intervals over images.

    d′ = (mean in the category − mean of all others) ÷ √((s² in it + s² of the others) ÷ 2), over the mean responses to
    images (Green & Swets 1966; as for face cells in Aparicio et al. 2016, *Journal of Neuroscience*). Noise that is
    left in these means lowers it: show images several times.

    Args:
        recording: Of `closedloop.protocols.selectivity`, or any with the coordinate `category` on presentations.
        units: Columns of the responses; None for all.
        level: Confidence level of the intervals, percentiles of the bootstrap.
        resamples: Number of resamples; images are drawn anew within the category and within the others.
        seed: Of the resamples and splits.

    Returns:
        Over ``category`` and ``neuroid``: `mean`, `sem` (over images), `n` (images), `d_prime` with `d_prime_low` and
        `d_prime_high`, NaN with the reason (coordinate `reason`) below three images. Over ``neuroid``: `best`, the
        category of the highest d′; `reliability`, the split-half reliability of `split_half` over all images, with
        `reliability_low` and `reliability_high` over images, NaN where no image was repeated or repeats are identical.

    Raises:
        RecordingError: Images have no category, or all have the same.
    """
    check_within("level", level, 0.95)
    resamples = check_whole("resamples", resamples, 100)
    chosen = select(recording, None)
    if CATEGORY not in recording.coords or recording[CATEGORY].dims != ("presentation",):
        raise RecordingError(
            "recording: expected a coordinate 'category' on presentations; record it with "
            "closedloop.protocols.selectivity, or with parameters={'category': …} of present."
        )
    columns = parse_columns(units, recording.sizes["neuroid"]) if units is not None else None
    if columns is not None:
        recording = recording.isel(neuroid=columns)
    first = chosen.rows[np.searchsorted(chosen.index, np.arange(len(chosen.names)))]
    label = recording[CATEGORY].values[first].astype(str)
    names = list(dict.fromkeys(sorted(label.tolist())))
    if len(names) < 2:
        raise RecordingError(f"recording: expected images of two categories or more, got {names}.")
    table = np.concatenate([Moments.of(v, chosen).mean for _, v in pieces(recording, chosen.rows)], axis=1)
    found = _distances(table, label, names, level, resamples, seed)
    shape = (len(names), table.shape[1])
    few = np.broadcast_to((found["n"] < _FEWEST) | (found["others"] < _FEWEST), shape)
    flat = ~few & np.isnan(found["d_prime"])
    reason = choose(
        (few, f"fewer than {_FEWEST} images of the category, or of others"),
        (flat, "the response is the same to all images, in the category and out of it"),
    )
    dims = (CATEGORY, "neuroid")
    reliable = _reliability(recording, chosen, level, resamples, seed)
    strength = np.where(np.isnan(found["d_prime"]), -np.inf, found["d_prime"])
    best = np.array([names[i] for i in strength.argmax(0)], dtype=object)
    keys = ("mean", "sem", "n", "d_prime", "d_prime_low", "d_prime_high")
    return xr.Dataset(
        {**{k: (dims, found[k]) for k in keys}, **{k: ("neuroid", v) for k, v in reliable.items()}},
        coords={
            CATEGORY: names,
            **unit_coords(recording),
            "best": ("neuroid", np.where(np.isnan(found["d_prime"]).all(0), "", best)),
            "level": level,
            "seed": seed,
            "reason": (dims, reason),
        },
    )


def d_prime(inside: FloatArray, outside: FloatArray) -> FloatArray:
    """Returns d′ of samples ``(n, units)`` and ``(m, units)``; NaN below two values or without any spread."""
    ones = [np.ones((1, len(v))) for v in (inside, outside)]
    found: FloatArray = _separation(_weighted(ones[0], inside), _weighted(ones[1], outside))[0]
    return found


def _weighted(weights: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns means and unbiased variances ``(resamples, units)``, each value counted as often as it was drawn."""
    known = ~np.isnan(values)
    level = np.nanmean(np.where(known.any(0), values, 0), 0)
    away = np.where(known, values - level, 0)
    n = weights @ known
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weights @ away) / n
        variance = ((weights @ away**2) / n - mean**2) * n / (n - 1)
    return mean + level, np.maximum(variance, 0)


def _separation(inside: tuple[FloatArray, FloatArray], outside: tuple[FloatArray, FloatArray]) -> FloatArray:
    (mean, variance), (other, spread) = inside, outside
    pooled = np.sqrt((variance + spread) / 2)
    size = np.maximum(np.abs(mean), np.abs(other))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.where(pooled > 1e-10 * size, (mean - other) / pooled, np.nan)
    return found


def _distances(
    table: FloatArray, label: NDArray[Any], names: Sequence[str], level: float, resamples: int, seed: int
) -> dict[str, FloatArray]:
    """Returns numbers ``(categories, units)`` by name."""
    rng, rows = named_generator(seed, "categories"), []
    ends = [50 * (1 - level), 50 * (1 + level)]
    for name in names:
        own = label == name
        inside, outside = table[own], table[~own]
        draws = [_drawn(len(v), resamples, rng) for v in (inside, outside)]
        enough = min(len(inside), len(outside)) >= _FEWEST
        n = (~np.isnan(inside)).sum(0)
        mean, variance = _weighted(np.ones((1, len(inside))), inside)
        again = _separation(_weighted(draws[0], inside), _weighted(draws[1], outside))
        with np.errstate(divide="ignore", invalid="ignore"):
            sem = np.sqrt(variance[0] / n)
        low, high = _percentiles(again, ends)
        point = d_prime(inside, outside)
        blank = np.full(table.shape[1], np.nan)
        rows.append(
            {
                "mean": mean[0],
                "sem": np.where(n > 1, sem, np.nan),
                "n": n.astype(float),
                "others": (~np.isnan(outside)).sum(0).astype(float),
                "d_prime": point if enough else blank,
                "d_prime_low": low if enough else blank,
                "d_prime_high": high if enough else blank,
            }
        )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _drawn(n: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Returns how often each of n values is in each resample, ``(resamples, n)``."""
    return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(float)


def _percentiles(values: FloatArray, ends: Sequence[float]) -> FloatArray:
    """Returns percentiles over the first axis, without NaN; NaN where nothing is known."""
    known = ~np.isnan(values).all(0)
    found = np.full((len(ends), values.shape[1]), np.nan)
    if known.any():
        found[:, known] = np.nanpercentile(values[:, known], ends, axis=0)
    return found


def _reliability(recording: xr.Dataset, chosen: Any, level: float, resamples: int, seed: int) -> dict[str, FloatArray]:
    """Returns split-half reliability over all images, and its interval over images, each ``(units,)``."""
    whole = split_half(recording, kind=None, seed=seed)
    point, r = whole["reliability"].values, whole["r"].values
    repeated = chosen.repeated(2)
    blank = np.full(len(point), np.nan)
    if np.isnan(point).all():
        return {"reliability": point, "reliability_low": blank, "reliability_high": blank.copy()}
    with np.errstate(divide="ignore", invalid="ignore"):
        longer = point * (1 - r) / (r * (1 - point))  # the f of Spearman & Brown that `split_half` took
    rng = named_generator(seed, "categories, reliability")
    n = len(repeated.names)
    draws = _drawn(n, resamples, rng)
    total = np.zeros((resamples, len(point)))
    for _ in range(_SPLITS):
        halves = random_halves_of(repeated, rng)
        parts = [half_means(recording, repeated, half) for half in halves]
        total += _correlations(draws, *parts) / _SPLITS
    with np.errstate(divide="ignore", invalid="ignore"):
        below = 1 + (longer - 1) * total
        again = np.where(below > 0, longer * total / below, np.nan)
    low, high = _percentiles(again, [50 * (1 - level), 50 * (1 + level)])
    return {
        "reliability": point,
        "reliability_low": np.where(np.isnan(point), np.nan, low),
        "reliability_high": np.where(np.isnan(point), np.nan, high),
    }


def _correlations(weights: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """Returns correlations ``(resamples, units)`` of columns ``(n, units)``, each row counted as often as drawn."""
    known = ~(np.isnan(a) | np.isnan(b))
    level = [np.where(known, v, 0).sum(0) / np.maximum(known.sum(0), 1) for v in (a, b)]
    x, y = (np.where(known, v - m, 0) for v, m in zip((a, b), level, strict=True))
    n = weights @ known
    with np.errstate(divide="ignore", invalid="ignore"):
        mx, my = (weights @ v / n for v in (x, y))
        covariance = weights @ (x * y) / n - mx * my
        size = np.sqrt(np.maximum((weights @ x**2 / n - mx**2) * (weights @ y**2 / n - my**2), 0))
        found: FloatArray = np.where(size > 0, covariance / size, np.nan)
    return found
