"""Invariance: how far an image can be moved, resized and turned before the response falls to half."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.units import Moments, pieces, stimuli, unit_coords
from closedloop.checks import check_whole, check_within
from closedloop.interfaces import FloatArray
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: The kind of presentations.
INVARIANCE = "invariance"
#: Their coordinates: what is changed, and by how much.
FACTOR, AMOUNT = "factor", "amount"
#: Names of the image as it is, and of the grey one.
BASE, BLANK = "base", "blank"


@at_door
def tolerance_curves(recording: xr.Dataset, *, units: UnitSpec | None = None) -> dict[str, xr.Dataset]:
    """Returns mean responses along each factor: x, y (as lengths), size (octaves) and rotation (degrees).

    Args:
        recording: Of `closedloop.protocols.invariance`.
        units: Columns of the responses; None for all.

    Returns:
        By factor, over ``amount`` and ``neuroid``: `mean`, `sem` (NaN below two presentations), `n`; `blank`, the mean
        response to the grey image. The amount 0 is the image as it is.

    Raises:
        RecordingError: It is no recording of an invariance.
    """
    what = "an image at several places, sizes and rotations"
    chosen, noted = stimuli(recording, INVARIANCE, (FACTOR, AMOUNT), what, "invariance")
    factor, amount = noted[0].astype(str), noted[1].astype(float)
    if units is not None:
        recording = recording.isel(neuroid=parse_columns(units, recording.sizes["neuroid"]))
    moments = [Moments.of(v, chosen) for _, v in pieces(recording, chosen.rows)]
    columns = {n: np.concatenate([getattr(m, n) for m in moments], axis=1) for n in ("mean", "sem", "n")}
    blank = columns["mean"][factor == BLANK].mean(0) if (factor == BLANK).any() else np.zeros(columns["mean"].shape[1])
    found = {}
    for name in ("x", "y", "size", "rotation"):
        own = np.flatnonzero((factor == name) | (factor == BASE))
        if len(own) < 2:
            continue
        own = own[np.argsort(amount[own], kind="stable")]
        variables: dict[str, Any] = {key: ((AMOUNT, "neuroid"), values[own]) for key, values in columns.items()}
        found[name] = xr.Dataset(
            {**variables, "blank": ("neuroid", blank)}, coords={AMOUNT: amount[own], **unit_coords(recording)}
        )
    return found


@at_door
def tolerance(
    recording: xr.Dataset,
    *,
    units: UnitSpec | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Measures how far an image can be changed before the response above grey falls to half of that to the image.

    The first crossing on each side is found by linear interpolation; the tolerance is the distance between both. Sizes
    are in octaves. The interval is that of a parametric bootstrap: means are drawn from normal distributions of their
    standard errors.

    Args:
        recording: Of `closedloop.protocols.invariance`.
        units: Columns of the responses; None for all.
        level: Confidence level of the interval.
        resamples: Number of resamples.
        seed: Of the resamples.

    Returns:
        Over ``factor`` and ``neuroid``: `tolerance` with `tolerance_low` and `tolerance_high` (NaN where images were
        shown once, or do not differ), `below` and `above`, the amounts of the two crossings, and `least`, the lowest
        response as a share of that to the image itself, both above grey. NaN with the reason where the response does
        not fall to half on a side; then the tolerance is larger than what was shown.

    Raises:
        RecordingError: It is no recording of an invariance.
    """
    check_within("level", level, 0.95)
    resamples = check_whole("resamples", resamples, 100)
    shown = tolerance_curves(recording, units=units)
    rng, rows, reasons = named_generator(seed, "tolerance"), [], []
    for curve in shown.values():
        amount, mean, sem = curve[AMOUNT].values, curve["mean"].values, curve["sem"].values
        blank = curve["blank"].values
        below, above, least = crossings(amount, mean - blank)
        noise = np.nan_to_num(sem) * rng.standard_normal((resamples, *mean.shape))
        drawn = [crossings(amount, one - blank)[:2] for one in mean + noise] if noise.any() else []
        low, high = np.full((2, mean.shape[1]), np.nan)
        if drawn:
            widths = np.array([b - a for a, b in drawn])
            some = (~np.isnan(widths)).mean(0) > 0.5
            ends = [50 * (1 - level), 50 * (1 + level)]
            if some.any():
                low[some], high[some] = np.nanpercentile(widths[:, some], ends, axis=0)
        rows.append(
            {
                "tolerance": above - below,
                "tolerance_low": low,
                "tolerance_high": high,
                "below": below,
                "above": above,
                "least": least,
            }
        )
        reasons.append(_reason(amount, mean - blank, below, above))
    dims = (FACTOR, "neuroid")
    first = next(iter(shown.values()))
    return xr.Dataset(
        {name: (dims, np.stack([row[name] for row in rows])) for name in rows[0]},
        coords={
            FACTOR: list(shown),
            **unit_coords(first),
            "level": level,
            "seed": seed,
            "reason": (dims, np.stack(reasons)),
        },
    )


def crossings(amount: FloatArray, response: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns where responses ``(n, units)`` first fall to half of that at amount 0, below and above it.

    Returns:
        The two amounts, and the lowest response as a share of that at 0, each ``(units,)``; NaN where there is none.
    """
    middle = int(np.argmin(np.abs(amount)))
    peak = response[middle]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(peak > 0, response / peak, np.nan)
    below, above = np.full(len(peak), np.nan), np.full(len(peak), np.nan)
    for unit in range(len(peak)):
        below[unit] = _first(amount[middle::-1], share[middle::-1, unit])
        above[unit] = _first(amount[middle:], share[middle:, unit])
    known = ~np.isnan(share).all(0)
    least = np.full(len(peak), np.nan)
    if known.any():
        least[known] = np.nanmin(share[:, known], 0)
    return below, above, least


def _first(amount: FloatArray, share: FloatArray) -> float:
    """Returns where a curve first falls to one half; NaN where it does not."""
    known = ~np.isnan(share)
    amount, share = amount[known], share[known]
    under = np.flatnonzero(share <= 0.5)
    if len(share) == 0 or len(under) == 0 or under[0] == 0:
        return float("nan")
    i = under[0]
    part = (share[i - 1] - 0.5) / (share[i - 1] - share[i])
    return float(amount[i - 1] + part * (amount[i] - amount[i - 1]))


def _reason(amount: FloatArray, response: FloatArray, below: FloatArray, above: FloatArray) -> NDArray[Any]:
    """Says of each unit why a tolerance is missing; "" where none is."""
    texts = np.full(len(below), "", dtype=object)
    peak = response[int(np.argmin(np.abs(amount)))]
    for unit in range(len(below)):
        if not peak[unit] > 0:
            texts[unit] = "the response to the image is not above that to grey"
        elif np.isnan(below[unit]) or np.isnan(above[unit]):
            sides = [f"up to {end:.3g}" for end, at in ((amount[0], below), (amount[-1], above)) if np.isnan(at[unit])]
            texts[unit] = f"the response does not fall to half {' and '.join(sides)}"
    return texts
