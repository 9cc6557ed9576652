"""Of several images that were made for one unit: how many drive it nearly as much as the best?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from closedloop.analysis.students import half_width
from closedloop.analysis.verifications import SYNTHESIZED, verification
from closedloop.checks import check_within
from closedloop.recording.pictures import Pictures
from closedloop.signatures import at_door

#: Share of the response to the best image that counts as nearly as much, where a sentence must name one.
ENOUGH = 0.85


@at_door
def diversity(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Compares confirmed responses to several images that were made for a unit with that to the first of them.

    Args:
        recording: What `closedloop.protocols.verify` returned; of each unit the first image is the best by the model.
        level: Of the intervals.

    Returns:
        Over ``image``, those that were made, with the coordinates `stimulus_id` and `target`: `share`, the confirmed
        response over that of the unit's first image, with an interval `share_low` to `share_high` (of the ratio of two
        means to first order, Student's t with the fewer degrees of freedom; both 1 for the first image itself);
        `promised`, the same of what was predicted (NaN without a model); and `alike`, the mean correlation of its
        pixels with those of the unit's other images (NaN for a single one). Shares are NaN where the first image does
        not drive the unit above 0.

    Raises:
        RecordingError: It is the recording of another protocol.
    """
    check_within("level", level, 0.95)
    found = verification(recording, level)
    found = found.isel(image=np.flatnonzero(found["role"].values == SYNTHESIZED))
    target, mean, n = found["target"].values.astype(str), found["confirmed"].values, found["n"].values.astype(float)
    half = (found["confirmed_high"].values - found["confirmed_low"].values) / 2
    # Student's half widths back to standard errors.
    sem = half / half_width(np.ones(len(n)), np.maximum(n - 1, 1), level)
    first = np.array([int(np.flatnonzero(target == name)[0]) for name in target], int)
    base = np.where(mean[first] > 0, mean[first], np.nan)
    share = mean / base
    # var(a / b) = (var a + (a / b)² var b) / b².
    error = np.sqrt(sem**2 + share**2 * sem[first] ** 2) / base
    width = half_width(error, np.maximum(np.minimum(n, n[first]) - 1, 1), level)
    width = np.where(first == np.arange(len(first)), 0, width)
    predicted = found["predicted"].values
    promised = predicted / np.where(predicted[first] > 0, predicted[first], np.nan)
    values = {"share": share, "share_low": share - width, "share_high": share + width, "promised": promised}
    return xr.Dataset(
        {
            **{name: ("image", column) for name, column in values.items()},
            "alike": ("image", _alike(recording, found["stimulus_id"].values.astype(str).tolist(), target)),
        },
        {
            "stimulus_id": ("image", found["stimulus_id"].values),
            "target": ("image", found["target"].values),
            "n": ("image", found["n"].values),
            "level": level,
        },
    )


def _alike(recording: xr.Dataset, ids: list[str], target: np.ndarray) -> np.ndarray:
    """Returns the mean correlation of each image's pixels with those of the same target's others, ``(images,)``."""
    pictures, alike = Pictures(recording), np.full(len(ids), np.nan)
    for name in np.unique(target):
        at = np.flatnonzero(target == name)
        shown = [pictures.reference(ids[i]) for i in at]
        if len(at) < 2 or any(picture is None for picture in shown):
            continue
        flat = np.stack([np.asarray(picture, float).ravel() for picture in shown])
        flat -= flat.mean(1, keepdims=True)
        size = np.linalg.norm(flat, axis=1)
        both = flat @ flat.T / np.maximum(np.outer(size, size), 1e-300)
        alike[at] = (both.sum(1) - np.diag(both)) / (len(at) - 1)
    return alike
