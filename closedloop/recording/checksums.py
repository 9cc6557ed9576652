"""Checksums of a store's files, so that a file that is lost, cut short or changed is never read as data.

``CHECKSUMS`` is a text file with one line for each file of the store: SHA-256, the number of bytes that it covers, the
least number of bytes in the file, path. A chunk that is written again with more rows gets a new line, which counts
instead of the old one. The checksum of a chunk covers the rows that are committed, never the rest of the chunk: what a
generation under way, or one that was cut off, has written behind them changes nothing. The pointer of the run names how
many bytes of this file count, and their SHA-256.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, final

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from closedloop.errors import RecordingError


class Sum(NamedTuple):
    """The checksum of one file.

    Attributes:
        path: Relative to the store, with ``/``.
        size: The bytes at its beginning that the checksum covers.
        length: The least number of bytes in the file.
        sha256: SHA-256 of the first `size` bytes, in hexadecimal.
    """

    path: str
    size: int
    length: int
    sha256: str

    @classmethod
    def of(cls, path: str, data: bytes, size: int | None = None, length: int | None = None) -> Sum:
        """The checksum of the first `size` bytes of a file's content, by default of all."""
        covered = memoryview(data)[:size]
        least = len(data) if length is None else length
        return cls(path, len(covered), least, hashlib.sha256(covered).hexdigest())

    def fits(self, data: bytes) -> bool:
        """Whether this is still the file's content, whatever was written behind the bytes that count."""
        covered = memoryview(data)[: self.size]
        return len(data) >= self.length and hashlib.sha256(covered).hexdigest() == self.sha256

    def line(self) -> str:
        """As it stands in the file."""
        return f"{self.sha256} {self.size} {self.length} {self.path}\n"


def sums_of(store: Path) -> list[Sum]:
    """Checksums of all files of a store."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    return [Sum.of(path.relative_to(store).as_posix(), path.read_bytes()) for path in files]


@final
class ChecksumFile:
    """The file of checksums while a run is written. What was written counts once `keep` is called.

    Args:
        path: The file.
        mark: How much of it counts, as `mark` gave it with the last commit; None begins it anew.

    Raises:
        ValueError: The file is not what the mark says.
    """

    def __init__(self, path: Path, mark: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._kept = (0, hashlib.sha256()) if mark is None else _opened(path, mark)
        self._written = self._kept

    def write(self, sums: Iterable[Sum]) -> None:
        """Adds lines behind what counts, and brings them to the disk."""
        size, known = self._kept
        lines = "".join(entry.line() for entry in sums).encode()
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek(size)
            file.write(lines)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        digest = known.copy()
        digest.update(lines)
        self._written = (size + len(lines), digest)

    @property
    def mark(self) -> dict[str, Any]:
        """What the pointer must say so that all that was written counts."""
        size, digest = self._written
        return {"bytes": size, "sha256": digest.hexdigest()}

    def keep(self) -> None:
        """Called once a pointer with `mark` is in place."""
        self._kept = self._written


def _opened(path: Path, mark: Mapping[str, Any]) -> tuple[int, Any]:
    digest = hashlib.sha256(_content(path, mark))
    return int(mark["bytes"]), digest


def _content(path: Path, mark: Mapping[str, Any]) -> bytes:
    with path.open("rb") as file:
        content = file.read(int(mark["bytes"]))
    if hashlib.sha256(content).hexdigest() != mark["sha256"]:
        raise ValueError(f"{path.name} is cut short or was changed")
    return content


def read_sums(path: Path, mark: Mapping[str, Any]) -> dict[str, Sum]:
    """The checksums that count, by path.

    Raises:
        ValueError: The file is not what the mark says.
        OSError: It cannot be read.
    """
    sums = {}
    for line in _content(path, mark).decode().splitlines():
        sha256, size, length, name = line.split(" ", 3)
        sums[name] = Sum(name, int(size), int(length), sha256)
    return sums


def check_files(store: Path, sums: Mapping[str, Sum]) -> None:
    """Looks whether all files are there and long enough; their content is checked when it is read.

    Raises:
        ValueError: One is missing or cut short.
    """
    folders: dict[str, dict[str, int]] = {}
    for name, entry in sums.items():
        folder, _, file = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _sizes(store / folder)
        size = folders[folder].get(file)
        if size is None:
            raise ValueError(f"{name} is missing")
        if size < entry.length:
            raise ValueError(f"{name} is cut short: {size} of {entry.length} bytes")


def _sizes(folder: Path) -> dict[str, int]:
    """Sizes of the files in a folder in bytes, in one pass."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return {}


@final
class CheckedStore(LocalStore):
    """A zarr store for reading that compares each file with its checksum when it is read.

    Args:
        root: The store's folder.
        sums: Checksums by path.
    """

    def __init__(self, root: Path | str, sums: Mapping[str, Sum], *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._sums = dict(sums)

    def with_read_only(self, read_only: bool = True) -> Self:
        """The same store; it is never written through."""
        return type(self)(self.root, self._sums, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """A file's content, or the part that is asked for.

        Raises:
            RecordingError: It is missing, cut short, or was changed.
        """
        entry = self._sums.get(key)
        if entry is not None and byte_range is not None:
            await self.get(key, prototype)
        buffer = await super().get(key, prototype, byte_range)
        if entry is None or byte_range is not None:
            return buffer
        content = b"" if buffer is None else buffer.to_bytes()
        if buffer is None or not entry.fits(content):
            what = "is missing" if buffer is None else "is damaged (its checksum is not the recorded one)"
            raise RecordingError(f"{self.root.parent}: {self.root.name}/{key} {what}; restore it from a copy.")
        return buffer
