"""Checksums of a store's files, so that a file that is lost, cut short or changed is never read as data.

A line names SHA-256, the number of bytes that it covers, the least number of bytes in the file, and the path. The
checksum of a chunk covers the rows that are committed, never the rest of the chunk: what a generation under way, or one
that was cut off, has written behind them changes nothing. ``CHECKSUMS`` is a text file with the lines of all files that
do not change any more; the last line of a path counts. It grows when a chunk is full. The lines of the chunks with room
for more rows stand in the pointer of the run, which also says how many bytes of ``CHECKSUMS`` count, and their SHA-256.
The files beside the data (``experiment.yaml``, references, images …) have lines, too, in which `BESIDE` stands before
the path; those that a run begins with are the first ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, final

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore, ZipStore

from closedloop.errors import RecordingError
from closedloop.recording.places import DAMAGED, Root, sizes

#: Stands before the path of a file that lies beside the store, not in it.
BESIDE = "/"


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
        """Makes the checksum of the first `size` bytes of a file's content, by default of all."""
        covered = memoryview(data)[:size]
        least = len(data) if length is None else length
        return cls(path, len(covered), least, hashlib.sha256(covered).hexdigest())

    def fits(self, data: bytes) -> bool:
        """Tells whether this is still the file's content, whatever was written behind the bytes that count."""
        covered = memoryview(data)[: self.size]
        return len(data) >= self.length and hashlib.sha256(covered).hexdigest() == self.sha256

    @classmethod
    def read(cls, line: str) -> Sum:
        """Reads the checksum that a line holds.

        Raises:
            ValueError: It is another text.
        """
        sha256, size, length, name = line.rstrip("\n").split(" ", 3)
        return cls(name, int(size), int(length), sha256)

    def line(self) -> str:
        """Writes it as it stands in the file."""
        return f"{self.sha256} {self.size} {self.length} {self.path}\n"


def sums_of(store: Path) -> list[Sum]:
    """Returns the checksums of all files of a store."""
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

    @classmethod
    def of_begun(cls, path: Path) -> Self:
        """Takes up the file of a run without a finished generation: what `begun_lines` finds in it counts."""
        lines = begun_lines(path.read_bytes())
        return cls(path, {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()})

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
        """Takes note that a pointer with `mark` is in place."""
        self._kept = self._written


def _opened(path: Path, mark: Mapping[str, Any]) -> tuple[int, Any]:
    digest = hashlib.sha256(_content(path, mark))
    return int(mark["bytes"]), digest


def _content(path: Root, mark: Mapping[str, Any]) -> bytes:
    with path.open("rb") as file:
        content = file.read(int(mark["bytes"]))
    if hashlib.sha256(content).hexdigest() != mark["sha256"]:
        raise ValueError(f"{path.name} is cut short or was changed")
    return content


def read_sums(path: Root, mark: Mapping[str, Any]) -> dict[str, Sum]:
    """Returns the checksums that count in a file, by path.

    Raises:
        ValueError: The file is not what the mark says.
        OSError: It cannot be read.
    """
    return sums_in(_content(path, mark))


def sums_in(lines: bytes) -> dict[str, Sum]:
    """Returns the checksums of lines, by path; raises ValueError for other text."""
    return {entry.path: entry for entry in map(Sum.read, filter(None, lines.decode().split("\n")))}


def begun_lines(content: bytes) -> bytes:
    """Returns the whole lines with which a file of checksums begins, those of files beside the data."""
    whole = 0
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or not Sum.read(line.decode()).path.startswith(BESIDE):
                break
        except ValueError:
            break
        whole += len(line)
    return content[:whole]


def arrays_in(store: Root) -> set[str]:
    """Returns the names of the folders that zarr reads as arrays or groups; none where there is no store."""
    try:
        return {place.name for place in store.iterdir() if (place / "zarr.json").is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def check_files(store: Root, sums: Mapping[str, Sum]) -> None:
    """Looks whether all files are there and long enough; their content is checked when it is read.

    Raises:
        ValueError: One is missing or cut short, or there is something beside them that zarr would read as an array.
    """
    foreign = arrays_in(store) - {name.partition("/")[0] for name in sums}
    if foreign:
        raise ValueError(f"{sorted(foreign)[0]} does not belong to it")
    folders: dict[str, dict[str, int]] = {}
    for name, entry in sums.items():
        folder, _, file = name.rpartition("/")
        if folder not in folders:
            folders[folder] = sizes(store / folder if folder else store)
        size = folders[folder].get(file)
        if size is None:
            raise ValueError(f"{name} is missing")
        if size < entry.length:
            raise ValueError(f"{name} is cut short: {size} of {entry.length} bytes")


class Checked:
    """Compares the files of a store with their checksums as they are read.

    Args:
        place: What an error calls the store.
        sums: Checksums by path.
        prefix: Stands before each path in the store's keys.
    """

    def __init__(self, place: str, sums: Mapping[str, Sum], prefix: str = "") -> None:
        self._place, self._prefix = place, prefix
        self._sums = {prefix + name: entry for name, entry in sums.items()}

    def knows(self, key: str) -> bool:
        """Tells whether there is a checksum of this file."""
        return key in self._sums

    def committed(self, key: str, content: bytes | None) -> bytes:
        """Returns a file's content with zeros behind what its checksum covers: that may be half written.

        Raises:
            RecordingError: It is missing, cut short, or was changed.
        """
        entry = self._sums[key]
        if content is None or not entry.fits(content):
            what = "is missing" if content is None else "is damaged (its checksum is not the recorded one)"
            name = key.removeprefix(self._prefix)
            raise RecordingError(f"{self._place}/{name} {what}; restore it from a copy.")
        return content if len(content) == entry.size else content[: entry.size].ljust(len(content), b"\0")


@final
class CheckedStore(LocalStore):
    """A zarr store in a folder, for reading, that compares each file with its checksum when it is read.

    Args:
        root: The store's folder.
        sums: Checksums by path.
    """

    def __init__(self, root: Path | str, sums: Mapping[str, Sum], *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._sums = dict(sums)
        self._checked = Checked(f"{self.root.parent}: {self.root.name}", sums)

    def with_read_only(self, read_only: bool = True) -> Self:
        """Returns the same store; it is never written through."""
        return type(self)(self.root, self._sums, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Returns a file's content, or the part that is asked for.

        Raises:
            RecordingError: It is missing, cut short, or was changed.
        """
        if not self._checked.knows(key):
            return await super().get(key, prototype, byte_range)
        buffer = await super().get(key, prototype)
        content = self._checked.committed(key, None if buffer is None else buffer.to_bytes())
        return _part(content, prototype, byte_range)


@final
class CheckedZip(ZipStore):
    """A zarr store in a zip file, for reading, that compares each file with its checksum when it is read.

    Args:
        path: The zip file.
        sums: Checksums by path.
        prefix: The store's folder in the file, ending in ``/``.
    """

    def __init__(self, path: Path, sums: Mapping[str, Sum], prefix: str) -> None:
        super().__init__(path, mode="r")
        self._checked = Checked(f"{path}: {prefix.rstrip('/')}", sums, prefix)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Returns a file's content, or the part that is asked for.

        Raises:
            RecordingError: It is missing, cut short, or was changed.
        """
        try:
            if not self._checked.knows(key):
                return await super().get(key, prototype, byte_range)
            buffer = await super().get(key, prototype)
        except (OSError, *DAMAGED) as error:
            raise RecordingError(
                f"{self.path}: {key} cannot be read ({error}); restore the file from a copy."
            ) from error
        content = self._checked.committed(key, None if buffer is None else buffer.to_bytes())
        return _part(content, prototype, byte_range)


def _part(content: bytes, prototype: BufferPrototype | None, byte_range: ByteRequest | None) -> Buffer:
    """Returns the part of a content that is asked for, as zarr takes it."""
    make = (default_buffer_prototype() if prototype is None else prototype).buffer.from_bytes
    match byte_range:
        case RangeByteRequest(start, end):
            return make(content[start:end])
        case OffsetByteRequest(offset):
            return make(content[offset:])
        case SuffixByteRequest(suffix):
            return make(content[-suffix:])
        case _:
            return make(content)
