"""What a search along a front found: images of which none is better in both of two values, in fresh presentations."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.checks import check_within
from closedloop.errors import RecordingError
from closedloop.interfaces import FloatArray
from closedloop.optimizers.pareto import fronts
from closedloop.signatures import at_door

#: Protocols whose runs are searches along fronts.
PARETO, STRETCH_AND_SQUEEZE = "pareto", "stretch_and_squeeze"
#: The threads of the second: images far from a reference at a held response, and near with the response gone.
STRETCH, SQUEEZE = "stretch", "squeeze"
#: Coordinates of presentations: the two values, and what the values are.
FIRST, SECOND, FIRST_NAME, SECOND_NAME = "first", "second", "first_name", "second_name"
#: What `kind` says of images of the search, and of those shown again.
SEARCHED, RETEST = "searched", "retest"


@at_door
def pareto_front(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Returns the images of each front that were shown again, with the values that fresh presentations give them.

    Args:
        recording: What `closedloop.protocols.pareto` or `stretch_and_squeeze` returned.
        level: Of the intervals.

    Returns:
        Over ``image``, by thread and then by the first value: `first` and `second`, means over fresh presentations,
        with Student's intervals ``first_low`` … ``second_high`` (NaN for fewer than two, of no width without noise);
        `first_found` and `second_found` when it was found, which chance has chosen; `score`, the mean of the objective,
        or of the first one, with its interval; `front`, whether no other image of its thread is better in both;
        coordinates `stimulus_id`, `thread` ("reference" for what was shown before the search, and again beside the
        front), `n`, and what the values are called. `reason` says what is missing.

    Raises:
        RecordingError: It is the recording of another protocol, or nothing was shown again yet.
    """
    check_within("level", level, 0.95)
    if not isinstance(recording, xr.Dataset) or not {FIRST, SECOND, FIRST_NAME, "score"} <= set(recording.variables):
        raise RecordingError("recording: expected what closedloop.protocols.pareto or stretch_and_squeeze returned.")
    again = recording["kind"].values.astype(str) == RETEST
    if not again.any():
        raise RecordingError("recording: no image of a front was shown again yet; go on with the run.")
    ids = recording["stimulus_id"].values.astype(str)
    names, first, index = np.unique(ids[again], return_index=True, return_inverse=True)
    columns: dict[str, FloatArray] = {}
    n = np.zeros(len(names), int)
    for name in (FIRST, SECOND, "score"):
        values = recording[name].values.astype(float)
        mean, half, n = _moments(values[again], index, len(names), level)
        columns |= {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
        if name != "score":
            found = [values[(ids == one) & ~again] for one in names]
            columns[f"{name}_found"] = np.array([np.nanmean(f) if np.isfinite(f).any() else np.nan for f in found])
    thread = recording["thread"].values.astype(str)[again][first]
    front, pairs = np.zeros(len(names), bool), np.stack([columns[FIRST], columns[SECOND]], 1)
    for one in np.unique(thread):
        at = np.flatnonzero((thread == one) & np.isfinite(pairs).all(1))
        front[at] = fronts(pairs[at]) == 0
    order = np.lexsort((-np.nan_to_num(columns[FIRST], nan=-np.inf), thread))
    lost = np.isnan(columns["score"]).any()
    return xr.Dataset(
        {**{name: ("image", column[order]) for name, column in columns.items()}, "front": ("image", front[order])},
        {
            "stimulus_id": ("image", names[order].astype(object)),
            "thread": ("image", thread[order].astype(object)),
            "n": ("image", n[order]),
            FIRST_NAME: str(recording[FIRST_NAME].item()),
            SECOND_NAME: str(recording[SECOND_NAME].item()),
            "level": level,
            "reason": "all presentations of an image were lost" if lost else "",
        },
    )


def _moments(
    values: FloatArray, index: NDArray[np.int64], images: int, level: float
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Returns the mean of each image, half of Student's interval, and the number of presentations not lost."""
    known = ~np.isnan(values)
    n = np.bincount(index, known, images).astype(int)
    some = np.where(n > 0, n, np.nan)
    mean = np.bincount(index, np.where(known, values, 0), images) / some
    squares = np.bincount(index, np.where(known, values - mean[index], 0) ** 2, images)
    freedom = np.where(n > 1, n - 1, np.nan)
    half: FloatArray = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(squares / freedom / some)
    return mean, half, n
