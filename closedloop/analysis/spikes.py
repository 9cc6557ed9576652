"""Spikes of a recording, counted in other windows than the one in which the run counted them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.presentations import WINDOW_S, Spikes
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.layout import TimeBins
from closedloop.recording.store import bins_ms
from closedloop.signatures import at_door


@at_door
def counts(
    recording: xr.Dataset,
    window_s: Sequence[float] | None = None,
    *,
    bins_s: Sequence[float] | None = None,
) -> xr.DataArray:
    """Counts the spikes of each presentation in a window of your choice, whatever the run counted.

    Args:
        recording: A recording with spikes; presentations and units may have been selected, `spike` not.
        window_s: Begin and end in seconds from the onset of each image, such as ``(0.07, 0.17)``; the end is not
            counted. The rig must have kept spikes there: what it did not send cannot be counted.
        bins_s: Instead, begin of the first bin, width of each in seconds, and their number: ``(0, 0.01, 30)``.

    Returns:
        Spikes ``(presentation, neuroid)``, with bins ``(presentation, neuroid, time_bin)``; NaN where a presentation
        was lost (its `status` is not "ok"). Divide by the width for a rate.

    Raises:
        RecordingError: The recording has no spikes.
        InvalidArgumentError: Neither or both of a window and bins, or such that are none.
    """
    spikes = spikes_of(recording)
    edges = _edges(window_s, bins_s)
    own = (
        recording["unit_number"].values if "unit_number" in recording.coords else np.arange(recording.sizes["neuroid"])
    )
    units = int(max(own.max(initial=-1), spikes.unit.max(initial=-1))) + 1
    found = spikes.counts(edges, units)[:, own]
    if "status" in recording.coords:
        found[recording["status"].values != "ok"] = np.nan
    else:
        found[np.isnan(recording["responses"].values).all(axis=tuple(range(1, recording["responses"].ndim)))] = np.nan
    kept = {name: c for name, c in recording.coords.items() if set(c.dims) <= {"presentation", "neuroid"}}
    if bins_s is None:
        return xr.DataArray(found[..., 0], dims=("presentation", "neuroid"), coords=kept, name="counts").assign_attrs(
            window_s=edges.tolist()
        )
    times = {name: ("time_bin", values) for name, values in bins_ms(TimeBins(edges[:-1], edges[1:])).items()}
    return xr.DataArray(found, dims=("presentation", "neuroid", "time_bin"), coords={**kept, **times}, name="counts")


def spikes_of(recording: xr.Dataset) -> Spikes:
    """Returns the spikes of the presentations of a recording, in its order; `unit` is the number at the rig.

    Raises:
        RecordingError: It has none.
    """
    if "spike_time_s" not in recording or "spike_start" not in recording:
        raise RecordingError(
            "recording: expected one with spikes (spike_time_s, spike_unit, spike_start, spike_count); this one has "
            "responses alone. A rig that sends spikes makes one; joined recordings keep theirs apart."
        )
    start, number = recording["spike_start"].values, recording["spike_count"].values
    offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], number)
    time_s, unit = recording["spike_time_s"].values, recording["spike_unit"].values
    if len(places) and places.max() >= len(time_s):
        raise RecordingError("recording: expected all of its spikes; select presentations and units, never `spike`.")
    return Spikes(time_s[places], unit[places], offsets)


def counting_window(recording: xr.Dataset) -> tuple[float, float] | None:
    """Returns where the spikes of each response were counted, in seconds from the onset.

    None where the recording does not know it, or where responses are no counts: they have a time axis, or came alone.
    """
    if "spike_time_s" not in recording.variables or "time_bin" in recording.dims:
        return None
    subject = experiment_of(recording).get("subject")
    while isinstance(subject, Mapping):
        if str(subject.get("name")).startswith("rig:"):
            begin, end = subject.get("window_s", WINDOW_S)
            return float(begin), float(end)
        subject = subject.get("subject")  # what stands around it, such as noise
    return None


def _edges(window_s: Any, bins_s: Any) -> NDArray[np.float64]:
    """Returns the edges in seconds between which spikes are counted."""
    if (window_s is None) == (bins_s is None):
        raise InvalidArgumentError("window_s, bins_s: expected one of them, such as window_s=(0.05, 0.2).")
    name, given = ("window_s", window_s) if bins_s is None else ("bins_s", bins_s)
    values = np.asarray(given, np.float64)
    if values.shape != ((2,) if bins_s is None else (3,)) or not np.isfinite(values).all():
        raise InvalidArgumentError(
            f"{name}: expected {'begin, end' if bins_s is None else 'begin, width, number'}, got {given!r}."
        )
    if bins_s is not None and values[2] % 1:
        raise InvalidArgumentError(f"bins_s: expected a whole number of bins, got {given!r}.")
    edges = values if bins_s is None else values[0] + values[1] * np.arange(int(values[2]) + 1)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InvalidArgumentError(f"{name}: expected times in seconds that rise, got {given!r}.")
    return edges
