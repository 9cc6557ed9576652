"""Writes a recording as Brain-Score takes it: an assembly, a stimulus set, and its images (BrainIO).

Conventions of BrainIO 1.1: the assembly is a netCDF4 file with one variable ``data`` over ``presentation``, ``neuroid``
(and ``time_bin``), ``stimulus_id`` on presentations, ``neuroid_id`` on neuroids, and the attributes ``identifier`` and
``stimulus_set_identifier``; the stimulus set is a CSV file with ``stimulus_id`` and ``filename``; the images lie flat
in a ZIP.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import H5NetCDFStore

from closedloop.errors import InvalidArgumentError, require
from closedloop.files import complete
from closedloop.formats.hdf5 import hdf5_file
from closedloop.formats.png import blocks, file_name
from closedloop.images.eight_bit import pillow_image, to_bytes
from closedloop.recording.evolutions import evolution_facts
from closedloop.recording.layout import recorded_form
from closedloop.recording.lean import complete as complete_units
from closedloop.recording.render import render


def assembly(recording: xr.Dataset, identifier: str, region: str = "") -> xr.DataArray:
    """Returns the responses as a neuroid assembly.

    Args:
        recording: What is to be written.
        identifier: Of the assembly, by custom "lab.AuthorYear".
        region: Of all units, where the recording has none.

    Returns:
        ``data`` over ``presentation, neuroid[, time_bin]``, with plain coordinates; attributes `identifier` and
        `stimulus_set_identifier`.
    """
    data: xr.DataArray = recording["responses"].rename("data").drop_encoding()
    evolving = {name: ("presentation", column) for name, column in evolution_facts(recording).items()}
    data = data.assign_coords({"score": ("presentation", recording["score"].values), **evolving})
    renamed = {"repeat": "repetition", "kind": "stimulus_type"}  # ours: what BrainIO calls them
    data = data.rename({old: new for old, new in renamed.items() if old in data.coords})
    model = str(recording["subject"].values.flat[0])
    neuroids = data.sizes["neuroid"]
    extra = {
        "model": np.full(neuroids, model, dtype=object),
        "region": np.full(neuroids, region or "model", dtype=object),
        "neuroid_num": np.arange(neuroids),
    }
    data = data.assign_coords({k: ("neuroid", v) for k, v in extra.items() if k not in data.coords})
    if "time_bin" in data.dims and "time_bin_start" not in data.coords:
        bins = np.arange(data.sizes["time_bin"])
        data = data.assign_coords(time_bin_start=("time_bin", bins), time_bin_end=("time_bin", bins + 1))
    experiment = str(recording.attrs.get("experiment", ""))
    data.attrs = {
        "identifier": identifier,
        "stimulus_set_identifier": f"{identifier}.stimuli",
        "experiment": experiment,
    }
    return data


def write(recording: xr.Dataset, out: Path, *, identifier: str | None = None, region: str = "", **sources: Any) -> None:
    """Writes the three files ``assembly_….nc``, ``stimulus_….csv`` and ``stimulus_….zip`` into a new folder.

    Args:
        recording: What is to be written.
        out: The folder; must not exist.
        identifier: Of the assembly, by custom "lab.AuthorYear"; default made from the folder's name.
        region: Visual area of all units; default "model".
        **sources: ``generators`` and ``references`` of `closedloop.render`.

    Raises:
        InvalidArgumentError: An identifier with something else than letters, digits, ``.``, ``-`` or ``_``; or stimuli
            that are movies, which a stimulus set of BrainIO has no place for.
        RecordingError: The folder exists or cannot be written, or an image is not to be found.
        MissingExtraError: The extra "netcdf" is not installed.
    """
    h5netcdf = require("h5netcdf", "netcdf", "the format brainio")
    recording = complete_units(recording, "the format brainio")
    form = recorded_form(recording)
    if form.frames is not None:
        raise InvalidArgumentError(
            f"recording: expected stills, for the images of a BrainIO stimulus set are single pictures, got "
            f"{form.describe()}; export it as nwb, which holds movies, or as netcdf or csv for the responses alone."
        )
    name = identifier or f"closedloop.{''.join(c if c.isalnum() else '_' for c in out.name)}"
    if not all(c.isalnum() or c in "._-" for c in name):
        raise InvalidArgumentError(f"identifier: expected letters, digits, '.', '-' or '_', got {name!r}.")
    with complete(out) as temporary:
        temporary.mkdir()
        data = assembly(recording, name, region)
        file = temporary / f"assy_{_file(name)}.nc"
        whole = data.to_dataset().assign_attrs(data.attrs)
        with hdf5_file(file) as plain, h5netcdf.File(plain, "w") as opened:
            whole.dump_to_store(H5NetCDFStore(opened), encoding={"data": {"zlib": True}})
        _write_stimuli(recording, temporary, f"stimulus_{_file(name)}_stimuli", sources)


def _file(name: str) -> str:
    """Returns an identifier as BrainIO has it in the names of files."""
    return name.replace(".", "_")


def _write_stimuli(recording: xr.Dataset, folder: Path, name: str, sources: dict[str, Any]) -> None:
    """Writes the table of the images, and the images; each once, in the order of their first presentation."""
    rows = np.sort(np.unique(recording["stimulus_id"].values.astype(str), return_index=True)[1])
    ids = recording["stimulus_id"].values
    taken: set[str] = set()
    files = [file_name(str(ids[row]), taken) for row in rows]
    facts = {"thread": "thread", "generation": "generation", "stimulus_type": "kind"}
    table = {"stimulus_id": ids[rows], "filename": files, **{k: recording[v].values[rows] for k, v in facts.items()}}
    pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False, lineterminator="\r\n", encoding="utf-8")
    names = iter(files)
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        for part in blocks(rows):
            for image in render(recording, part, **sources):
                buffer = io.BytesIO()
                pillow_image(to_bytes(image)).save(buffer, format="PNG")
                archive.writestr(next(names), buffer.getvalue())
