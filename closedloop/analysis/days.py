"""What became of the presentations of a recording at a rig, day by day, and whether the units stayed the same.

At a rig all references are shown again on each day on which a run goes on: the link between the days. What a rig said
of each unit after each block stands in the recording as `unit_snr` and others over `block`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.reasons import choose
from closedloop.analysis.runs import check_recording
from closedloop.analysis.units import correlations, pieces, select, unit_coords
from closedloop.errors import RecordingError
from closedloop.interfaces import FloatArray
from closedloop.presentations import STATUSES
from closedloop.signatures import at_door

#: The dimension over days.
DAY = "day"


def at_a_rig(recording: xr.Dataset) -> bool:
    """Tells whether a recording was made at a rig, which said what became of each presentation."""
    return {"status", "day", "attempt", "block_number"} <= {str(name) for name in recording.coords}


@at_door
def sittings(recording: xr.Dataset) -> xr.Dataset:
    """Counts what became of the presentations on each day.

    Args:
        recording: See `closedloop.open_recording`; made at a rig.

    Returns:
        Over ``day``: `presentations`, `lost` (the share that gave no response), `again` (those that a rig showed a
        second time because it had died) and `blocks`; over ``day`` and ``status``: `count`.

    Raises:
        RecordingError: It was not made at a rig.
    """
    days, place = _days(recording)
    status = recording["status"].values.astype(str)
    count = np.array([[np.sum((place == d) & (status == s)) for s in STATUSES] for d in range(len(days))])
    n = count.sum(axis=1)
    attempt, block = recording["attempt"].values, recording["block_number"].values
    own = [place == d for d in range(len(days))]
    return xr.Dataset(
        {
            "presentations": (DAY, n),
            "lost": (DAY, 1 - count[:, STATUSES.index("ok")] / np.maximum(n, 1)),
            "again": (DAY, [int((attempt[rows] > 1).sum()) for rows in own]),
            "blocks": (DAY, [len(np.unique(block[rows])) for rows in own]),
            "count": ((DAY, "status"), count),
        },
        coords={DAY: days, "status": list(STATUSES), "reason": (DAY, np.full(len(days), "", object))},
    )


@at_door
def reference_days(recording: xr.Dataset) -> xr.Dataset:
    """Compares the responses of each unit to the references on each day with those on the first day.

    A ratio far from 1 says that the unit, or what the electrode picks up of it, grew or faded over night; a low
    correlation over images that it may be another unit. Noise lowers a correlation: on a day on which images were shown
    once each, that of the same Poisson unit is about its reliability.

    Args:
        recording: See `closedloop.open_recording`; made at a rig, with references.

    Returns:
        Over ``day`` and ``neuroid``: `ratio`, the sum of the mean responses to the references that were shown on both
        days ÷ that on the first; `ratio_sem`, its standard error over images (delta method); `correlation`, over
        images; and `n`, the number of images. NaN with the `reason` where there are fewer than three of them.

    Raises:
        RecordingError: It was not made at a rig, or has no references.
    """
    days, place = _days(recording)
    chosen = select(recording, "reference")
    shown = place[chosen.rows], chosen.index
    found = [_compared(values, *shown, len(days), len(chosen.names)) for _, values in pieces(recording, chosen.rows)]
    columns = [np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]
    ratio, sem, correlation, n = columns
    reason = choose((n < 3, "fewer than three references were shown on both days"), (np.isnan(ratio), "no response"))
    dims = (DAY, "neuroid")
    return xr.Dataset(
        {"ratio": (dims, ratio), "ratio_sem": (dims, sem), "correlation": (dims, correlation), "n": (dims, n)},
        coords={DAY: days, **unit_coords(recording), "reason": (dims, reason)},
    )


def _compared(
    values: FloatArray, place: NDArray[np.intp], image: NDArray[np.intp], days: int, images: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Returns ratio, its standard error, correlation and number of images of some units, each ``(days, units)``."""
    table = np.full((days, images, values.shape[1]), np.nan)
    for day in range(days):
        own = place == day
        valid = ~np.isnan(values[own])
        total, number = np.zeros(table.shape[1:]), np.zeros(table.shape[1:])
        np.add.at(total, image[own], np.where(valid, values[own], 0))
        np.add.at(number, image[own], valid)
        table[day] = total / np.where(number > 0, number, np.nan)
    found = []
    for now in table:
        both = ~np.isnan(now) & ~np.isnan(table[0])
        x, y = np.where(both, table[0], 0), np.where(both, now, 0)
        n = both.sum(axis=0)
        enough = (n > 2) & (x.sum(axis=0) > 0)
        sum_x = np.where(enough, x.sum(axis=0), np.nan)
        ratio = y.sum(axis=0) / sum_x
        # Of a ratio of sums over n images: √(Σ (y - R x)² n/(n-1)) / Σ x.
        rest = ((y - ratio * x) ** 2).sum(axis=0) * n / np.maximum(n - 1, 1)
        found.append((ratio, np.sqrt(rest) / sum_x, correlations(table[0], now), n.astype(float)))
    ratio, sem, correlation, number = (np.stack(column) for column in zip(*found, strict=True))
    return ratio, sem, correlation, number


def _days(recording: xr.Dataset) -> tuple[NDArray[np.object_], NDArray[np.intp]]:
    """Returns the days in their order, and the number of the day of each presentation."""
    check_recording(recording, "kind", "thread")
    if not at_a_rig(recording):
        raise RecordingError(
            "recording: expected one that was made at a rig, which says day and status of each presentation; this one "
            "is of another subject."
        )
    days, place = np.unique(recording["day"].values.astype(str), return_inverse=True)
    return days.astype(object), place
