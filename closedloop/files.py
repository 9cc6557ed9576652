"""Files that are either as they were or complete, whenever the process or the machine dies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from closedloop.errors import RecordingError

#: Ending of a file that is being written.
PARTIAL = ".partial"
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
def complete(out: Path) -> Iterator[Path]:
    """A temporary path beside `out` to write a file or a folder at; it gets its name when all went well.

    Raises:
        RecordingError: `out` exists already, or cannot be written; nothing is left behind.
    """
    if out.exists():
        raise RecordingError(f"out: {out} exists already; choose another name, or remove it first.")
    temporary = out.with_name(f".partial-{out.name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"out: cannot make {out.parent} ({error.strerror or error}).") from error
    remove(temporary)
    try:
        yield temporary
        temporary.rename(out)
    except OSError as error:
        raise RecordingError(f"out: cannot write {out} ({error.strerror or error}).") from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def put_file(path: Path, data: bytes) -> None:
    """Replaces a file, and makes its name last."""
    replace_file(path, data)
    synchronize(path.parent)
