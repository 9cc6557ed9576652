"""Files that are either as they were or complete, whenever the process or the machine dies."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path

from closedloop.errors import RecordingError

#: Ending of a file that is being written.
PARTIAL = ".partial"
#: Folders of a run that hold what is read back.
_READ_BACK = ("data.zarr", "data-3.zarr", "state", "references", "images", "earlier")
#: Files that are brought to the disk at the same time.
TOGETHER = 16


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name, brings it to the disk, and renames it. Its folder is not synchronized."""
    temporary = path.with_name(path.name + PARTIAL)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Does `replace_file` for several files, in no order."""
    do_together([partial(replace_file, path, data) for path, data in files.items()])


def do_together(tasks: Sequence[Callable[[], None]]) -> None:
    """Does several things to the disk, in no order: it takes many at once in little more time than one.

    Raises:
        OSError: One of them failed; all others were tried.
    """
    if len(tasks) == 1:
        tasks[0]()
    elif tasks:
        with ThreadPoolExecutor(min(len(tasks), TOGETHER)) as pool:
            for done in [pool.submit(task) for task in tasks]:
                done.result()


@contextmanager
def meanwhile(task: Callable[[], None]) -> Iterator[None]:
    """Does something to the disk beside what is done within; it is over when that is left, however that ends.

    Raises:
        Exception: What the task raised, also where what is done within raised something, for the task began first.
    """
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(copy_context().run, task)
        try:
            yield
        finally:
            _await(done)
            done.result()


def _await(done: Future[None]) -> None:
    """Waits until something has ended; Ctrl-C is heeded then."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            wait([done])
            break
        except KeyboardInterrupt as stop:
            interrupted = stop
    if interrupted is not None:
        raise interrupted


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Writes into a file that is there, from a byte on, and brings that to the disk; what stands before is not touched.

    Dying on the way leaves any part of `data` in its place, so nothing may count on those bytes before it returned.
    """
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        getattr(os, "fdatasync", os.fsync)(file.fileno())


def synchronize(path: Path) -> None:
    """Asks the operating system to bring a file, or the names in a folder, to the disk."""
    if os.name != "posix" or not path.exists():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def complete(out: Path, replace: bool = False, argument: str = "out") -> Iterator[Path]:
    """Yields a temporary path beside `out` to write a file or folder at; it gets its name when all went well.

    What is written is on the disk before it gets its name. Whatever goes wrong on the way, a signal that raises among
    it, leaves nothing behind, and what was there before as it was. What a killed process left is removed by the next
    one that writes to the same name.

    Args:
        out: The file or folder.
        replace: Whether a file that exists is replaced.
        argument: What an error calls it.

    Raises:
        RecordingError: `out` exists already, lies in what a run reads back, or cannot be written.
    """
    with written(out, argument):
        _check_free(out, replace, argument)
        _check_place(out, argument)
        made, temporary, done = make_folders(out.parent), _temporary(out), False
    try:
        with written(out, argument):
            _check_free(out, replace, argument)  # again: now that its folder is there
            yield temporary
            for place in (*temporary.rglob("*"), temporary) if temporary.is_dir() else (temporary,):
                synchronize(place)
            _check_free(out, replace, argument)
            temporary.replace(out)
            done = True
            synchronize(out.parent)
    finally:
        if not done:
            remove(temporary)
            remove_empty(made)


@contextmanager
def written(out: Path, argument: str) -> Iterator[None]:
    """Turns the operating system's errors into one that says what cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise RecordingError(
            f"{argument}: cannot write {out} ({error.strerror or error}); nothing was left behind. Make room, or "
            "choose another place."
        ) from error


def _check_free(out: Path, replace: bool, argument: str) -> None:
    """Raises RecordingError for a name that is taken, and OSError for one that no file can have."""
    try:
        out.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError as error:
        raise RecordingError(
            f"{argument}: no file can have the name {str(out)!r} ({error}); choose another."
        ) from error
    if not replace:
        raise RecordingError(f"{argument}: {out} exists already; choose another name, or remove it first.")
    if out.is_dir():
        raise RecordingError(
            f"{argument}: expected the name of a file, got {out}, which is a folder; choose another name."
        )


def _check_place(out: Path, argument: str) -> None:
    """Raises RecordingError for a place among the files that a run reads back."""
    for folder in out.absolute().parents:
        if folder.name in _READ_BACK and (folder.parent / "experiment.yaml").is_file():
            raise RecordingError(
                f"{argument}: {out} would lie among the files of the run {folder.parent}; choose another."
            )


def make_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns those that were made, the lowest first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders that are there and empty; others stay: another process may have put something there."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _temporary(out: Path) -> Path:
    """Returns the name under which this process writes `out`; what processes that are gone left there is removed."""
    # A short name: that of the file may be as long as a name can be.
    start = f".partial-{hashlib.sha256(out.name.encode(errors='surrogateescape')).hexdigest()[:12]}-"
    for left in out.parent.glob(f"{start}*"):
        process = left.name.removeprefix(start).partition("-")[0].partition(".")[0]
        if process.isdecimal() and not _alive(int(process)):
            remove(left)
    return out.with_name(f"{start}{os.getpid()}-{threading.get_ident()}{out.suffix[:16]}")


def _alive(process: int) -> bool:
    """Tells whether a process of this machine is there; on Windows it counts as such."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def put_file(path: Path, data: bytes) -> None:
    """Replaces a file, and makes its name last."""
    replace_file(path, data)
    synchronize(path.parent)


def can_be_path(path: str | Path) -> bool:
    """Tells whether a path has only characters that names of files can have."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def is_too_long(path: str | Path) -> bool:
    """Tells whether a path, or a name in it, is longer than the system takes."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    except ValueError:  # letters that no path can have
        return False
    return False
