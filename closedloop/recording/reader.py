"""Reading a run: while it goes on, after a crash, and when it is finished. Nothing on the disk is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from closedloop.errors import RecordingError
from closedloop.interfaces import State
from closedloop.recording.checksums import CheckedStore, Sum, check_files, read_sums
from closedloop.recording.evolutions import with_evolutions
from closedloop.recording.layout import CHECKSUMS, DATA, EXPERIMENT, POINTER, SCHEMA, is_run
from closedloop.recording.readers.netcdf import read_netcdf
from closedloop.recording.readers.nwb import read_nwb
from closedloop.recording.states import unpack_state


def read_pointer(path: str | Path) -> dict[str, Any]:
    """How much of a run is committed.

    Raises:
        RecordingError: Nothing is committed, the pointer cannot be read, or a newer version wrote it.
    """
    try:
        pointer: dict[str, Any] = json.loads((Path(path) / POINTER).read_text(encoding="utf-8"))
        if int(pointer["schema"]) <= SCHEMA:
            _check_pointer(pointer)
    except (FileNotFoundError, NotADirectoryError):
        raise RecordingError(f"{path}: {_what_it_is(Path(path))} (no {POINTER}).") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RecordingError(f"{path}: cannot read {POINTER} ({error}).") from error
    if int(pointer["schema"]) > SCHEMA:
        raise RecordingError(
            f"{path}: written by a newer closedloop (schema {pointer['schema']}, this one knows {SCHEMA}); update it: "
            "pip install --upgrade closedloop."
        )
    return pointer


def read_state(path: str | Path) -> State | None:
    """The state of a session after the last commit of a run; None before the first.

    Raises:
        RecordingError: Not a run, or the state is missing or damaged.
    """
    return saved_state(Path(path), read_pointer(path))


def saved_state(path: Path, pointer: Mapping[str, Any]) -> State | None:
    """Returns the state that a pointer names; None where it names none. Raises RecordingError if it is damaged."""
    if "state" not in pointer:
        return None
    try:
        return unpack_state((path / pointer["state"]).read_bytes())
    except (OSError, RecordingError) as error:
        raise RecordingError(
            f"{path}: cannot go on, for {pointer['state']} cannot be read ({error}). What is recorded is safe: "
            "open_recording reads it."
        ) from error


def _what_it_is(path: Path) -> str:
    """Words for a path that holds no committed run."""
    if is_run(path):
        return "the run has no finished generation yet"
    if is_run(path.parent) and path.name == DATA:
        return f"not a run of closedloop, but the data of one; open its folder, {path.parent}"
    if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return "not a run of closedloop, but another zarr store; open it with xarray.open_zarr"
    return "not a run of closedloop" + ("" if path.exists() else ": there is no such folder or file")


def _check_pointer(pointer: Mapping[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError unless it holds what `Recording` writes."""
    rows, generations = int(pointer["n_presentations"]), int(pointer["n_generations"])
    if rows < 0 or generations < 0 or not np.isfinite(pointer["elapsed_s"]):
        raise ValueError(f"{rows} presentations in {generations} generations")
    if not isinstance(pointer["finished"], bool) or not isinstance(pointer["state"], str):
        raise TypeError("finished, state: expected true or false, and a file's name")
    if int(pointer["schema"]) > 1 and (int(pointer["checksums"]["bytes"]) < 0 or not pointer["checksums"]["sha256"]):
        raise ValueError("checksums: expected a number of bytes and their SHA-256")


def read_committed_sums(path: Path, pointer: Mapping[str, Any]) -> dict[str, Sum]:
    """The checksums that count."""
    return read_sums(path / CHECKSUMS, pointer["checksums"])


def read_experiment(path: str | Path) -> dict[str, Any]:
    """The file that repeats a run, as a dictionary.

    Raises:
        RecordingError: It is missing or not YAML.
    """
    try:
        content = yaml.safe_load((Path(path) / EXPERIMENT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordingError(
            f"{path}: not a run of closedloop (no {EXPERIMENT} in it), or one that died before it began."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecordingError(f"{path}: cannot read {EXPERIMENT} ({error}).") from error
    if not isinstance(content, dict):
        raise RecordingError(f"{path}: {EXPERIMENT} holds no experiment.")
    return content


def open_recording(path: str | Path) -> xr.Dataset:
    """Opens a running, killed or finished run for reading, or an export of one. Nothing on the disk is changed.

    Args:
        path: The run's folder, or a file that ``closedloop export`` wrote: ``.nc`` or ``.nwb``.

    Returns:
        A lazy Dataset with dims ``presentation``, ``neuroid``, ``latent`` (and ``time_bin``): `responses`,
        `latent_code`, `score`; coordinates `thread`, `generation` (-1 before the evolution), `kind` ("evolved",
        "reference" or "retest"), `stimulus_id`, `repeat`, `onset_s` on presentations; `generator`, `optimizer`,
        `objective` on ``evolution``; and what identifies the run as scalar coordinates. ``attrs["experiment"]`` is the
        file that repeats the run.

    Raises:
        RecordingError: Not a run, nothing committed yet, or damaged. What is lost or changed in a chunk is noticed when
            its values are read.
        MissingExtraError: The format of an export needs an extra.
    """
    if Path(path).is_file():
        return read_export(Path(path))
    pointer = read_pointer(path)  # first: the arrays may already hold more
    with reading(path):
        experiment = (Path(path) / EXPERIMENT).read_text(encoding="utf-8")
        dataset = committed_dataset(_store(Path(path), pointer), pointer, experiment)
    dataset.encoding["source"] = str(Path(path).resolve())
    return dataset


def _store(path: Path, pointer: Mapping[str, Any]) -> Any:
    """What zarr reads a run from: its folder, with checksums where there are some."""
    if "checksums" not in pointer:
        return str(path / DATA)
    sums = read_committed_sums(path, pointer)
    check_files(path / DATA, sums)
    return CheckedStore(path / DATA, sums)


def committed_dataset(store: Any, pointer: Mapping[str, Any], experiment: str) -> xr.Dataset:
    """Opens the rows of a zarr store that a pointer names, with the experiment file as an attribute."""
    dataset: xr.Dataset = xr.open_zarr(store, chunks=None, consolidated=False, zarr_format=3)
    rows = int(pointer["n_presentations"])
    dataset = dataset.isel(presentation=slice(0, rows))
    if dataset.sizes["presentation"] != rows or (dataset["kind"].values == "").any():
        raise ValueError(f"{rows} presentations are committed, but some of them are missing")
    # Put together anew, for to assign coordinates would load and compare all of them.
    dataset = xr.Dataset({n: dataset.variables[n] for n in dataset.data_vars}, _plain_text(dataset))
    dataset.attrs = {
        "closedloop_schema": SCHEMA,
        "n_generations": int(pointer["n_generations"]),
        "finished": int(pointer["finished"]),
        "elapsed_s": float(pointer["elapsed_s"]),
        "reason": str(pointer.get("reason", "")),
        "experiment": experiment,
    }
    dataset.encoding = {}
    return with_evolutions(dataset)


def _plain_text(dataset: xr.Dataset) -> dict[Any, xr.Variable]:
    """The coordinates, text as Python's own: netCDF and pandas do not yet understand numpy's new type of text."""
    variables = {name: dataset.variables[name] for name in dataset.coords}
    return {n: v.astype(object) if v.dtype.kind == "T" else v for n, v in variables.items()}


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turns whatever a damaged store raises into one error."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise RecordingError(f"{path}: cannot read {DATA} ({error}); it is incomplete or damaged.") from error


def read_export(path: Path) -> xr.Dataset:
    """Reads a file that `export` wrote as "netcdf" or "nwb": the recording, value for value.

    Raises:
        RecordingError: It is another file, damaged, or written by a newer version.
        MissingExtraError: The format needs an extra.
    """
    if path.suffix.lower() not in (".nc", ".nwb"):
        raise RecordingError(f"{path}: expected a run's folder, or a file ending in .nc or .nwb.")
    dataset = read_netcdf(path) if path.suffix.lower() == ".nc" else read_nwb(path)
    if int(dataset.attrs["closedloop_schema"]) > SCHEMA:
        raise RecordingError(
            f"{path}: written by a newer closedloop (schema {dataset.attrs['closedloop_schema']}, this one knows "
            f"{SCHEMA}); update it: pip install --upgrade closedloop."
        )
    with reading(path):
        return with_evolutions(dataset).assign_attrs(closedloop_schema=SCHEMA)
