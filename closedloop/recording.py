"""What remains of an experiment: one row for each image shown, written generation by generation, safe against crashes.

A run's folder::

    run/
      LOCK             held by the process that writes
      experiment.yaml  repeats the run: closedloop evolve --config run/experiment.yaml
      data.zarr/       zarr v3 group; arrays have their final shape from the beginning, unwritten rows are NaN, -1 or ""
      state/           optimizer, random generators and progress after the last two generations
      images/          PNG of the best image of each generation (or of all)
      references/      PNG of the reference images, exactly as shown
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import xarray as xr
import yaml
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from closedloop.checksums import CheckedStore, ChecksumFile, Sum, check_files, read_sums, sums_of
from closedloop.columns import Column
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.files import PARTIAL, replace_file, replace_files, synchronize
from closedloop.images import ImageSet, encode_png, read_folder
from closedloop.interfaces import FloatArray, State, Units
from closedloop.states import pack_state, unpack_state

#: Version of the layout above; a reader refuses a newer one.
SCHEMA = 2
DATA, STATES, POINTER = "data.zarr", "state", "COMMITTED.json"
EXPERIMENT, IMAGES, REFERENCES = "experiment.yaml", "images", "references"
LOCK, NAMES, CHECKSUMS = "LOCK", "ids.json", "CHECKSUMS"
#: Coordinates of each presentation: name -> (dtype, value of an unwritten row).
PRESENTATION: dict[str, tuple[str, Any]] = {
    "thread": ("str", ""),
    "generation": ("int32", -1),
    "kind": ("str", ""),
    "stimulus_id": ("str", ""),
    "repeat": ("int32", -1),
    "onset_s": ("float64", np.nan),
}


@dataclass(frozen=True)
class Rows:
    """One generation as it is recorded: a row for each presentation.

    Attributes:
        coords: The coordinates named in `PRESENTATION` and in the layout, each ``(n,)``.
        responses: ``(n, units[, time])``.
        codes: ``(n, latent)``, NaN where the image has no code or a shorter one.
        scores: ``(n,)``, NaN where there is none.
        images: Images to keep, by stimulus id: ``(3, h, w)``.
    """

    coords: Mapping[str, NDArray[Any]]
    responses: FloatArray
    codes: FloatArray
    scores: FloatArray
    images: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Layout:
    """What must be known before the first generation is written.

    Attributes:
        capacity: Presentations that the arrays can hold; unwritten ones cost no space.
        chunk: Presentations in a chunk, about one generation.
        latent: Length of the longest code.
        units: What the subject records.
        coords: Further coordinates of each presentation: name -> (dtype, value of an unwritten row).
        scalars: What identifies the run (subject, generator, seed …): scalar coordinates, kept by `xarray.concat`.
    """

    capacity: int
    chunk: int
    latent: int
    units: Units
    scalars: Mapping[str, str | int | float]
    coords: Mapping[str, tuple[str, Any]] = field(default_factory=dict)


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
        with _writing(path):
            _check_free(path)
            path.mkdir(parents=True, exist_ok=True)
            recording = cls(path, layout)
            try:
                _check_free(path)  # again: now that it is ours, no other process can have begun in it
                _put(path / EXPERIMENT, text.encode())
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
        with _writing(path):
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
        with _reading(path):
            if "checksums" in self._pointer:  # a run of schema 1 goes on without
                check_files(path / DATA, _sums(path, self._pointer))
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
        return None if self.path is None else _saved_state(self.path, self._pointer)

    def append(self, rows: Rows, state: State) -> None:
        """Writes one generation and commits it together with the state that follows it.

        Raises:
            RecordingError: The disk is full or cannot be written; what was committed before stays as it was.
        """
        start = self.n_presentations
        with _writing(self.path):
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
            with _writing(self.path):
                _put(self.path / name, data)

    def finish(self, state: State, reason: str = "") -> None:
        """Marks the run as finished, and says why it ended."""
        with _writing(self.path):
            self._commit({**self._pointer, "finished": True, "reason": reason}, state)

    def _image_files(self, rows: Rows) -> dict[Path, bytes]:
        """The files of the images to keep."""
        if self.path is None or not rows.images:
            return {}
        folder = self.path / IMAGES
        folder.mkdir(exist_ok=True)
        return {folder / f"{name}.png": encode_png(image) for name, image in rows.images.items()}

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
        _put(self.path / POINTER, (json.dumps(pointer, indent=1) + "\n").encode())
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
        return _dataset(self._memory, self._pointer, self._experiment)

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
    n, chunk = layout.capacity, layout.chunk  # what is narrow has longer chunks: fewer files to read back

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
    coords = {**PRESENTATION, **layout.coords}
    for name, (dtype, fill) in coords.items():
        along(name, dtype, fill)
    neuroid = {"neuroid_id": layout.units.neuroid_id, **layout.units.coords}
    for name, column in neuroid.items():
        _create_coordinate(group, name, column, ("neuroid",))
    for name, scalar in layout.scalars.items():
        _create_coordinate(group, name, scalar, ())
    group.attrs["coordinates"] = " ".join([*coords, *neuroid, *layout.scalars])
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
    if not {entry.name for entry in path.iterdir()} <= {LOCK, EXPERIMENT + PARTIAL}:
        raise RecordingError(
            f"save: expected a new or empty folder, got {path}, which holds something; choose another name"
            + (f", or go on with it: closedloop resume {path}" if is_run(path) else "")
            + "."
        )


def is_run(path: str | Path) -> bool:
    """Whether a folder is a run of closedloop."""
    return (Path(path) / EXPERIMENT).is_file()


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
    return _saved_state(Path(path), read_pointer(path))


def _saved_state(path: Path, pointer: Mapping[str, Any]) -> State | None:
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


def _sums(path: Path, pointer: Mapping[str, Any]) -> dict[str, Sum]:
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
        "reference" or "retest"), `stimulus_id`, `repeat`, `onset_s` on presentations, and what identifies the run as
        scalar coordinates. ``attrs["experiment"]`` is the file that repeats the run.

    Raises:
        RecordingError: Not a run, nothing committed yet, or damaged. What is lost or changed in a chunk is noticed when
            its values are read.
        MissingExtraError: The format of an export needs an extra.
    """
    if Path(path).is_file():
        from closedloop.exports import read_export  # here, for it needs libraries of its own

        return read_export(Path(path))
    pointer = read_pointer(path)  # first: the arrays may already hold more
    with _reading(path):
        experiment = (Path(path) / EXPERIMENT).read_text(encoding="utf-8")
        dataset = _dataset(_store(Path(path), pointer), pointer, experiment)
    dataset.encoding["source"] = str(Path(path).resolve())
    return dataset


def _store(path: Path, pointer: Mapping[str, Any]) -> Any:
    """What zarr reads a run from: its folder, with checksums where there are some."""
    if "checksums" not in pointer:
        return str(path / DATA)
    sums = _sums(path, pointer)
    check_files(path / DATA, sums)
    return CheckedStore(path / DATA, sums)


def _dataset(store: Any, pointer: Mapping[str, Any], experiment: str) -> xr.Dataset:
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
    return dataset


def _plain_text(dataset: xr.Dataset) -> dict[Any, xr.Variable]:
    """The coordinates, text as Python's own: netCDF and pandas do not yet understand numpy's new type of text."""
    variables = {name: dataset.variables[name] for name in dataset.coords}
    return {n: v.astype(object) if v.dtype.kind == "T" else v for n, v in variables.items()}


def write_references(path: Path, references: ImageSet) -> None:
    """Keeps the reference images beside the data, exactly as they are shown; once, the list of names last."""
    with _writing(path):
        folder = path / REFERENCES
        if (folder / NAMES).exists():
            return
        folder.mkdir(exist_ok=True)
        named = enumerate(zip(references.ids, references.images, strict=True))
        replace_files({folder / f"{i:05d}_{_file_name(name)}.png": encode_png(image) for i, (name, image) in named})
        _put(folder / NAMES, json.dumps(references.ids).encode())


def read_references(path: Path) -> ImageSet | None:
    """The reference images of a run; None if it has none.

    Raises:
        RecordingError: They are damaged.
    """
    return stored_references(path / REFERENCES)


def stored_references(folder: Path) -> ImageSet | None:
    """The images of a folder that `write_references` wrote, under their own names; None for any other folder.

    Raises:
        RecordingError: They are damaged.
    """
    if not (folder / NAMES).exists():
        return None
    try:
        ids = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        with Image.open(min(folder.glob("*.png"))) as first:
            resolution = first.height
        return ImageSet(tuple(ids), read_folder(folder, resolution).images)
    except (OSError, ValueError, TypeError) as error:
        raise RecordingError(f"{folder}: cannot read the reference images ({error}).") from error


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]


def version() -> str:
    """The installed version of closedloop."""
    return metadata.version("closedloop")


def _locked(path: Path) -> FileLock:
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RecordingError(f"{path}: another process is writing this run; wait for it, or stop it.") from None
    return lock


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turns whatever a damaged store raises into one error."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise RecordingError(f"{path}: cannot read {DATA} ({error}); it is incomplete or damaged.") from error


@contextmanager
def _writing(path: Path | None) -> Iterator[None]:
    """Turns the operating system's errors into one that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        safe = "No run was begun; make room, or choose another folder."
        if path is not None and is_run(path):
            safe = f"Every finished generation is safe; make room, then go on with: closedloop resume {path}"
        raise RecordingError(f"{path}: cannot write ({error.strerror or error}). {safe}") from error


def _put(path: Path, data: bytes) -> None:
    """Replaces a file, and makes its name last."""
    replace_file(path, data)
    synchronize(path.parent)
