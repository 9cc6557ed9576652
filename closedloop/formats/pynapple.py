"""Turns recordings into time series and intervals of pynapple."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from closedloop.errors import InvalidArgumentError, require
from closedloop.recording.evolutions import evolution_facts

#: Seconds from the end of a presentation to the next one: pynapple joins or cuts intervals that touch.
INTERVAL_GAP_S = 1e-6


class Pynapple(NamedTuple):
    """Holds a recording in pynapple's objects.

    Attributes:
        responses: `TsdFrame` ``(presentation, unit)`` at the onsets, columns named by `neuroid_id` with what is known
            of the units as metadata; with a time axis a `TsdTensor` ``(presentation, unit, bin)``.
        presentations: `IntervalSet`, one interval for each presentation until shortly before the next, with its
            coordinates and `score` as metadata.
        codes: `TsdFrame` ``(presentation, latent)`` of the presentations that have a code; None without codes.
    """

    responses: Any
    presentations: Any
    codes: Any


def to_pynapple(recording: xr.Dataset) -> Pynapple:
    """Returns the recording as objects of pynapple, on the nominal time axis `onset_s`.

    Args:
        recording: One run, or a part of it in the order of time.

    Returns:
        Responses, presentations and codes; values and metadata are those of the recording.

    Raises:
        InvalidArgumentError: The onsets are not known, or do not rise (runs that were joined).
        MissingExtraError: The extra "pynapple" is not installed.
    """
    nap = require("pynapple", "pynapple", "to_pynapple")
    onset = recording["onset_s"].values.astype(float)
    steps = np.diff(onset)
    if len(onset) == 0 or not np.isfinite(onset).all() or (steps <= 2 * INTERVAL_GAP_S).any():
        raise InvalidArgumentError(
            "recording: expected presentations whose onset_s rises, in seconds; where runs were joined, take them one "
            "by one; where the time was not recorded, assign some."
        )
    soa_s = float(np.median(steps)) if len(steps) else 1.0
    end = np.append(onset[1:], onset[-1] + soa_s) - INTERVAL_GAP_S
    facts = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("presentation",) and n != "onset_s"}
    facts |= evolution_facts(recording)
    presentations = nap.IntervalSet(onset, end, metadata={**facts, "score": recording["score"].values})
    responses = recording["responses"].values
    units = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("neuroid",) and n != "neuroid_id"}
    if responses.ndim == 3:
        frame = nap.TsdTensor(onset, responses)
    else:
        frame = nap.TsdFrame(onset, responses, columns=recording["neuroid_id"].values.astype(str), metadata=units)
    return Pynapple(frame, presentations, _codes(nap, recording, onset))


def _codes(nap: Any, recording: xr.Dataset, onset: Any) -> Any:
    """Returns the codes at the onsets of the presentations that have one; None where there is no code."""
    if "latent_code" not in recording:
        return None
    codes = recording["latent_code"].values
    rows = np.flatnonzero(~np.isnan(codes).all(axis=1))
    return nap.TsdFrame(onset[rows], codes[rows]) if len(rows) else None
