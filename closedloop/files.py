"""Files that are either as they were or complete, whenever the process or the machine dies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Ending of a file that is being written.
PARTIAL = ".partial"
#: Files that are brought to the disk at the same time.
TOGETHER = 16


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name, brings it to the disk, and renames it. Its folder is not synchronized."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Does `replace_file` for several files, in no order: a disk takes many at once in little more time than one."""
    if files:
        with ThreadPoolExecutor(min(len(files), TOGETHER)) as pool:
            for _ in pool.map(replace_file, files.keys(), files.values()):
                pass


def synchronize(path: Path) -> None:
    """Asks the operating system to bring a file, or the names in a folder, to the disk."""
    if os.name != "posix" or not path.exists():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
