"""Turns recordings into time series and intervals of pynapple."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, require
from closedloop.formats.nwb_spikes import has_spikes, unit_columns
from closedloop.formats.rig_times import is_of_a_rig, rig_times
from closedloop.recording.evolutions import evolution_facts, experiment_of
from closedloop.recording.layout import recorded_form
from closedloop.recording.lean import complete
from closedloop.signatures import at_door

#: Seconds from the end of a presentation to the next one: pynapple joins or cuts intervals that touch.
INTERVAL_GAP_S = 1e-6


class Pynapple(NamedTuple):
    """Holds a recording in pynapple's objects.

    Attributes:
        responses: `TsdFrame` ``(presentation, unit)`` at the onsets, columns named by `neuroid_id` with what is known
            of the units as metadata; with a time axis a `TsdTensor` ``(presentation, unit, bin)``.
        presentations: `IntervalSet`, one interval for each presentation until shortly before the next could begin,
            with its coordinates and `score` as metadata.
        codes: `TsdFrame` ``(presentation, latent)`` of the presentations that have a code; None without codes.
        spikes: `TsGroup` of the units' spikes, each spike once; None for a recording without.
    """

    responses: Any
    presentations: Any
    codes: Any
    spikes: Any = None


def presentation_s(recording: xr.Dataset) -> float:
    """Returns the seconds from one presentation to the next, also of a part of a recording.

    That is what the experiment says (``soa_s``, or the duration of its movies), where the onsets are multiples of it.
    Onsets that were measured, or of a run that says nothing, come as close to each other as presentations do: the
    shortest time between two of them; 1 where there is one alone.
    """
    onset, form = np.sort(recording["onset_s"].values.astype(float)), recorded_form(recording)
    said = experiment_of(recording).get("soa_s")
    if isinstance(said, (int, float)) and said > 0:
        nominal = max(float(said), form.duration_s)
        count = onset / nominal
        if np.abs(count - np.rint(count)).max(initial=0) < 1e-6 * max(1.0, float(np.abs(count).max(initial=0))):
            return nominal
    steps = np.diff(onset)
    return float(steps.min()) if len(steps) else max(1.0, form.duration_s)


def interval_ends(onset: NDArray[np.float64], length_s: float) -> NDArray[np.float64]:
    """Returns when presentations end ``(n,)``, given their rising onsets: shortly before the next one could begin."""
    following = np.append(onset[1:], np.inf)
    ends: NDArray[np.float64] = np.minimum(onset + length_s, following) - INTERVAL_GAP_S
    return ends


@at_door
def to_pynapple(recording: xr.Dataset) -> Pynapple:
    """Returns the recording as objects of pynapple, on the time axis `onset_s`: nominal, or measured by a rig.

    Args:
        recording: One run, or a part of it in the order of time.

    Returns:
        Responses, presentations and codes; values and metadata are those of the recording.

    Raises:
        InvalidArgumentError: The onsets are not known, or do not rise (runs that were joined).
        MissingExtraError: The extra "pynapple" is not installed.
    """
    nap = require("pynapple", "pynapple", "to_pynapple")
    recording = complete(recording, "pynapple")
    rig = is_of_a_rig(recording)
    onset, length = rig_times(recording) if rig else (recording["onset_s"].values.astype(float), None)
    steps = np.diff(onset)
    if len(onset) == 0 or not np.isfinite(onset).all() or (steps <= 2 * INTERVAL_GAP_S).any():
        raise InvalidArgumentError(
            "recording: expected presentations whose onset_s rises, in seconds; where runs were joined, take them one "
            "by one; where the time was not recorded, assign some."
        )
    end = interval_ends(onset, presentation_s(recording) if length is None else length)
    facts = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("presentation",) and n != "onset_s"}
    facts |= evolution_facts(recording)
    presentations = nap.IntervalSet(onset, end, metadata={**facts, "score": recording["score"].values})
    responses = recording["responses"].values
    units = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("neuroid",) and n != "neuroid_id"}
    # Where there is one alone, pynapple would take its time for an interval without a length.
    support = {"time_support": nap.IntervalSet(onset[0], end[-1])} if len(onset) == 1 else {}
    if responses.ndim == 3:
        frame = nap.TsdTensor(onset, responses, **support)
    else:
        names = recording["neuroid_id"].values.astype(str)
        frame = nap.TsdFrame(onset, responses, columns=names, metadata=units, **support)
    return Pynapple(frame, presentations, _codes(nap, recording, onset, end), _spikes(nap, recording, onset))


def _spikes(nap: Any, recording: xr.Dataset, onset: NDArray[np.float64]) -> Any:
    """Returns the spikes of each unit, on the axis of the presentations; None where there are none."""
    if not has_spikes(recording):
        return None
    times = unit_columns(recording, onset)
    metadata = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("neuroid",) and n != "unit_number"}
    ends = np.concatenate([onset, *times])
    support = nap.IntervalSet(ends.min() - INTERVAL_GAP_S, ends.max() + INTERVAL_GAP_S)
    return nap.TsGroup({i: nap.Ts(t) for i, t in enumerate(times)}, time_support=support, metadata=metadata)


def _codes(nap: Any, recording: xr.Dataset, onset: Any, end: Any) -> Any:
    """Returns the codes at the onsets of the presentations that have one; None where there is no code."""
    if "latent_code" not in recording:
        return None
    codes = recording["latent_code"].values
    rows = np.flatnonzero(~np.isnan(codes).all(axis=1))
    if len(rows) == 0:
        return None
    support = {"time_support": nap.IntervalSet(onset[rows[0]], end[rows[0]])} if len(rows) == 1 else {}
    return nap.TsdFrame(onset[rows], codes[rows], **support)
