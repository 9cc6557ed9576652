"""What remains of an experiment: one row for each image shown, written generation by generation, safe against crashes.

A run's folder::

    run/
      LOCK             held by the process that writes
      experiment.yaml  repeats the run: closedloop evolve --config run/experiment.yaml
      data.zarr/       zarr v3 group; arrays have their final shape from the beginning, unwritten rows are NaN, -1 or ""
      state/           optimizer, random generators and progress after the last two generations
      images/          PNG of the best image of each generation (or of all); of movies animated WebP, without loss
      references/      PNG of the reference images, exactly as shown; of movies animated WebP
      CHECKSUMS        SHA-256 of each file of data.zarr, up to its last committed row
      COMMITTED.json   how many rows and checksums count; replacing this file is the only commit

The arrays of a generation, their checksums and the state are brought to the disk, side by side; then the pointer
``COMMITTED.json`` is replaced atomically. Readers look at the pointer first and never see more than it names, so a run
can be read while it goes on, and a process killed at any moment loses at most the generation under way. A file that is
lost, cut short or changed is an error when it is read, never a lost presentation.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import xarray as xr
import yaml
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.files import PARTIAL, put_file, replace_files, synchronize
from closedloop.images.movies import encode_image
from closedloop.interfaces import FloatArray, State, Units
from closedloop.recording.checksums import ChecksumFile, Sum, check_files, sums_of
from closedloop.recording.chunks import Column
from closedloop.recording.layout import (
    CHECKSUMS,
    DATA,
    EARLIER,
    EVOLUTION,
    EXPERIMENT,
    IMAGES,
    LOCK,
    POINTER,
    PRESENTATION,
    SCHEMA,
    STATES,
    Layout,
    Rows,
    is_run,
    writing,
)
from closedloop.recording.reader import (
    committed_dataset,
    open_recording,
    read_committed_sums,
    read_pointer,
    reading,
    saved_state,
)
from closedloop.recording.states import pack_state


@final
class Recording:
    """Writes a run; one writer at a time. Without a folder it is kept in memory.

    Use `create` for a new run and `reopen` to go on with one; both hold the folder's lock until `close`.
    """

    def __init__(self, path: Path | None, layout: Layout | None = None, experiment: str = "") -> None:
        self.path = path
        self._experiment = experiment
        self._layout = layout
        self._lock = None if path is None else _locked(path)
        self._arrays: dict[str, Any] = {}
        self._columns: dict[str, Column] = {}
        self._neuroids: tuple[str, ...] | None = None
        self._memory = zarr.storage.MemoryStore() if path is None else None
        self._pending: list[dict[str, NDArray[Any]]] = []
        self._checksums: ChecksumFile | None = None
        self._pointer: dict[str, Any] = {"schema": SCHEMA, "n_presentations": 0, "n_generations": 0, "finished": False}
        self._started = time.monotonic()

    @classmethod
    def create(cls, save: str | Path | None, layout: Layout, experiment: Mapping[str, Any]) -> Recording:
        """Makes the run's folder with the file that repeats it.

        Raises:
            RecordingError: The folder exists and is not empty, or cannot be made.
        """
        text = yaml.safe_dump(dict(experiment), sort_keys=False, allow_unicode=True)
        if save is None:
            return cls(None, layout, text)
        path = Path(save)
        with writing(path):
            _check_free(path)
            path.mkdir(parents=True, exist_ok=True)
            recording = cls(path, layout)
            try:
                _check_free(path)  # again: now that it is ours, no other process can have begun in it
                put_file(path / EXPERIMENT, text.encode())
            except BaseException:
                recording.close()
                raise
        return recording

    @classmethod
    def reopen(cls, path: str | Path) -> Recording:
        """Takes up a run where its last commit left it.

        Raises:
            RecordingError: No such run, or another process is writing it.
        """
        path = Path(path)
        if not is_run(path):
            raise RecordingError(f"{path}: not a run of closedloop (no {EXPERIMENT} in it).")
        with writing(path):
            recording = cls(path)
        try:
            if (path / POINTER).exists():
                recording._take_up(path)
        except BaseException:
            recording.close()
            raise
        return recording

    def _take_up(self, path: Path) -> None:
        """Goes to the last commit."""
        self._pointer = read_pointer(path)
        with reading(path):
            if "checksums" in self._pointer:  # a run of schema 1 goes on without
                check_files(path / DATA, read_committed_sums(path, self._pointer))
                self._checksums = ChecksumFile(path / CHECKSUMS, self._pointer["checksums"])
            group = zarr.open_group(path / DATA, mode="r+")
            self._use_arrays(group)
            self._neuroids = tuple(np.asarray(group["neuroid_id"]).tolist())
            missing = ({"responses", "score"} | PRESENTATION.keys()) - self._arrays.keys()
            if missing:
                raise ValueError(f"no array {sorted(missing)[0]!r}")
        self._started = time.monotonic() - self._pointer["elapsed_s"]

    def use(self, layout: Layout) -> None:
        """Sets the layout of a run that was reopened before its first commit."""
        self._layout = layout

    @property
    def n_presentations(self) -> int:
        """Rows committed so far."""
        return int(self._pointer["n_presentations"])

    def check_units(self, units: Units) -> None:
        """Looks at a subject's units before a reopened run goes on with it.

        Raises:
            InvalidArgumentError: They are not those that are recorded.
        """
        if self._neuroids is not None and units.neuroid_id != self._neuroids:
            expected, got = (
                ", ".join(ids[:4]) + (", …" if len(ids) > 4 else "") for ids in (self._neuroids, units.neuroid_id)
            )
            raise InvalidArgumentError(f"subject: expected the units of the run, {expected}; got {got}.")

    def check(self, responses: FloatArray) -> None:
        """Looks at responses before anything is learnt from them.

        Raises:
            SubjectError: A response ``(units[, time])`` has another shape than those that are recorded.
        """
        before = self._arrays["responses"].shape[1:] if self._arrays else responses.shape[1:]
        if responses.shape[1:] != before:
            raise SubjectError(
                f"subject: expected responses of shape {before} for each image, as before, got {responses.shape[1:]}."
            )

    def state(self) -> State | None:
        """The state saved with the last commit; None before the first.

        Raises:
            RecordingError: It is missing or damaged; what is recorded can still be read.
        """
        return None if self.path is None else saved_state(self.path, self._pointer)

    def append(self, rows: Rows, state: State) -> None:
        """Writes one generation and commits it together with the state that follows it.

        Raises:
            RecordingError: The disk is full or cannot be written; what was committed before stays as it was.
        """
        start = self.n_presentations
        with writing(self.path):
            files = self._image_files(rows) | self._set_rows(start, rows)
            generation = int(self._pointer["n_generations"]) + 1
            pointer = {
                **self._pointer,
                "n_presentations": start + len(rows),
                "n_generations": generation,
            }
            self._commit(pointer, state, files)

    def keep(self, name: str, data: bytes) -> None:
        """Keeps a further file in the run's folder, before the first generation; in memory there is none.

        Raises:
            RecordingError: The disk is full or cannot be written.
        """
        if self.path is not None:
            with writing(self.path):
                put_file(self.path / name, data)

    def finish(self, state: State, reason: str = "") -> None:
        """Marks the run as finished, and says why it ended."""
        with writing(self.path):
            self._commit({**self._pointer, "finished": True, "reason": reason}, state)

    def _image_files(self, rows: Rows) -> dict[Path, bytes]:
        """The files of the images to keep."""
        if self.path is None or not rows.images:
            return {}
        folder = self.path / IMAGES
        folder.mkdir(exist_ok=True)
        encoded = {name: encode_image(image, rows.rate_hz) for name, image in rows.images.items()}
        return {folder / f"{name}{ending}": data for name, (ending, data) in encoded.items()}

    def _set_rows(self, start: int, rows: Rows) -> dict[Path, bytes]:
        """The chunk files with the rows in them; their checksums are written."""
        sums: list[Sum] = []
        files: dict[Path, bytes] = {}
        if not self._arrays:
            self._use_arrays(self._make_group(rows))
            if self.path is not None:
                self._checksums = ChecksumFile(self.path / CHECKSUMS)
        if self.path is not None and self._checksums is not None and start == 0:
            sums = sums_of(self.path / DATA)
        capacity, stop = self._arrays["score"].shape[0], start + len(rows)
        if stop > capacity:
            raise RecordingError(f"recording: expected at most {capacity} presentations, got {stop}.")
        values = {**rows.coords, "responses": rows.responses, "score": rows.scores, "latent_code": rows.codes}
        values |= rows.variables
        for name, array in self._arrays.items():
            value = values[name]
            if value.shape[1:] != array.shape[1:]:
                raise RecordingError(
                    f"recording: {name} had shape {array.shape[1:]} for each presentation before, now "
                    f"{value.shape[1:]}."
                )
            value = value.astype(object) if value.dtype.kind == "U" else value
            if self.path is not None:
                chunks = self._columns[name].set(start, value)
                files |= {chunk.path: chunk.data for chunk in chunks}
                sums += [chunk.sum for chunk in chunks]
            values[name] = value
        if self.path is None:
            self._pending.append({name: np.array(values[name]) for name in self._arrays})
        if self._checksums is not None:
            self._checksums.write(sums)
        return files

    def _use_arrays(self, group: zarr.Group) -> None:
        """Takes the arrays of a group as those to write to."""
        self._arrays = _row_arrays(group)
        if self.path is not None:
            self._columns = {name: Column(self.path / DATA / name, array) for name, array in self._arrays.items()}

    def _make_group(self, rows: Rows) -> zarr.Group:
        """Creates the arrays at their final shape, under a temporary name until all are there."""
        if self._layout is None:
            raise RecordingError("recording: no layout; call use() first.")
        if self.path is None:
            group = zarr.open_group(self._memory, mode="w")
            _create_arrays(group, self._layout, rows)
            return group
        temporary = self.path / (DATA + PARTIAL)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.path / DATA, ignore_errors=True)  # uncommitted: there is no pointer yet
        _create_arrays(zarr.open_group(temporary, mode="w"), self._layout, rows)
        for path in temporary.rglob("*"):
            synchronize(path)
        temporary.replace(self.path / DATA)
        synchronize(self.path)
        return zarr.open_group(self.path / DATA, mode="r+")

    def _commit(
        self, pointer: dict[str, Any], state: State, files: Mapping[Path, bytes] = MappingProxyType({})
    ) -> None:
        """Brings all files to the disk, then names them in the pointer."""
        pointer["elapsed_s"] = round(time.monotonic() - self._started, 3)
        if self.path is None:
            self._pointer = pointer
            return
        name = f"{STATES}/{pointer['n_generations']:06d}.npz"
        (self.path / STATES).mkdir(exist_ok=True)
        replace_files({**files, self.path / name: pack_state(state)})
        synchronize(self.path / STATES)
        pointer["state"] = name
        if self._checksums is not None:
            pointer["checksums"] = self._checksums.mark
        put_file(self.path / POINTER, (json.dumps(pointer, indent=1) + "\n").encode())
        self._pointer = pointer
        if self._checksums is not None:
            self._checksums.keep()
        for old in sorted((self.path / STATES).glob("*.npz"))[:-2]:
            old.unlink(missing_ok=True)

    def dataset(self) -> xr.Dataset:
        """What is committed, as an xarray Dataset."""
        if not self._arrays:
            raise RecordingError("recording: nothing is recorded yet.")
        if self.path is not None:
            return open_recording(self.path)
        self._settle()
        return committed_dataset(self._memory, self._pointer, self._experiment)

    def _settle(self) -> None:
        """Writes what waits in memory into the arrays, all of it at once: writing row by row costs far more."""
        waiting, self._pending = self._pending, []
        stop = self.n_presentations
        for name in self._arrays if waiting else ():
            values = np.concatenate([rows[name] for rows in waiting])
            self._arrays[name][stop - len(values) : stop] = values

    def close(self) -> None:
        """Gives the folder's lock back."""
        if self._lock is not None:
            self._lock.release()


def _row_arrays(group: zarr.Group) -> dict[str, Any]:
    """The arrays that have a row for each presentation."""
    arrays: dict[str, Any] = dict(group.arrays())
    return {n: a for n, a in arrays.items() if (a.metadata.dimension_names or ("",))[0] == "presentation"}


def _create_arrays(group: zarr.Group, layout: Layout, rows: Rows) -> None:
    """All arrays of a run at their final shape."""
    n, chunk = layout.capacity, min(layout.capacity, 64)  # what is narrow has longer chunks: fewer files to read back

    def along(name: str, dtype: str, fill: Any, shape: tuple[int, ...] = (), dims: tuple[str, ...] = ()) -> None:
        group.create_array(
            name,
            shape=(n, *shape),
            chunks=(chunk if shape else max(chunk, 1024), *shape),
            dtype=dtype,
            fill_value=fill,
            compressors=None,
            dimension_names=("presentation", *dims),
        )

    time_axis = ("time_bin",) * (rows.responses.ndim - 2)
    along("responses", rows.responses.dtype.name, np.nan, rows.responses.shape[1:], ("neuroid", *time_axis))
    if layout.latent:
        along("latent_code", "float64", np.nan, (layout.latent,), ("latent",))
    along("score", "float64", np.nan)
    for name, variable in layout.variables.items():
        along(name, variable.dtype, variable.fill, variable.shape, variable.dims)
    coords = {**PRESENTATION, **layout.coords}
    for name, (dtype, fill) in coords.items():
        along(name, dtype, fill)
    neuroid = {"neuroid_id": layout.units.neuroid_id, **layout.units.coords}
    for name, column in neuroid.items():
        _create_coordinate(group, name, column, ("neuroid",))
    for name, scalar in layout.scalars.items():
        _create_coordinate(group, name, scalar, ())
    for name, texts in layout.evolutions.items():
        _create_coordinate(group, name, list(texts), (EVOLUTION,))
    group.attrs["coordinates"] = " ".join([*coords, *neuroid, *layout.scalars, *layout.evolutions])
    group.attrs["closedloop_schema"] = SCHEMA


def _create_coordinate(group: zarr.Group, name: str, value: Any, dims: tuple[str, ...]) -> None:
    array = np.asarray(value)
    text = array.dtype.kind in "UO"
    target = group.create_array(
        name, shape=array.shape, dtype="str" if text else array.dtype.name, compressors=None, dimension_names=dims
    )
    target[...] = array.astype(str).astype(object) if text else array


def _check_free(path: Path) -> None:
    """Raises unless a run can begin in a folder: it is new, empty, or was left by a run that died at its birth."""
    if not path.exists():
        return
    if not path.is_dir():
        raise RecordingError(f"save: expected a new or empty folder, got {path}, which is a file; choose another name.")
    if not {entry.name for entry in path.iterdir()} <= {LOCK, EXPERIMENT + PARTIAL, EARLIER}:
        raise RecordingError(
            f"save: expected a new or empty folder, got {path}, which holds something; choose another name"
            + (f", or go on with it: closedloop resume {path}" if is_run(path) else "")
            + "."
        )


def _locked(path: Path) -> FileLock:
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RecordingError(f"{path}: another process is writing this run; wait for it, or stop it.") from None
    return lock
