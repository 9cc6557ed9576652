"""What was promised of images, and what fresh presentations of them, beside controls, say."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.students import half_width, in_unit, welch_freedom
from closedloop.analysis.units import Moments, pieces, select
from closedloop.checks import check_within
from closedloop.errors import RecordingError
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door

#: What an image is: made for the unit, or the best natural or evolved one.
SYNTHESIZED, NATURAL, EVOLVED = "synthesized", "natural", "evolved"
#: Its controls: the natural one with the contrast of the image that was made, and noise with its amplitude spectrum.
CONTRAST, SPECTRUM = "contrast-matched", "spectrum-matched"


@at_door
def verification(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Compares predictions with confirmed responses, image by image, and every image with every unit.

    Args:
        recording: What `closedloop.protocols.verify` returned.
        level: Of the intervals.

    Returns:
        Over ``image``, with the coordinates `stimulus_id`, `role`, `target` (the unit that it is for) and `n`
        (presentations): `predicted` (by a twin, no response; NaN without one); `confirmed`, the mean of fresh
        presentations, with Student's interval `confirmed_low` to `confirmed_high`; `gap`, predicted minus confirmed,
        with its interval (the twin-fooling gap of what was synthesized); `beyond_natural`, confirmed less that of the
        target's best natural image, with Welch's interval. `matrix` ``(made_for, unit)``: mean responses of the units
        that were verified to the images that were synthesized for them, and `matrix_sem`. Intervals are NaN where an
        image has fewer than two presentations, and of no width where a subject has no noise.

    Raises:
        RecordingError: It is the recording of another protocol.
    """
    check_within("level", level, 0.95)
    if not {"role", "target", "predicted"} <= set(map(str, recording.coords)):
        raise RecordingError("recording: expected what closedloop.protocols.verify returned, with role and target.")
    chosen = select(recording, None)
    first = chosen.rows[np.searchsorted(chosen.index, np.arange(len(chosen.names)))]
    role, target = (recording[name].values[first].astype(str) for name in ("role", "target"))
    units = recording["neuroid_id"].values.astype(str).tolist()
    names = list(dict.fromkeys(sorted(target.tolist(), key=units.index)))
    columns = [units.index(name) for name in names]
    found = [Moments.of(v, chosen) for _, v in pieces(recording.isel(neuroid=columns), chosen.rows)]
    mean, n, sem = (np.concatenate(parts, 1) for parts in zip(*((m.mean, m.n, m.sem) for m in found), strict=True))
    own = np.array([names.index(name) for name in target])
    at = (np.arange(len(own)), own)
    confirmed, error, count = mean[at], sem[at], n[at]
    predicted = recording["predicted"].values[first].astype(float)
    half = half_width(error, np.maximum(count - 1, 1), level)
    natural = np.array([_row(role, target, name) for name in target])
    beyond, width = welch_differences(confirmed, error, count, natural, level)
    order = np.lexsort((np.array([_ORDER.index(r) if r in _ORDER else len(_ORDER) for r in role]), own))
    made = [_row(role, target, name, SYNTHESIZED) for name in names]
    values = {
        "predicted": predicted,
        "confirmed": confirmed,
        "confirmed_low": confirmed - half,
        "confirmed_high": confirmed + half,
        "gap": predicted - confirmed,
        "gap_low": predicted - confirmed - half,
        "gap_high": predicted - confirmed + half,
        "beyond_natural": beyond,
        "beyond_natural_low": beyond - width,
        "beyond_natural_high": beyond + width,
    }
    return xr.Dataset(
        {
            **{name: ("image", column[order]) for name, column in values.items()},
            "matrix": (("made_for", "unit"), mean[made]),
            "matrix_sem": (("made_for", "unit"), sem[made]),
        },
        {
            "stimulus_id": ("image", chosen.names[order]),
            "role": ("image", role[order].astype(object)),
            "target": ("image", target[order].astype(object)),
            "n": ("image", count[order].astype(int)),
            "made_for": names,
            "unit": names,
            "level": level,
            "reason": "" if np.isfinite(predicted).any() else "predicted, gap: no twin predicted these images",
        },
    )


#: The order of a unit's images in a table; other roles come last.
_ORDER = (SYNTHESIZED, EVOLVED, NATURAL, CONTRAST, SPECTRUM)


def _row(role: NDArray[Any], target: NDArray[Any], name: str, wanted: str = NATURAL) -> int:
    """Returns the row of a unit's image of a role."""
    at = np.flatnonzero((role == wanted) & (target == name))
    if not len(at):
        raise RecordingError(f"recording: no presentation of the {wanted} image of {name}; go on with the run.")
    return int(at[0])


def welch_differences(
    mean: FloatArray, sem: FloatArray, n: FloatArray, other: NDArray[np.int64], level: float
) -> tuple[FloatArray, FloatArray]:
    """Returns differences of means from those of other rows, and half of Welch's interval (Welch 1947)."""
    sem, exponent = in_unit(sem)
    a, b = sem**2, sem[other] ** 2
    freedom = welch_freedom(a, b, n, n[other])
    half: FloatArray = np.ldexp(half_width(np.sqrt(a + b), freedom, level), exponent)
    same = other == np.arange(len(other))
    return mean - mean[other], np.where(same, 0, half)
