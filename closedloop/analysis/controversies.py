"""Which of two models was right about images of which they predict different things."""

from __future__ import annotations

import numpy as np
import xarray as xr

from closedloop.analysis.students import half_width, spread
from closedloop.checks import check_within
from closedloop.errors import RecordingError
from closedloop.signatures import at_door

#: Its name in the files of runs.
CONTROVERSIAL = "controversial"
#: Coordinates of presentations: what each model predicts, in standard deviations over natural images.
PREDICTED = ("predicted_0", "predicted_1")
#: What `kind` says of images that were made, of the natural ones that split the models most, and of other natural ones.
SYNTHESIZED, CONTROL, NATURAL = "synthesized", "control", "reference"


@at_door
def controversy(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Compares what two models predict of images with what the subject answers to them.

    Predictions and responses are in standard deviations over natural images from their mean: those of the models over
    all references, those of the subject over the natural images that it was shown; that these are a sample is not in
    the intervals.

    Args:
        recording: What `closedloop.protocols.controversial` returned.
        level: Of the intervals.

    Returns:
        Over ``image``, those that were made and the natural controls: `predicted_0` and `predicted_1`; `confirmed`, the
        mean of fresh presentations, with Student's interval `confirmed_low` to `confirmed_high`; `share`, how far the
        subject lies from what the wrong model predicts towards what the other one does, (confirmed - of the model that
        says less) ÷ (difference of both), 1 where the model that promises more is right and 0 where the other is, with
        its interval; coordinates `stimulus_id`, `thread`, `kind`, `promised_by` (0 or 1), `n` and `reason`.

    Raises:
        RecordingError: It is the recording of another protocol.
    """
    check_within("level", level, 0.95)
    if not isinstance(recording, xr.Dataset) or not {*PREDICTED, "score", "kind"} <= set(recording.variables):
        raise RecordingError("recording: expected what closedloop.protocols.controversial returned.")
    kind, score = recording["kind"].values.astype(str), recording["score"].values.astype(float)
    ids, thread = (recording[name].values.astype(str) for name in ("stimulus_id", "thread"))
    natural = score[(kind == NATURAL) & ~np.isnan(score)]
    deviation = float(spread(natural))
    middle = float(natural.mean()) if len(natural) else np.nan
    deviation = deviation if deviation > 0 else np.nan
    names = [n for n in dict.fromkeys(ids.tolist()) if kind[ids == n][0] in (SYNTHESIZED, CONTROL)]
    rows = []
    for name in names:
        own = np.flatnonzero(ids == name)
        z = (score[own] - middle) / deviation
        z = z[~np.isnan(z)]
        mean = float(z.mean()) if len(z) else np.nan
        half = half_width(float(spread(z)) / max(len(z), 1) ** 0.5, max(len(z) - 1, 1), level)
        both = [float(recording[p].values[own[0]]) for p in PREDICTED]
        high, low = max(both), min(both)
        ends = [(value - low) / (high - low) if high > low else np.nan for value in (mean, mean - half, mean + half)]
        rows.append([*both, mean, mean - half, mean + half, *ends, int(both[1] > both[0]), len(z)])
    table = np.array(rows, float).reshape(len(names), 10)
    values = ("confirmed", "confirmed_low", "confirmed_high", "share", "share_low", "share_high")
    first = [int(np.flatnonzero(ids == name)[0]) for name in names]
    reason = (
        "" if np.isfinite(deviation) else "the subject answers all natural images alike, or was shown fewer than two"
    )
    return xr.Dataset(
        {
            **{name: ("image", table[:, i]) for i, name in enumerate(PREDICTED)},
            **{name: ("image", table[:, 2 + i]) for i, name in enumerate(values)},
        },
        {
            "stimulus_id": ("image", np.array(names, object)),
            "thread": ("image", thread[first].astype(object)),
            "kind": ("image", kind[first].astype(object)),
            "promised_by": ("image", table[:, 8].astype(int)),
            "n": ("image", table[:, 9].astype(int)),
            "models": str(recording["models"].item()),
            "level": level,
            "reason": reason,
        },
    )
