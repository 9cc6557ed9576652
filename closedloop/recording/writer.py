"""What remains of an experiment: one row for each image shown, written generation by generation, safe against crashes.

A run's folder::

    run/
      LOCK             held by the process that writes
      experiment.yaml  repeats the run: closedloop evolve --config run/experiment.yaml
      data.zarr/       zarr v3 group of few arrays, at their final shape from the start: `closedloop.recording.store`
      state/           optimizer, random generators and progress after the last two generations
      images/          PNG of the best image of each generation (or of all)
      references/      PNG of the reference images, exactly as shown
      NOTICES.jsonl    what a person was told while it went on, if anything: `closedloop.recording.notes`
      SUMMARY.json     what a finished run found, for catalogues: `closedloop.recording.summaries`
      CHECKSUMS        SHA-256 of each file of data.zarr that does not change any more, and of those beside it
      COMMITTED.json   how many rows and checksums count; replacing this file is the only commit

The rows of a generation are written behind those that are committed, in place, and brought to the disk side by side
with the state; then the pointer ``COMMITTED.json`` is replaced atomically. It names how many rows count, and the
checksums of the chunks that have room for more. Readers look at the pointer first and never see more than it names, so
a run can be read while it goes on, and a process killed at any moment loses at most the generation under way: what it
left behind the committed rows is not read, and is written over. A file that is lost, cut short or changed is an error
when it is read, never a lost presentation.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import narrowed
from closedloop.errors import InvalidArgumentError, RecordingError, SubjectError
from closedloop.files import (
    PARTIAL,
    can_be_path,
    do_together,
    make_folders,
    meanwhile,
    put_file,
    remove,
    remove_empty,
    replace_file,
    replace_files,
    synchronize,
)
from closedloop.images.movies import encode_image
from closedloop.interfaces import FloatArray, State, Units
from closedloop.readable import counted
from closedloop.recording import older
from closedloop.recording.checksums import BESIDE, ChecksumFile, Sum, sums_of
from closedloop.recording.chunks import committed_chunks
from closedloop.recording.layout import (
    CHECKSUMS,
    DATA,
    EARLIER,
    END,
    EXPERIMENT,
    IMAGES,
    LOCK,
    NOTICES,
    POINTER,
    REFERENCES,
    SCHEMA,
    STATES,
    SUMMARY,
    Layout,
    Rows,
    is_run,
    writing,
)
from closedloop.recording.lean import responses_of
from closedloop.recording.notes import add_note, notes_size
from closedloop.recording.ownership import OwnFolder
from closedloop.recording.places import is_packed
from closedloop.recording.pointer import pointer_bytes
from closedloop.recording.reader import (
    checked_sums,
    finished_dataset,
    kept_sums,
    open_recording,
    read_pointer,
    reading,
    saved_state,
)
from closedloop.recording.states import copied, pack_state
from closedloop.recording.store import (
    Store,
    assembled,
    check_rows,
    columns_of,
    create,
    described,
    kept_columns,
    row_values,
)
from closedloop.signatures import at_door
from closedloop.yaml_text import yaml_text

if TYPE_CHECKING:
    import xarray as xr


@final
class Recording:
    """Writes a run; one writer at a time. Without a folder it is kept in memory.

    Use `create` for a new run and `reopen` to go on with one; both hold the folder's lock until `close`.
    """

    @at_door
    def __init__(self, path: str | Path | None, layout: Layout | None = None, experiment: str = "") -> None:
        path = None if path is None else Path(path)
        self.path: Path | None = path
        self._experiment = experiment
        self._layout = layout
        self._own = None if path is None else OwnFolder(path)
        self._store: Store | None = None
        self._memory: _Memory | None = None
        self._neuroids: tuple[str, ...] | None = None
        self._checksums: ChecksumFile | None = None
        self._made: list[Path] | None = None
        self._kept: Mapping[str, Sum] | None = None
        self._open: list[Sum] = []
        self._uncounted: list[Sum] = []
        schema = SCHEMA if layout is None else layout.schema
        self._pointer: dict[str, Any] = {"schema": schema, "n_presentations": 0, "n_generations": 0, "finished": False}
        self._started = time.monotonic()

    @classmethod
    def create(cls, save: str | Path | None, layout: Layout, experiment: Mapping[str, Any]) -> Recording:
        """Makes the run's folder with the file that repeats it.

        Raises:
            RecordingError: The folder exists and is not empty, or cannot be made.
        """
        text = yaml_text(dict(experiment))
        if save is None:
            return cls(None, layout, text)
        path = Path(save)
        if not can_be_path(path):
            raise RecordingError(f"save: no folder can have the name {str(path)!r}; choose another.")
        with writing(path):
            _check_free(path)
            made = make_folders(path)
            recording = cls(path, layout)
            recording._made = made
            try:
                _check_free(path)  # again: now that it is ours, no other process can have begun in it
                _clear(path)
                recording._kept, recording._checksums = {}, ChecksumFile(path / CHECKSUMS)
                recording.keep(EXPERIMENT, text.encode())
            except BaseException:
                recording.discard()
                raise
        return recording

    @classmethod
    def reopen(cls, path: str | Path) -> Recording:
        """Takes up a run where its last commit left it.

        Raises:
            RecordingError: No such run, or another process is writing it.
        """
        path = Path(path)
        if is_packed(path):
            raise RecordingError(f"{path}: a packed run is only read; unpack it into a folder to go on with it.")
        if not is_run(path):
            raise RecordingError(f"{path}: not a run of closedloop (no {EXPERIMENT} in it).")
        with writing(path):
            recording = cls(path)
        try:
            recording._kept = kept_sums(path)
            if (path / POINTER).exists():
                recording._take_up(path)
            elif recording._kept is not None:
                recording._checksums = ChecksumFile.of_begun(path / CHECKSUMS)
        except BaseException:
            recording.close()
            raise
        return recording

    def _take_up(self, path: Path) -> None:
        """Goes to the last commit; a run of an older schema is copied into the layout of today first."""
        self._pointer = read_pointer(path)
        if int(self._pointer["schema"]) < SCHEMA:
            recording = open_recording(path)
            with writing(path), reading(path, disk=False):
                self._pointer = older.copied(path, self._pointer, recording)
                self._put_pointer(path)
                older.remove_old(path)
        with reading(path):
            sums = checked_sums(path, self._pointer)
            mark = self._pointer["checksums"]
            self._checksums = ChecksumFile(path / mark.get("file", CHECKSUMS), mark)
            self._open = [Sum.read(line) for line in self._pointer["open"]]
            data = path / self._pointer.get("data", DATA)
            self._store = Store(data, committed_chunks(list(sums.values())), sums)
            self._neuroids = tuple(self._store.attributes["neuroid"]["neuroid_id"]["values"])
        self._started = time.monotonic() - self._pointer["elapsed_s"]

    def use(self, layout: Layout) -> None:
        """Sets the layout of a run that was reopened before its first commit."""
        self._layout = layout
        self._pointer["schema"] = layout.schema

    @property
    def n_presentations(self) -> int:
        """Rows committed so far."""
        return int(self._pointer["n_presentations"])

    @property
    def n_generations(self) -> int:
        """Blocks committed so far."""
        return int(self._pointer["n_generations"])

    def what_is_safe(self) -> str:
        """Returns words for a person who stops the run: what is finished, where it lies, and how to go on."""
        if self.path is None:
            return "The run was kept in memory alone."
        if not self.n_presentations:
            return f"No generation was finished; begin again in the same folder, {self.path}."
        return (
            f"{counted(self.n_generations, 'finished generation')} ({counted(self.n_presentations, 'presentation')}) "
            f"{'is' if self.n_generations == 1 else 'are'} safe in "
            f"{self.path}; go on with: closedloop resume {self.path}"
        )

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
            SubjectError: A response ``(units[, time])`` has another shape than those that are recorded, or a type that
                the type of those cannot hold.
        """
        written = self._store or self._memory
        if written is None:
            return
        if responses.shape[1:] != written.shape:
            raise SubjectError(
                f"subject: expected responses of shape {written.shape} for each image, as before, got "
                f"{responses.shape[1:]}."
            )
        narrowed("subject: responses", responses, written.dtype, SubjectError)

    def state(self) -> State | None:
        """Returns the state saved with the last commit; None before the first.

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
        pointer = {
            **self._pointer,
            "n_presentations": start + len(rows),
            "n_generations": int(self._pointer["n_generations"]) + 1,
        }
        if self.path is None:
            self._memory = self._memory or _Memory(self._known_layout(), rows)
            self._memory.append(rows)
            self._pointer = self._timed(pointer)
            return
        with self.writing():
            store = self._store or self._begin(self.path, rows)
            appended = store.append(start, row_values(rows))
            tasks = [task for one in appended for task in one.tasks]
            full = [entry for one in appended for entry in one.full]
            rooms = [one.open for one in appended if one.open is not None]
            writing_images, image_sums = self._image_tasks(rows)
            self._commit(pointer, state, [*tasks, *writing_images], [*full, *image_sums], rooms)
            store.keep()

    @contextmanager
    def appending(self, rows: Rows, state: State) -> Iterator[None]:
        """Does what `append` does beside what is done within, and is left when the generation is committed.

        What is done within may go on with all that the state was taken from, and neither looks at this recording nor
        writes in its folder.

        Raises:
            RecordingError: The disk is full or cannot be written; what was committed before stays as it was.
        """
        if self.path is None:
            self.append(rows, state)
            yield
        else:
            with meanwhile(partial(self.append, rows, copied(state))):
                yield

    def keep(self, name: str, data: bytes) -> None:
        """Keeps a further file in the run's folder, before the first generation; see `keep_files`."""
        self.keep_files({name: data})

    def keep_files(self, files: Mapping[str, bytes]) -> None:
        """Keeps further files in the run's folder, before the first generation; in memory there are none.

        They are under checksums: `closedloop.recording.reader.read_kept` reads them. Those that are kept already stay.

        Args:
            files: Contents by name, relative to the folder. The last one is written when all others are there.

        Raises:
            RecordingError: The run keeps another file of that name, the disk is full or cannot be written.
        """
        if self.path is None:
            return
        sums = [Sum.of(name, data) for name, data in files.items()]
        with self.writing():
            if any(self._kept is not None and self._kept.get(entry.path) != entry for entry in sums):
                self._list_kept(sums)
            missing = {self.path / e.path: files[e.path] for e in sums if not _holds(self.path / e.path, e)}
            for folder in {path.parent for path in missing}:
                folder.mkdir(exist_ok=True)
            *others, last = missing or [None]
            replace_files({path: missing[path] for path in others if path is not None})
            if last is not None:
                put_file(last, missing[last])

    @property
    def has_notes(self) -> bool:
        """Whether a person was told anything so far."""
        return self.path is not None and notes_size(self.path) > 0

    def note(self, entry: Mapping[str, Any]) -> None:
        """Adds to what a person was told; nothing of it counts, so what cannot be written ends no experiment."""
        if self.path is None:
            return
        with suppress(OSError, RecordingError):
            self._check_own()
            add_note(self.path, entry)

    def _list_kept(self, sums: Sequence[Sum]) -> None:
        """Writes down the checksums of files that are kept from the beginning, before the files themselves."""
        if self._checksums is None or self.n_presentations:
            raise RecordingError(f"{self.path}: it was begun with another {sums[0].path}; nothing was changed.")
        self._checksums.write(entry._replace(path=BESIDE + entry.path) for entry in sums)
        self._checksums.keep()
        self._kept = {**(self._kept or {}), **{entry.path: entry for entry in sums}}

    def finish(self, state: State, reason: str = "", summary: bytes | None = None) -> None:
        """Marks the run as finished, says why it ended, and with the same commit what it found.

        Args:
            state: What a call that goes on with it finds.
            reason: Why it ended, in words.
            summary: See `closedloop.recording.summaries`; none in memory.
        """
        pointer = {**self._pointer, "finished": True, "reason": reason}
        if self.path is None:
            self._pointer = self._timed(pointer)
            return
        with self.writing():
            tasks, sums = self._summary_task(self.path, summary)
            self._commit(pointer, state, tasks, [*self._open, *sums], [])
            remove(self.path / END)

    def _summary_task(self, path: Path, summary: bytes | None) -> tuple[list[Callable[[], None]], list[Sum]]:
        """Writes the summary; with its checksum, where the run has such of the files beside its data."""
        if summary is None:
            return [], []
        sums = [] if self._kept is None else [Sum.of(BESIDE + SUMMARY, summary)]
        return [partial(replace_file, path / SUMMARY, summary)], sums

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Is entered to write in the run's folder, which must still be its own.

        Raises:
            RecordingError: It was moved, removed or replaced, the disk is full, or it cannot be written.
        """
        with writing(self.path):
            self._check_own()
            yield

    def _check_own(self) -> None:
        """Raises unless the folder is still that of this run; nothing is written."""
        if self._own is not None:
            self._own.check()

    def _image_tasks(self, rows: Rows) -> tuple[list[Callable[[], None]], list[Sum]]:
        """Returns tasks that write the images to keep; with their checksums, where the run has such."""
        if self.path is None or not rows.images:
            return [], []
        (self.path / IMAGES).mkdir(exist_ok=True)
        encoded = {name: encode_image(image, rows.rate_hz) for name, image in rows.images.items()}
        files = {f"{IMAGES}/{name}{ending}": data for name, (ending, data) in encoded.items()}
        sums = [] if self._kept is None else [Sum.of(BESIDE + name, data) for name, data in files.items()]
        return [partial(replace_file, self.path / name, data) for name, data in files.items()], sums

    def _known_layout(self) -> Layout:
        if self._layout is None:
            raise RecordingError("recording: no layout; call use() first.")
        return self._layout

    def _begin(self, path: Path, rows: Rows) -> Store:
        """Makes the store, under a temporary name until all of it is there."""
        layout = self._known_layout()
        temporary = path / (DATA + PARTIAL)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(path / DATA, ignore_errors=True)  # uncommitted: there is no pointer yet
        create(temporary, layout, columns_of(layout, rows), rows.bins)
        for place in temporary.rglob("*"):
            synchronize(place)
        temporary.replace(path / DATA)
        synchronize(path)
        self._store = Store(path / DATA, {})
        self._checksums = self._checksums or ChecksumFile(path / CHECKSUMS)
        self._uncounted = sums_of(path / DATA)
        return self._store

    def _commit(
        self,
        pointer: dict[str, Any],
        state: State,
        tasks: Sequence[Callable[[], None]],
        full: Sequence[Sum],
        rooms: Sequence[Sum],
    ) -> None:
        """Brings all to the disk, then names it in the pointer.

        Args:
            pointer: What counts then, but for state and checksums.
            state: What follows.
            tasks: Write rows and images.
            full: Checksums of files that do not change any more.
            rooms: Checksums of the chunks with room for more rows.
        """
        if self.path is None or self._checksums is None or self._store is None:
            raise RecordingError("recording: nothing is recorded yet.")
        name, lines = f"{STATES}/{pointer['n_generations']:06d}.npz", [*self._uncounted, *full]
        (self.path / STATES).mkdir(exist_ok=True)
        saved = pack_state(state)
        saving = partial(replace_file, self.path / name, saved)
        do_together([*tasks, saving, *([partial(self._checksums.write, lines)] if lines else [])])
        synchronize(self.path / STATES)
        if lines:
            pointer["checksums"] = {**pointer.get("checksums", {}), **self._checksums.mark}
        before = self._pointer
        self._pointer = {
            **self._timed(pointer),
            "state": name,
            "state_sha256": hashlib.sha256(saved).hexdigest(),
            "open": [entry.line().rstrip("\n") for entry in rooms],
        }
        try:
            self._put_pointer(self.path)
        except BaseException:
            if (self.path / POINTER).exists() and read_pointer(self.path) == self._pointer:
                before = self._pointer  # it failed after the pointer was in place
            self._pointer = before
            raise
        if self._own is not None:
            self._own.note()
        if lines:
            self._checksums.keep()
        self._open, self._uncounted = list(rooms), []
        for old in sorted((self.path / STATES).glob("*.npz"))[:-2]:
            old.unlink(missing_ok=True)

    def _timed(self, pointer: dict[str, Any]) -> dict[str, Any]:
        return {**pointer, "elapsed_s": round(time.monotonic() - self._started, 3)}

    def _put_pointer(self, path: Path) -> None:
        self._check_own()
        put_file(path / POINTER, pointer_bytes(self._pointer))

    def dataset(self) -> xr.Dataset:
        """Returns what is committed, as an xarray Dataset."""
        if self.path is not None and self._store is not None:
            return open_recording(self.path)
        if self._memory is None:
            raise RecordingError("recording: nothing is recorded yet.")
        return finished_dataset(self._memory.dataset(), self._pointer, self._experiment)

    def discard(self, whole: bool = False) -> None:
        """Removes a run that was begun by this process and holds no generation, and gives its folder back.

        Of another one, and of a folder that is no longer its own, only the lock is given back.

        Args:
            whole: Whether one with generations is removed, too.
        """
        try:
            if self.path is not None and self._made is not None and (whole or not _begun(self.path)):
                self._check_own()
                remove(self.path / POINTER)
                _clear(self.path)
                (self.path / LOCK).unlink()
                remove_empty(self._made)
        except (OSError, RecordingError):
            pass  # what cannot be removed stays; the next run can begin in it
        self.close()

    def close(self) -> None:
        """Gives the folder's lock back."""
        if self._own is not None:
            self._own.release()


def _holds(path: Path, entry: Sum) -> bool:
    """Tells whether a file is there, and is the one of which this is the checksum."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return len(content) == entry.size and entry.fits(content)


@final
class _Memory:
    """The rows of a run that is kept in memory.

    Args:
        layout: What is recorded.
        rows: The first rows, which say the type and shape of responses.
    """

    def __init__(self, layout: Layout, rows: Rows) -> None:
        self._columns = columns_of(layout, rows)
        self._attributes = described(layout, self._columns, rows.bins)
        self._spikes = 0
        self._capacity = layout.capacity
        self._rows: list[dict[str, NDArray[Any]]] = []
        self._count = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the responses to one presentation."""
        return self._columns[responses_of(self._columns)].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the responses."""
        return np.dtype(self._columns[responses_of(self._columns)].dtype)

    def append(self, rows: Rows) -> None:
        """Keeps a copy of a generation."""
        values = row_values(rows)
        if rows.spikes is not None and "spike_start" in values:
            values["spike_start"] = values["spike_start"] + self._spikes
            self._spikes += len(rows.spikes.time_s)
        shapes = {name: column.shape for name, column in self._columns.items()}
        check_rows(values, shapes, self._capacity, self._count + len(rows))
        self._rows.append(kept_columns(values, self._columns))
        self._count += len(rows)

    def dataset(self) -> xr.Dataset:
        """Returns all rows so far."""
        import xarray as xr

        self._rows = [{name: np.concatenate([rows[name] for rows in self._rows]) for name in self._columns}]
        whole = {
            name: xr.Variable((column.along, *column.dims), self._rows[0][name].copy())
            for name, column in self._columns.items()
        }
        return assembled(whole, self._attributes)


def _check_free(path: Path) -> None:
    """Raises unless a run can begin in a folder: it is new, empty, or was left by a run that died at its birth."""
    if not path.exists():
        return
    if not path.is_dir():
        raise RecordingError(f"save: expected a new or empty folder, got {path}, which is a file; choose another name.")
    held = {entry.name for entry in path.iterdir()}
    if (path / POINTER).exists() or not held <= _born(path):
        raise RecordingError(
            f"save: expected a new or empty folder, got {path}, which holds something; choose another name"
            + (f", or go on with it: closedloop resume {path}" if is_run(path) else "")
            + "."
        )


def _born(path: Path) -> set[str]:
    """Returns what may lie in the folder of a run that has no finished generation, by name."""
    names = {
        LOCK,
        CHECKSUMS,
        EXPERIMENT,
        REFERENCES,
        DATA,
        DATA + PARTIAL,
        STATES,
        IMAGES,
        POINTER + PARTIAL,
        EARLIER,
        END,
        NOTICES,
    }
    with suppress(RecordingError, ValueError):
        names |= {name.partition("/")[0] for name in kept_sums(path) or ()}
    return names | {name + PARTIAL for name in names}


def _begun(path: Path) -> bool:
    """Tells whether a run has a finished generation."""
    return (path / POINTER).exists()


def _clear(path: Path) -> None:
    """Removes what a run without a generation left, but for its lock and for what an older version finished."""
    for name in sorted({entry.name for entry in path.iterdir()} & _born(path) - {LOCK, EARLIER, EXPERIMENT, CHECKSUMS}):
        remove(path / name)
    for name in (EXPERIMENT, CHECKSUMS):  # last: they say what else there is
        remove(path / name)
