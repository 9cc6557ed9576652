"""Runs of schema 1 and 2: how they are read, and how they become runs of today when they are gone on with.

They had an array of zarr for each coordinate, and a chunk file for each generation. A run that is resumed is copied
into the layout of today first, beside what it has; the pointer that names the copy makes it count, and only then is the
old one removed. So a process that is killed on the way leaves one or the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from closedloop.files import do_together, synchronize
from closedloop.interfaces import Units
from closedloop.recording.checksums import ChecksumFile, Sum, sums_of
from closedloop.recording.evolutions import with_evolutions
from closedloop.recording.layout import CHECKSUMS, DATA, EVOLUTION, PRESENTATION, SCHEMA, Layout, Variable
from closedloop.recording.store import Store, create

if TYPE_CHECKING:
    import xarray as xr

#: Names in the folder of a run that was copied, and rows that are copied together.
NEW_DATA, NEW_CHECKSUMS, BLOCK = "data-3.zarr", "CHECKSUMS-3", 64


def read_older(store: Any, rows: int) -> xr.Dataset:
    """Opens the first rows of a store of schema 1 or 2; texts of the threads are still joined.

    Raises:
        ValueError: There are fewer.
    """
    import xarray as xr  # slow to import, and not needed before the first images are shown

    dataset: xr.Dataset = xr.open_zarr(store, chunks=None, consolidated=False, zarr_format=3)
    dataset = dataset.isel(presentation=slice(0, rows))
    if dataset.sizes["presentation"] != rows or (dataset["kind"].values == "").any():
        raise ValueError(f"{rows} presentations are committed, but some of them are missing")
    # Put together anew, for to assign coordinates would load and compare all of them.
    coords = {name: dataset.variables[name] for name in dataset.coords}
    plain = {n: v.astype(object) if v.dtype.kind == "T" else v for n, v in coords.items()}
    return xr.Dataset({n: dataset.variables[n] for n in dataset.data_vars}, plain)


def copied(path: Path, pointer: Mapping[str, Any], recording: xr.Dataset) -> dict[str, Any]:
    """Copies a run of schema 1 or 2 into the layout of today, beside what it has.

    Args:
        path: The run's folder.
        pointer: What of it counts.
        recording: The run, opened.

    Returns:
        A pointer that names the copy; whoever puts it in place calls `remove_old`.
    """
    folder = path / NEW_DATA
    shutil.rmtree(folder, ignore_errors=True)
    recording = with_evolutions(recording)
    missing = ({"responses", "score"} | PRESENTATION.keys()) - set(map(str, recording.variables))
    if missing:
        raise ValueError(f"no array {sorted(missing)[0]!r}")
    create(folder, _layout(recording, _capacity(path / DATA)), columns := _columns(recording))
    store = Store(folder, {})
    full, last = {entry.path: entry for entry in sums_of(folder)}, dict[str, Sum]()
    for first in range(0, recording.sizes["presentation"], BLOCK):
        part = recording.isel(presentation=slice(first, first + BLOCK))
        appended = store.append(first, {name: part[name].values for name in columns})
        do_together([task for one in appended for task in one.tasks])
        store.keep()
        full |= {entry.path: entry for one in appended for entry in one.full}
        last = {one.open.path: one.open for one in appended if one.open is not None}
    for place in (*folder.rglob("*"), folder):
        synchronize(place)
    checksums = ChecksumFile(path / NEW_CHECKSUMS)
    checksums.write(full.values())
    synchronize(path)
    names = {"data": NEW_DATA, "checksums": {"file": NEW_CHECKSUMS, **checksums.mark}}
    return {**pointer, "schema": SCHEMA, **names, "open": [entry.line().rstrip("\n") for entry in last.values()]}


def remove_old(path: Path) -> None:
    """Removes what a run had before it was copied."""
    shutil.rmtree(path / DATA, ignore_errors=True)
    (path / CHECKSUMS).unlink(missing_ok=True)


def _capacity(folder: Path) -> int:
    array = zarr.open_group(folder, mode="r")["score"]
    return int(array.shape[0])  # type: ignore[union-attr]


def _columns(recording: xr.Dataset) -> dict[str, Variable]:
    """Returns the type and the shape of all that is recorded of a presentation."""
    along = {str(n): v for n, v in recording.variables.items() if v.dims[:1] == ("presentation",)}
    return {
        name: Variable(
            "str" if v.dtype.kind in "OUT" else v.dtype.name,
            "" if v.dtype.kind in "OUT" else np.nan if v.dtype.kind == "f" else -1,
            tuple(map(str, v.dims[1:])),
            v.shape[1:],
        )
        for name, v in along.items()
    }


def _layout(recording: xr.Dataset, capacity: int) -> Layout:
    """Returns what was known before the run's first generation."""
    columns = _columns(recording)
    units = {str(n): tuple(c.values.tolist()) for n, c in recording.coords.items() if c.dims == ("neuroid",)}
    evolutions = {str(n): c.values.tolist() for n, c in recording.coords.items() if c.dims == (EVOLUTION,)}
    own = [str(n) for n, c in recording.coords.items() if c.dims == ("presentation",) and n not in PRESENTATION]
    return Layout(
        capacity=capacity,
        latent=recording.sizes.get("latent", 0),
        units=Units(units.pop("neuroid_id"), units),
        scalars={str(n): c.item() for n, c in recording.coords.items() if c.ndim == 0},
        coords={name: (columns[name].dtype, columns[name].fill) for name in own},
        evolutions=evolutions,
    )
