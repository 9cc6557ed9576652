"""Whose a run's folder is: one process writes in it, and knows before each commit that it still is its own."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import final
from weakref import WeakSet

from filelock import FileLock, Timeout

from closedloop.errors import FolderBusyError, FolderLostError, RecordingError
from closedloop.recording.layout import DATA, LOCK, POINTER

#: Seconds for which a lock is asked for: `is_written` holds it for less.
_PATIENCE_S = 0.05


@final
class OwnFolder:
    """A folder that this process alone writes in, until `release`.

    A folder can be moved, removed or replaced while a run goes on, and another run can begin under its name. So the
    lock's file is compared with the one that was locked: while it is held, no other file has its number.

    Args:
        path: The folder; it exists.

    Raises:
        FolderBusyError: Another process is writing in it, or something else in this one.
        RecordingError: It is none.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / LOCK)
        try:
            self._lock.acquire(timeout=_PATIENCE_S, poll_interval=_PATIENCE_S / 10)
        except Timeout:
            raise FolderBusyError(f"{path}: {_who(path)}.") from None
        except (FileExistsError, NotADirectoryError) as error:
            raise RecordingError(f"{path}: expected a folder, got a file of that name.") from error
        self._identity = _identity(path / LOCK)
        self._data: tuple[int, int] | None = None  # of the store, once there was a commit
        _OPEN.add(self)
        # On Windows a folder with an open file in it can be neither moved nor removed.
        self._descriptor = os.open(path, os.O_RDONLY) if os.name == "posix" else None

    def is_at(self, path: Path) -> bool:
        """Tells whether a folder is the one that was taken."""
        return _identity(path / LOCK) == self._identity

    def check(self) -> None:
        """Raises FolderLostError unless the folder is still the one that was taken; the error says where that is."""
        if self.is_at(self.path):
            self._check_data()
            return
        place = self._place()
        if place is None:
            now = "was moved, removed or replaced"
            safe = "What was finished is where the folder was moved to"
        elif not place.exists():
            now, safe = "was removed", "What was finished went with it"
        elif place == self.path.resolve():
            now, safe = f"lost its {LOCK}, so that another process may be writing in it", _safe(place)
        else:
            now, safe = f"was moved to {place}", _safe(place)
        raise FolderLostError(
            f"{self.path}: the folder of the run that is being written {now}; nothing more is written. {safe}."
        )

    def note(self) -> None:
        """Notes which store is the run's own; to be called after each commit."""
        self._data = self._data or _identity(self.path / DATA)

    def _check_data(self) -> None:
        """Raises FolderLostError if the store in the folder is another than it was, or is none any more."""
        if self._data is None:  # the first commit may replace what died at its birth, or an older version's store
            return
        if _identity(self.path / DATA) != self._data or not (self.path / DATA / "zarr.json").exists():
            raise FolderLostError(
                f"{self.path}: its {DATA} was moved, removed or replaced while the run was being written; nothing more "
                f"is written. Put it back, then go on with: closedloop resume {self.path}."
            )

    def _place(self) -> Path | None:
        """Returns where the folder is now, as far as the operating system tells."""
        if self._descriptor is None:
            return None
        known = Path(f"/proc/self/fd/{self._descriptor}")
        try:
            if known.is_symlink():
                return Path(os.readlink(known))  # ends in " (deleted)" where it was
            import fcntl

            found = fcntl.fcntl(self._descriptor, fcntl.F_GETPATH, b"\0" * 1024)  # type: ignore[attr-defined]
            return Path(os.fsdecode(found.rstrip(b"\0")))
        except (OSError, ImportError, AttributeError):
            return None

    def release(self) -> None:
        """Gives the folder back."""
        self._lock.release()
        _OPEN.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


#: Folders that this process writes in.
_OPEN: WeakSet[OwnFolder] = WeakSet()


def _who(path: Path) -> str:
    """Says who writes in a folder that cannot be taken, and what can be done about it."""
    if any(own.is_at(path) for own in _OPEN):
        return "this process is writing this run already; close() what has it open, such as what a cell left"
    return "another process is writing this run; wait for it, or stop it"


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns what tells a file from every other that exists; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _safe(place: Path) -> str:
    """Says where finished generations lie."""
    if not (place / POINTER).exists():
        return "No generation was finished yet"
    return f"Every finished generation is safe in {place}; go on with: closedloop resume {place}"


def is_written(path: Path) -> bool:
    """Tells whether a process holds the lock of a run's folder, as far as this machine can tell; changes nothing."""
    lock = path / LOCK
    if not lock.is_file():
        return False
    if sys.platform == "win32":
        other = FileLock(lock)
        with suppress(Timeout):
            other.acquire(timeout=0)
            other.release()
            return False
        return True
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back when the file is closed
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks: nobody can hold one
        return False
    finally:
        os.close(descriptor)
    return False
