"""A recording back from the NWB file that closedloop wrote, value for value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import RecordingError, require
from closedloop.recording.evolutions import evolution_coords
from closedloop.recording.layout import EVOLUTION
from closedloop.recording.lean import ALL, COMMON

if TYPE_CHECKING:
    import xarray as xr


def read_nwb(path: Path) -> xr.Dataset:
    """Reads what `closedloop.formats.nwb.write` wrote; the values are in memory, the images stay in the file.

    Raises:
        RecordingError: Another NWB file, or a damaged one.
        MissingExtraError: The extra "nwb" is not installed.
    """
    pynwb = require("pynwb", "nwb", "a file ending in .nwb")
    try:
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            file = io.read()
            notes = _notes(path, file.notes)
            return _dataset(file, notes)
    except RecordingError:
        raise
    except Exception as error:
        raise RecordingError(f"{path}: cannot read it as NWB ({error}); it is damaged, or another format.") from error


def _notes(path: Path, text: str | None) -> dict[str, Any]:
    try:
        notes = json.loads(text or "")
        if "closedloop_schema" not in notes:
            raise KeyError("closedloop_schema")
    except (ValueError, KeyError, TypeError):
        raise RecordingError(
            f"{path}: an NWB file, but not a recording of closedloop; closedloop export RUN --to nwb makes one."
        ) from None
    return dict(notes)


def _dataset(file: Any, notes: dict[str, Any]) -> xr.Dataset:
    import xarray as xr

    trials = file.trials
    count = len(trials.id)
    misc = file.processing["misc"].data_interfaces if "misc" in file.processing else {}
    known = notes["responses"]
    held = misc["responses"]["responses"] if "responses" in misc else file.acquisition["responses"]
    name = ALL if COMMON in known["dims"] else "responses"
    data: dict[str, Any] = {name: (known["dims"], np.asarray(held.data[:]).astype(known["dtype"]))}
    if "latent_code" in notes:
        data["latent_code"] = (("presentation", "latent"), _codes(misc, notes["latent_code"], count))
    data["score"] = ("presentation", _column(trials, "score", notes["score"], count))
    for other, (dtype, dims) in notes.get("variables", {}).items():
        data[other] = (dims, np.asarray(misc["variables"][other].data[:]).astype(dtype))
    data |= _spikes(misc, notes, data[name][1].shape[1])
    coords: dict[str, Any] = {
        name: ("presentation", _column(trials, name, dtype, count)) for name, dtype in notes["presentation"].items()
    }
    units = data[name][1].shape[1]
    for name, dtype in notes["neuroid"].items():
        single = "single_neuroid" in notes
        values = (
            _typed([notes["single_neuroid"][name]], dtype) if single else _column(misc["neuroids"], name, dtype, units)
        )
        coords[name] = ("neuroid", values)
    coords |= {name: ("time_bin", _typed(values, dtype)) for name, (values, dtype) in notes["time_bin"].items()}
    coords |= {name: ((), _typed(value, dtype)) for name, (value, dtype) in notes["scalars"].items()}
    coords |= evolution_coords(notes.get(EVOLUTION, {}))  # schema 1 and 2 had none
    return xr.Dataset(data, {name: coords[name] for name in notes["order"]}, notes["attrs"])


def _codes(misc: Any, known: dict[str, Any], count: int) -> NDArray[Any]:
    codes = np.full((count, known["length"]), np.nan, known["dtype"])
    if "evolved_stimuli" in misc:
        table = misc["evolved_stimuli"]
        codes[np.asarray(table["trial"].data[:])] = table["latent_code"].data[:]
    return codes


def _spikes(misc: Any, notes: dict[str, Any], units: int) -> dict[str, Any]:
    """Returns spikes, and what is known of units block by block; nothing for a recording without."""
    data: dict[str, Any] = {}
    for name, dtype in notes.get("spikes", {}).items():
        none = "presented_spikes" not in misc
        values = np.empty(0, dtype) if none else _typed(misc["presented_spikes"][name].data[:], dtype)
        data[name] = ("spike", values)
    for name, dtype in notes.get("quality", {}).items():
        few = notes.get("few_qualities", {})
        table = misc.get("unit_quality")
        if table is not None and name in table.colnames:
            values = np.asarray(table[name].data[:], dtype)
        else:
            values = np.array(few[name], dtype) if name in few else np.full((notes["blocks"], units), np.nan, dtype)
        data[name] = (("block", "neuroid"), values)
    return data


def _column(table: Any, name: str, dtype: str, count: int) -> NDArray[Any]:
    """Returns a column in the type it had; one that held NaN alone was not written."""
    if name not in table.colnames:
        return np.full(count, np.nan, dtype)
    return _typed(list(table[name].data[:]) if dtype == "object" else table[name].data[:], dtype)


def _typed(values: Any, dtype: str) -> NDArray[Any]:
    if dtype == "object":
        return np.array(values, dtype=object)
    array = np.asarray(values)
    text = array.dtype.kind in "OUST"
    return np.array([float(v) for v in array.ravel()]).astype(dtype) if text else array.astype(dtype)
