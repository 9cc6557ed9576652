"""Reading a run: while it goes on, after a crash, and when it is finished. Nothing on the disk is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import State
from closedloop.recording.checksums import (
    BESIDE,
    CheckedStore,
    CheckedZip,
    Sum,
    begun_lines,
    check_files,
    read_sums,
    sums_in,
)
from closedloop.recording.evolutions import with_evolutions
from closedloop.recording.layout import CHECKSUMS, DATA, EXPERIMENT, EXPORT, NEWEST, POINTER, SCHEMA, is_run
from closedloop.recording.older import read_older
from closedloop.recording.places import DAMAGED, Root, is_packed, root_of
from closedloop.recording.pointer import parse_pointer
from closedloop.recording.readers.netcdf import read_netcdf
from closedloop.recording.readers.nwb import read_nwb
from closedloop.recording.states import unpack_state
from closedloop.recording.store import read
from closedloop.signatures import at_door
from closedloop.yaml_text import read_yaml_text

if TYPE_CHECKING:
    import xarray as xr


@at_door
def read_pointer(path: str | Path) -> dict[str, Any]:
    """Reads how much of a run is committed.

    Raises:
        RecordingError: Nothing is committed, the pointer cannot be read, or a newer version wrote it.
    """
    try:
        pointer = parse_pointer((root_of(path) / POINTER).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RecordingError(f"{path}: {_what_it_is(Path(path))} (no {POINTER}).") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RecordingError(f"{path}: cannot read {POINTER} ({error}).") from error
    if int(pointer["schema"]) > NEWEST:
        raise RecordingError(
            f"{path}: written by a newer closedloop (schema {pointer['schema']}, this one knows {NEWEST}); update it: "
            "pip install --upgrade closedloop."
        )
    return pointer


def read_state(path: str | Path) -> State | None:
    """Reads the state of a session after the last commit of a run; None before the first.

    Raises:
        RecordingError: Not a run, or the state is missing or damaged.
    """
    return saved_state(path, read_pointer(path))


def saved_state(path: str | Path, pointer: Mapping[str, Any]) -> State | None:
    """Returns the state that a pointer names; None where it names none. Raises RecordingError if it is damaged."""
    if "state" not in pointer:
        return None
    try:
        content = (root_of(path) / pointer["state"]).read_bytes()
        if pointer.get("state_sha256", hashlib.sha256(content).hexdigest()) != hashlib.sha256(content).hexdigest():
            raise RecordingError("its checksum is not the recorded one")
        return unpack_state(content)
    except (OSError, RecordingError) as error:
        raise RecordingError(
            f"{path}: cannot go on, for {pointer['state']} cannot be read ({error}). What is recorded is safe: "
            "open_recording reads it."
        ) from error


def _what_it_is(path: Path) -> str:
    """Says what a path is that holds no committed run."""
    if is_run(path):
        return "the run has no finished generation yet"
    if is_run(path.parent) and path.name == DATA:
        return f"not a run of closedloop, but the data of one; open its folder, {path.parent}"
    if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return "not a run of closedloop, but another zarr store; open it with xarray.open_zarr"
    return "not a run of closedloop" + ("" if path.exists() else ": there is no such folder or file")


def checked_sums(path: Root, pointer: Mapping[str, Any]) -> dict[str, Sum]:
    """Returns the checksums that count, by path, after a look whether their files are there and long enough.

    Raises:
        ValueError: A file is missing or cut short, or the checksums are not those that were committed.
    """
    mark = pointer["checksums"]
    sums = read_sums(path / mark.get("file", CHECKSUMS), mark)
    sums |= {entry.path: entry for entry in map(Sum.read, pointer.get("open", ()))}
    own = {name: entry for name, entry in sums.items() if not name.startswith(BESIDE)}
    check_files(path / pointer.get("data", DATA), own)
    return own


def kept_sums(path: str | Path) -> dict[str, Sum] | None:
    """Returns the checksums of the files that a run keeps beside its data, by name.

    Those of a run without a finished generation are what `begun_lines` finds. None for a run that an older version
    began: it has no such checksums.

    Raises:
        RecordingError: The pointer or the checksums are damaged.
    """
    root = root_of(path)
    if (root / POINTER).exists():
        pointer = read_pointer(path)
        if "checksums" not in pointer:
            return None
        mark = pointer["checksums"]
        with reading(path):
            lines = read_sums(root / mark.get("file", CHECKSUMS), mark)
    else:
        file = root / CHECKSUMS
        lines = sums_in(begun_lines(file.read_bytes())) if file.is_file() else {}
    beside = (
        entry._replace(path=name.removeprefix(BESIDE)) for name, entry in lines.items() if name.startswith(BESIDE)
    )
    own = {entry.path: entry for entry in beside}
    return own if EXPERIMENT in own else None


def read_kept(path: str | Path, name: str) -> bytes | None:
    """Returns the content of a file that a run keeps beside its data; None where it keeps none of this name.

    Raises:
        RecordingError: It is missing, was changed, or does not belong to the run.
    """
    return checked_kept(path, name, kept_sums(path))


def checked_kept(path: str | Path, name: str, sums: Mapping[str, Sum] | None) -> bytes | None:
    """Does what `read_kept` does, with what `kept_sums` returned."""
    with reading(path, name):
        file = root_of(path) / name
        content = file.read_bytes() if file.is_file() else None
    if sums is None:
        return content
    if name not in sums:
        if content is not None:
            raise RecordingError(f"{path}: {name} does not belong to this run, which keeps no such file; remove it.")
        return None
    if content is None:
        if not (root_of(path) / POINTER).exists():  # it died while it was begun; the same call begins it again
            return None
        raise RecordingError(f"{path}: {name} is missing; restore it from a copy.")
    if len(content) != sums[name].size or not sums[name].fits(content):
        raise RecordingError(
            f"{path}: {name} is damaged (its checksum is not the recorded one); restore it from a copy."
        )
    return content


def check_kept(path: str | Path) -> None:
    """Looks at all files that a run keeps beside its data; raises RecordingError unless they are what was written."""
    for name in (sums := kept_sums(path) or {}):
        checked_kept(path, name, sums)
    saved_state(path, read_pointer(path))


@at_door
def read_experiment(path: str | Path) -> dict[str, Any]:
    """Reads the file that repeats a run, as a dictionary.

    Raises:
        RecordingError: It is missing or not YAML.
    """
    held = read_kept(path, EXPERIMENT)
    if held is None:
        raise RecordingError(
            f"{path}: not a run of closedloop (no {EXPERIMENT} in it), or one that died before it began."
        )
    try:
        content = read_yaml_text(held.decode(), EXPERIMENT)
    except (UnicodeDecodeError, InvalidArgumentError) as error:
        raise RecordingError(f"{path}: cannot read its experiment ({error}).") from error
    if not isinstance(content, dict):
        raise RecordingError(f"{path}: {EXPERIMENT} holds no experiment.")
    return content


@at_door
def open_recording(path: str | Path) -> xr.Dataset:
    """Opens a running, killed or finished run for reading, or an export of one. Nothing on the disk is changed.

    Args:
        path: The run's folder, the ``.zip`` it was packed into, or a file that ``closedloop export`` wrote: ``.nc`` or
            ``.nwb``.

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
    if Path(path).is_file() and not is_packed(path):
        return read_export(Path(path))
    pointer = read_pointer(path)  # first: the arrays may already hold more
    with reading(path):
        root = root_of(path)
        dataset = _committed(Path(path), root, pointer)
        experiment = (read_kept(path, EXPERIMENT) or b"").decode()
    dataset = with_evolutions(finished_dataset(dataset, pointer, experiment))
    dataset.encoding["source"] = str(Path(path).resolve())
    return dataset


def _committed(path: Path, root: Root, pointer: Mapping[str, Any]) -> xr.Dataset:
    """Reads the rows that a pointer names, with checksums where there are some."""
    name, rows = pointer.get("data", DATA), int(pointer["n_presentations"])
    if "checksums" not in pointer:  # schema 1
        return read_older(str(path / name), rows)
    sums = checked_sums(root, pointer)
    if int(pointer["schema"]) < SCHEMA:
        return read_older(CheckedStore(path / name, sums), rows)
    if isinstance(root, Path):
        return read(CheckedStore(path / name, sums), rows)
    return read(CheckedZip(path, sums, f"{name}/"), rows, name)


def finished_dataset(dataset: xr.Dataset, pointer: Mapping[str, Any], experiment: str) -> xr.Dataset:
    """Returns rows with what else is known of their run as attributes."""
    dataset.attrs = {
        "closedloop_schema": max(SCHEMA, int(pointer["schema"])),
        "n_generations": int(pointer["n_generations"]),
        "finished": int(pointer["finished"]),
        "elapsed_s": float(pointer["elapsed_s"]),
        "reason": str(pointer.get("reason", "")),
        "experiment": experiment,
    }
    dataset.encoding = {}
    return dataset


@contextmanager
def reading(path: str | Path, what: str = DATA, disk: bool = True) -> Iterator[None]:
    """Turns whatever a damaged store raises into one error; what the disk itself raises only where `disk` says so."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, *DAMAGED) as error:
        if isinstance(error, OSError) and not disk:
            raise
        raise RecordingError(f"{path}: cannot read {what} ({error}); it is incomplete or damaged.") from error


@at_door
def read_export(path: str | Path) -> xr.Dataset:
    """Reads a file that `export` wrote as "netcdf" or "nwb": the recording, value for value.

    Raises:
        RecordingError: It is another file, damaged, or written by a newer version.
        MissingExtraError: The format needs an extra.
    """
    path = Path(path)
    if path.suffix.lower() not in (".nc", ".nwb"):
        raise RecordingError(f"{path}: expected a run's folder, or a file ending in .zip, .nc or .nwb.")
    dataset = read_netcdf(path) if path.suffix.lower() == ".nc" else read_nwb(path)
    if int(dataset.attrs["closedloop_schema"]) > NEWEST:
        raise RecordingError(
            f"{path}: written by a newer closedloop (schema {dataset.attrs['closedloop_schema']}, this one knows "
            f"{NEWEST}); update it: pip install --upgrade closedloop."
        )
    with reading(path):
        schema = max(SCHEMA, int(dataset.attrs["closedloop_schema"]))
        recording = with_evolutions(dataset).assign_attrs(closedloop_schema=schema)
        recording.encoding[EXPORT] = str(path.resolve())
        return recording
