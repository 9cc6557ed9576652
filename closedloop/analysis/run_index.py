"""The index of a folder of runs: a table that is made from their small files, and can always be made again.

A folder may hold many thousands of runs. The index keeps what is known of each, and looks at a run again only when its
``COMMITTED.json`` has changed; of finished runs it reads ``SUMMARY.json`` and opens no store. Runs that have none, of
older versions and those that are not finished, are first listed and then summarized one by one.

The file lies in the user's cache, never among the runs, which may stand on a read-only or a network disk. One process
writes it; others that ask at the same time, and a user without a cache, make theirs in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, final

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from closedloop.analysis.findings import all_findings
from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.loop.ending import run_state
from closedloop.loop.findings import run_facts
from closedloop.loop.protocol import protocol_name
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.layout import DATA, EARLIER, EXPERIMENT, IMAGES, POINTER, REFERENCES, STATES, is_run
from closedloop.recording.places import PACKED, is_packed, root_of
from closedloop.recording.reader import open_recording, read_experiment, read_pointer
from closedloop.recording.summaries import read_summary
from closedloop.signatures import at_door

#: Version of the tables; an index of another one is made anew.
VERSION = 2
#: Folders below folders in which runs are looked for.
DEPTH = 12
#: Folders of a run that hold what it recorded itself.
_RECORDED = frozenset((DATA, STATES, IMAGES, REFERENCES, EARLIER))
#: Runs whose rows are written together.
_TOGETHER = 500
#: What is known of a run, with the types of the columns.
RUN = {
    "id": "TEXT",
    "path": "TEXT",
    "state": "TEXT",
    "protocol": "TEXT",
    "subject": "TEXT",
    "seed": "INTEGER",
    "version": "TEXT",
    "presentations": "INTEGER",
    "when_s": "REAL",
    "elapsed_s": "REAL",
    "reason": "TEXT",
    "problem": "TEXT",
    "known": "INTEGER",
    "stamp": "TEXT",
    "run_said": "TEXT",
}
#: What is known of each of its threads, likewise.
THREAD = {
    "thread": "TEXT",
    "generator": "TEXT",
    "optimizer": "TEXT",
    "objective": "TEXT",
    "target": "TEXT",
    "unit": "TEXT",
    "layer": "TEXT",
    "evolved": "REAL",
    "evolved_sem": "REAL",
    "evolved_n": "INTEGER",
    "evolved_image": "TEXT",
    "natural": "REAL",
    "natural_sem": "REAL",
    "natural_n": "INTEGER",
    "natural_image": "TEXT",
    "ratio": "REAL",
    "ratio_sem": "REAL",
    "noisy_maximum": "REAL",
    "curse": "REAL",
    "images": "INTEGER",
    "generations": "INTEGER",
    "lost": "INTEGER",
    "said": "TEXT",
}
#: The row of a run of which nothing could be read.
_UNKNOWN = {**dict.fromkeys(RUN), "state": "interrupted", "known": 0, "reason": "", "problem": "", "presentations": 0}
#: The number of a run in the tables, given its path.
_NUMBER = "(SELECT number FROM runs WHERE path = ?)"
#: What a run can be: being written; at its end; ended on request; neither over nor being written; or that, and a sweep
#: has noted why.
RUN_STATES = ("running", "finished", "stopped", "interrupted", "failed")
#: Ending of the file beside a run's folder in which a sweep notes why the run failed.
MARK = ".failed.json"


class Seen(NamedTuple):
    """A run on the disk.

    Attributes:
        path: Relative to the folder of runs, with ``/``; "." for that folder itself.
        stamp: Tells the file that says how much is committed from every other that stood there.
        when_s: When that file was written, in seconds since 1970.
    """

    path: str
    stamp: str
    when_s: float


def run_id(path: str) -> str:
    """Returns the name of a run that is safe anywhere: 16 hexadecimal digits of SHA-256 of its relative path."""
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:16]


@final
class RunIndex:
    """What is known of the runs in a folder; any thread may use it.

    Args:
        folder: The folder of runs, or of one run.
        file: Where the index is kept; None for the user's cache, "" for memory.

    Attributes:
        folder: Its real path.
        failed: Why runs of sweeps failed, by their paths, as it was when `refresh` last looked; also of runs that have
            no folder yet, which are no rows.

    Raises:
        InvalidArgumentError: There is no such folder.
    """

    @at_door
    def __init__(self, folder: str | Path, file: str | Path | None = None) -> None:
        self.folder: Path = Path(folder).resolve()
        if not self.folder.is_dir() and not is_packed(self.folder):
            raise InvalidArgumentError(f"folder: expected a folder of runs, or a run, got {folder}, which is neither.")
        self.failed: dict[str, str] = {}
        self._guard = threading.RLock()
        self._lock: FileLock | None = None
        self._table = self._opened(cache_file(self.folder) if file is None else Path(file) if file else None)

    def _opened(self, file: Path | None) -> sqlite3.Connection:
        """Opens the tables; in memory where the file cannot be ours."""
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(f"{file}.lock")
                lock.acquire(timeout=0)
                self._lock = lock
                return _tables(file)
            except (OSError, Timeout, sqlite3.Error):
                self._release()
        return _tables(None)

    def close(self) -> None:
        """Closes the tables; another process may take them up."""
        with self._guard:
            self._table.close()
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self, seconds: float | None = None) -> bool:
        """Looks at the folder again.

        Args:
            seconds: About how long runs without a summary are summarized; None for as long as it takes.

        Returns:
            Whether all runs are summarized.
        """
        until = None if seconds is None else time.monotonic() + seconds
        with self._guard:
            held: dict[str, str] = dict(self._table.execute("SELECT path, stamp FROM runs").fetchall())
        marks: list[str] = []
        seen = {run.path: run for run in look_around(self.folder, held.keys(), marks)}
        self.failed = {path: failure_of(self.folder, path) for path in marks}
        gone = held.keys() - seen.keys()
        new = [run for run in seen.values() if run.path not in held or held[run.path] != run.stamp]
        for start in range(0, len(new), _TOGETHER):
            read = [_read(self.folder, run) for run in new[start : start + _TOGETHER]]
            going = [row for row, _ in read if not row["known"] and row["path"] in held]
            self._put([one for one in read if one[0]["known"] or one[0]["path"] not in held])
            self._renew(going)
        with self._guard, self._table:
            self._forget(gone)
        whole = self._summarize(until)
        self._renew_states()
        return whole

    def _put(self, read: Sequence[tuple[dict[str, Any], Sequence[Mapping[str, Any]]]]) -> None:
        """Writes what is known of some runs in place of what was known."""
        runs, threads = [], []
        for run, found in read:
            # What a person may look for, in a run and in each of its threads, is kept as one text.
            said = _said(run, ("path", "protocol", "subject"))
            runs.append(tuple(_plain({**run, "run_said": said}[name]) for name in RUN))
            for place, one in enumerate(found):
                own = _said(one, ("thread", "target", "unit", "generator", "optimizer", "objective"))
                whole = {**one, "said": f"{said} {own}"}
                threads.append((run["path"], place, *(_plain(whole.get(name)) for name in THREAD)))
        into = f"({_NUMBER}, {_marks(len(THREAD) + 1)})"
        with self._guard, self._table:
            self._forget(run["path"] for run, _ in read)
            self._table.executemany(f"INSERT INTO runs VALUES (NULL, {_marks(len(RUN))})", runs)
            self._table.executemany(f"INSERT INTO threads VALUES {into}", threads)

    def _forget(self, paths: Iterable[str]) -> None:
        """Removes what is known of some runs."""
        gone = [(path,) for path in paths]
        self._table.executemany(f"DELETE FROM threads WHERE run = {_NUMBER}", gone)
        self._table.executemany("DELETE FROM runs WHERE path = ?", gone)

    def _renew(self, going: Sequence[Mapping[str, Any]]) -> None:
        """Notes how far runs are that were known before; what else is known of them stays until they are opened."""
        names = ("stamp", "when_s", "state", "presentations", "elapsed_s", "reason", "known")
        change = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in names)} WHERE path = ?"
        with self._guard, self._table:
            self._table.executemany(change, [(*(row[name] for name in names), row["path"]) for row in going])

    def _renew_states(self) -> None:
        """Asks again of runs that are not over whether a process writes them, or whether they failed, and why."""
        with self._guard:
            unfinished = (
                "SELECT path, state, reason FROM runs WHERE state IN ('running', 'interrupted', 'failed') "
                "AND problem = ''"
            )
            open_ = self._table.execute(unfinished).fetchall()
        now = [self._state_of(path) for path, *_ in open_]
        changed = [(*new, row[0]) for new, row in zip(now, open_, strict=True) if new != tuple(row[1:])]
        with self._guard, self._table:
            self._table.executemany("UPDATE runs SET state = ?, reason = ? WHERE path = ?", changed)

    def _state_of(self, path: str) -> tuple[str, str]:
        """Returns where a run that is not over stands, and why it failed."""
        state = run_state(self.folder / path, {})
        return ("failed", self.failed[path]) if state == "interrupted" and path in self.failed else (state, "")

    def _summarize(self, until: float | None) -> bool:
        """Opens runs of which too little is known, the newest first."""
        with self._guard:
            rows = self._table.execute("SELECT path, stamp, when_s FROM runs WHERE known = 0 ORDER BY when_s DESC")
            left = [Seen(*row) for row in rows]
        for run in left:
            if until is not None and time.monotonic() > until:
                return False
            self._put([_summarized(self.folder, run)])
        return True

    def rows(self, question: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Returns the answer of the tables ``runs`` and ``threads`` to a question in SQL, a dictionary a row."""
        with self._guard:
            answer = self._table.execute(question, values)
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer]

    def path_of(self, identity: str) -> Path | None:
        """Returns where the run of an id is: below the folder, and by no link; None where there is none."""
        found = self.rows("SELECT path FROM runs WHERE id = ?", (identity,))
        if not found:
            return None
        path = self.folder / str(found[0]["path"])
        return path if path.resolve() == path and is_run(path) else None


def cache_file(folder: Path) -> Path:
    """Returns where the index of a folder is kept."""
    name = hashlib.sha256(str(folder).encode(errors="surrogateescape")).hexdigest()[:24]
    cache = os.environ.get("CLOSEDLOOP_CACHE") or user_cache_dir("closedloop", appauthor=False)
    return Path(cache) / "runs" / f"{name}.sqlite"


def _said(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return " ".join(str(row.get(name) or "") for name in names).lower()


def _plain(value: Any) -> Any:
    """Returns a value that a table can hold, whatever stood in a strange file."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return str(value)[:1000]


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _tables(file: Path | None) -> sqlite3.Connection:
    """Opens the tables of a file, or new ones where it is damaged or of another version."""
    try:
        table = _connected(file)
        if table.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            table.execute("SELECT count(*) FROM runs, threads WHERE 0")
            return table
        table.close()
    except sqlite3.DatabaseError:
        with suppress(NameError, UnboundLocalError):
            table.close()
    if file is not None:
        file.unlink(missing_ok=True)
    table = _connected(file)
    columns = ", ".join(f"{name} {kind}" for name, kind in RUN.items())
    table.execute(f"CREATE TABLE runs (number INTEGER PRIMARY KEY, {columns}, UNIQUE (path))")
    columns = ", ".join(f"{name} {kind}" for name, kind in {"run": "INTEGER", "place": "INTEGER", **THREAD}.items())
    table.execute(f"CREATE TABLE threads ({columns})")
    # Narrow copies of what rows are counted and most often ordered by: a row itself is many times as long.
    table.execute("CREATE INDEX of_run ON threads (run, place, evolved, ratio)")
    table.execute("CREATE INDEX of_when ON runs (when_s)")
    table.execute("CREATE INDEX of_id ON runs (id)")
    table.execute(f"PRAGMA user_version = {VERSION}")
    table.commit()
    return table


def _connected(file: Path | None) -> sqlite3.Connection:
    """Opens a file that need not outlast a power cut: it can be made again."""
    table = sqlite3.connect(":memory:" if file is None else file, check_same_thread=False)
    table.execute("PRAGMA journal_mode = MEMORY")
    table.execute("PRAGMA synchronous = OFF")
    return table


def failure_of(folder: Path, path: str) -> str:
    """Returns why a run of a sweep failed, given its path below a folder; empty where nothing is noted."""
    try:
        found = json.loads((folder / f"{path}{MARK}").read_bytes())
        return str(found.get("reason") or "it failed")
    except OSError:
        return ""
    except (ValueError, AttributeError):
        return "it failed; the note of why is damaged"


def look_around(folder: Path, known: Any = (), marks: list[str] | None = None) -> Iterator[Seen]:
    """Finds the runs in a folder and those below it, folders and packed ones. Links are not followed.

    Args:
        folder: Where to look.
        known: Relative paths of runs that were there before: they are asked for one file, and not listed.
        marks: Takes the relative paths of the runs of which a sweep noted why they failed.
    """
    if is_packed(folder) or is_run(folder):
        run = _seen(folder, ".")
        yield from [] if run is None else [run]
        return
    waiting = [(str(folder), "", 0)]
    while waiting:
        place, prefix, depth = waiting.pop()
        try:
            with os.scandir(place) as entries:
                inside = [entry for entry in entries if not entry.name.startswith(".") and _can_be_said(entry.name)]
        except OSError:
            continue
        for entry in inside:
            name = prefix + entry.name
            if marks is not None and name.endswith(MARK):
                marks.append(name.removesuffix(MARK))
            run, folder_to_enter = _looked_at(entry, name, name in known)
            if run is not None:
                yield run
            elif folder_to_enter and depth < DEPTH:
                waiting.append((entry.path, name + "/", depth + 1))


def runs_within(run: Path, deep: int = 3) -> list[str]:
    """Returns the runs that a run holds in its folder, such as a training within a development, by relative path.

    No link is followed. What the run itself records is not looked into.

    Args:
        run: Its folder.
        deep: How many folders below folders are looked at.
    """
    found, waiting = [], [(str(run), "", 1)]
    while waiting:
        place, prefix, depth = waiting.pop()
        try:
            with os.scandir(place) as entries:
                inside = [e for e in entries if e.name not in _RECORDED and e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for entry in inside:
            if not _can_be_said(entry.name):
                continue
            name = prefix + entry.name
            if is_run(entry.path):
                found.append(name)
            if depth < deep:
                waiting.append((entry.path, f"{name}/", depth + 1))
    return sorted(found)


def _can_be_said(name: str) -> bool:
    """Tells whether a name is text, and not bytes of another encoding."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _looked_at(entry: os.DirEntry[str], name: str, known: bool) -> tuple[Seen | None, bool]:
    """Returns the run that an entry of a folder is, and whether it is a folder that may hold some."""
    try:
        if entry.is_dir(follow_symlinks=False):
            if known or os.path.isfile(os.path.join(entry.path, EXPERIMENT)):
                run = _seen(entry.path, name)
                return run, run is None
            return None, True
        packed = entry.name.lower().endswith(PACKED) and entry.is_file(follow_symlinks=False)
        return (_seen(entry.path, name) if packed and (known or is_run(entry.path)) else None), False
    except OSError:
        return None, False


def _seen(place: str | Path, name: str) -> Seen | None:
    """Returns a run as it is now, told by its pointer, its experiment before the first commit, or its own file."""
    for file in (place,) if os.path.isfile(place) else (os.path.join(place, POINTER), os.path.join(place, EXPERIMENT)):
        with suppress(OSError):
            found = os.stat(file)
            return Seen(name, f"{found.st_mtime_ns} {found.st_size} {found.st_ino}", found.st_mtime)
    return None


def _read(folder: Path, run: Seen) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """Returns what the small files of a run say: its row, and those of its threads."""
    row = {**_UNKNOWN, "id": run_id(run.path), "path": run.path, "stamp": run.stamp, "when_s": run.when_s}
    path = folder / run.path
    try:
        root = root_of(path)
        if not (root / POINTER).is_file():
            return {**row, "state": run_state(path, {})}, ()
        pointer = read_pointer(path)
        row |= _of_pointer(pointer, path)
        found = read_summary(root, pointer)
    except (ClosedLoopError, OSError) as error:
        return {**row, "problem": str(error), "known": 1}, ()
    if found is None:
        return row, ()
    return {**row, **_of_summary(found), "known": 1}, found["threads"]


def _of_pointer(pointer: Mapping[str, Any], path: Path) -> dict[str, Any]:
    numbers = {"presentations": int(pointer["n_presentations"]), "elapsed_s": float(pointer["elapsed_s"])}
    return {"state": run_state(path, pointer), "reason": str(pointer.get("reason", "")), **numbers}


def _of_summary(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: found.get(name) or "" for name in ("protocol", "subject", "version")}, "seed": found.get("seed")}


def _summarized(folder: Path, run: Seen) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """Returns what a run holds that wrote no summary, by opening it; what is wrong with it is a problem of its own."""
    row, _ = _read(folder, run)
    path = folder / run.path
    try:
        if not row["presentations"]:
            found, threads = {"protocol": protocol_name(read_experiment(path))}, []
        else:
            recording = open_recording(path)
            found = run_facts(recording, experiment_of(recording))
            threads = all_findings(recording)
        return {**row, **_of_summary(found), "known": 1}, threads
    except ClosedLoopError as error:
        return {**row, "problem": str(error), "known": 1}, ()
