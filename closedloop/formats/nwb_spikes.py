"""Spikes of a rig in an NWB file: the table of units with their spike times, the electrodes, and the units' quality.

The table ``units`` has the times of all spikes on the axis of the session, each once, as every reader of NWB expects. A
spike may belong to two presentations, whose windows overlap; what was recorded of each presentation stands in the table
``presented_spikes``, from which `closedloop.open_recording` reads it back to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray
from closedloop.recording.layout import BLOCK, SPIKE

#: Spikes of a unit that lie closer are one, seen from two presentations; in seconds.
SAME_S = 1e-5


def has_spikes(recording: xr.Dataset) -> bool:
    """Tells whether a recording has spikes."""
    return "spike_time_s" in recording


def along_presentations(recording: xr.Dataset) -> xr.Dataset:
    """Returns a recording without what grows by spikes or blocks."""
    return recording.drop_dims([dim for dim in (SPIKE, BLOCK) if dim in recording.dims])


def first_spike_s(recording: xr.Dataset, start_s: NDArray[np.float64]) -> float:
    """Returns the time of the first spike on the axis of the presentations; infinity where there is none."""
    if not has_spikes(recording) or recording.sizes[SPIKE] == 0:
        return float("inf")
    return float(_absolute(recording, start_s).min())


def _absolute(recording: xr.Dataset, start_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the times of all spikes of the recording on the axis of the presentations."""
    presentation = np.repeat(np.arange(len(start_s)), recording["spike_count"].values)
    return np.asarray(start_s[presentation] + recording["spike_time_s"].values)


def unit_columns(recording: xr.Dataset, start_s: NDArray[np.float64]) -> list[FloatArray]:
    """Returns the times of each unit's spikes, rising, each spike once."""
    times, unit = _absolute(recording, start_s), recording["spike_unit"].values
    found = []
    for number in range(recording.sizes["neuroid"]):
        own = np.sort(times[unit == number])
        found.append(own[np.append(True, np.diff(own) > SAME_S)] if len(own) else own)
    return found


def add_units(session: Any) -> None:
    """Adds electrodes, and the table of units with their spike times."""
    recording, file = session.recording, session.file
    if not has_spikes(recording):
        return
    coords = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("neuroid",)}
    electrodes = _add_electrodes(session, coords)
    coords = {name: _told_apart(values) for name, values in coords.items() if name != "unit_number"}
    for name in coords:
        file.add_unit_column(name=name, description=f"closedloop: {name}")
    start = session.start_s
    times = recording["spike_time_s"].values
    begin = max(0.0, float(start[0] + min(0.0, times.min(initial=0.0))))
    end = float(start[-1] + max(session.soa_s, times.max(initial=0.0)))
    for number, spikes in enumerate(unit_columns(recording, start)):
        file.add_unit(
            spike_times=spikes,
            obs_intervals=[[begin, end]],
            electrodes=[int(electrodes[number])],
            **{name: _plain(values[number]) for name, values in coords.items()},
        )
    file.units.resolution = SAME_S


def _add_electrodes(session: Any, coords: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Adds the electrodes; returns that of each unit ``(units,)``."""
    file, n = session.file, session.recording.sizes["neuroid"]
    column = next((coords[name] for name in ("electrode", "channel") if name in coords), np.arange(n))
    _, first, number = np.unique(column.astype(str), return_index=True, return_inverse=True)
    places = (coords[name] for name in ("region", "area", "location", "layer") if name in coords)  # the best first
    where = next(places, np.full(n, "unknown", object))
    device = file.create_device(name="rig", description="The rig that recorded the spikes.")
    group = file.create_electrode_group(
        name="electrodes",
        description="The electrodes whose units were recorded.",
        location=str(where[0]) or "unknown",
        device=device,
    )
    for unit in first.tolist():
        file.add_electrode(location=str(where[unit]) or "unknown", group=group, group_name="electrodes")
    return np.asarray(number, np.int64)


def _told_apart(values: NDArray[Any]) -> NDArray[Any]:
    """Returns a column; of zeros and ones as text, which NWB's inspector would take for true and false."""
    binary = values.dtype.kind in "iuf" and set(np.unique(values).tolist()) == {0, 1}
    return np.array([str(value) for value in values.tolist()], object) if binary else values


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def add_presented_spikes(session: Any, table: Any, column: Any) -> None:
    """Adds what was recorded of each presentation, and the quality of units block by block.

    Args:
        session: What is written.
        table: Adds a table to the module of the other tables, by name, description and columns.
        column: Makes a column, by name, values and description.
    """
    recording = session.recording
    if has_spikes(recording):
        names = ("spike_time_s", "spike_unit")
        session.notes["spikes"] = {name: recording[name].dtype.name for name in names}
        if recording.sizes[SPIKE]:
            columns = [column(name, recording[name].values, f"closedloop: {name}") for name in names]
            table("presented_spikes", "Spikes, in the order of the trials; times from the onset of the image", columns)
    known = {str(n): v.values for n, v in recording.data_vars.items() if v.dims == (BLOCK, "neuroid")}
    if not known:
        return
    session.notes["quality"] = {name: values.dtype.name for name, values in known.items()}
    session.notes["blocks"] = recording.sizes[BLOCK]
    shown = {name: values for name, values in known.items() if not np.isnan(values).all()}
    if recording.sizes[BLOCK] > 1 and recording.sizes["neuroid"] > 1 and shown:
        columns = [column(name, values, f"closedloop: {name}, block by unit") for name, values in shown.items()]
        table("unit_quality", "What the rig said of each unit, a row for each block", columns)
    elif shown:
        session.notes["few_qualities"] = {name: values.tolist() for name, values in shown.items()}
