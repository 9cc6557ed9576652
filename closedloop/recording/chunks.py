"""Appending rows to the arrays of a zarr group, in place.

zarr's own ``array[start:stop] = rows`` reads the chunk back, merges, and writes it through an event loop, which costs
more than a millisecond for each array and leaves the file unsynchronized. A chunk file for each generation makes
hundreds of files of a run, and a file that is written again with every generation writes most bytes many times. Here a
chunk holds many rows. Its file is written once in its full length, with rows that say nothing, and then each
generation's rows are written over those, behind the rows that are committed; these are never touched again. The files
are what zarr would have written: uncompressed, default names.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import zarr
from numpy.typing import NDArray

from closedloop.files import replace_file, synchronize, write_at
from closedloop.recording.checksums import Sum


def rows_of_chunk(row_bytes: int, capacity: int) -> int:
    """Returns how many rows go into a chunk.

    That is about 1 MiB and at most 512 rows; of wide rows 64, up to 8 MiB; at least one. A reader takes a chunk into
    memory as a whole, so long ones make few files, and short ones bound what it needs.
    """
    rows = min(512, 2**20 // row_bytes)
    return max(1, min(capacity, max(rows, min(64, 2**23 // row_bytes))))


class Appended(NamedTuple):
    """Rows on their way into an array.

    Attributes:
        tasks: Write them and bring them to the disk, in any order.
        full: Checksums of chunks that are full with these rows.
        open: Checksum of the chunk that has room for more, if there is one; None if there is none.
    """

    tasks: list[Callable[[], None]]
    full: list[Sum]
    open: Sum | None


class _Chunk(NamedTuple):
    """What counts of a chunk file.

    Attributes:
        number: Its number.
        size: Bytes at its beginning.
        digest: Their SHA-256, to be gone on with.
    """

    number: int
    size: int
    digest: Any


@final
class Column:
    """One array of a group, with a row for each presentation.

    Args:
        folder: The array's folder.
        array: The array, created without compression and with chunks that divide rows alone.
        committed: Checksum of the chunk that holds the last committed row; None where none is committed.

    Raises:
        ValueError: That chunk is not what its checksum says.
    """

    def __init__(self, folder: Path, array: zarr.Array[Any], committed: Sum | None = None) -> None:
        self._folder = folder
        self._rows, self._text = int(array.chunks[0]), array.dtype.kind not in "biuf"
        self._cells = int(np.prod(array.shape[1:]))  # entries of a row
        self._dtype = np.dtype(object) if self._text else array.dtype.newbyteorder("<")
        self._empty = b"" if self._text else np.full(self._cells, array.fill_value, self._dtype).tobytes()
        self._zeros = ".0" * (array.ndim - 1)
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = self._dtype
        self._kept = None if committed is None else self._read(committed)
        self._written, self._last, self._kept_last = self._kept, committed, committed
        self._clean = committed is None

    @property
    def count(self) -> int:
        """Rows that are committed; of an array of numbers alone."""
        if self._kept is None:
            return 0
        return self._kept.number * self._rows + self._kept.size // max(1, len(self._empty))

    def append(self, start: int, values: NDArray[Any]) -> Appended:
        """Returns how rows ``start`` to ``start + len(values)`` are written, with their checksums.

        They count once `keep` is called; until then the next call writes over them.
        """
        if not len(values):  # an array whose rows are not those of all presentations
            self._written, self._last = self._kept, self._kept_last
            return Appended([], [], self._kept_last if start % self._rows else None)
        tasks: list[Callable[[], None]] = []
        sums: list[Sum] = []
        chunk, stop, tidy = self._kept, start + len(values), self._clean
        self._clean = False
        for number in range(start // self._rows, -(-stop // self._rows)):
            first, last = number * self._rows, min(stop, (number + 1) * self._rows)
            data = self._encoded(values[max(start, first) - start : last - start])
            left = (number + 1) * self._rows - last
            if chunk is None or chunk.number != number:
                chunk = _Chunk(number, 0, hashlib.sha256())
                data, begins = self._head() + data, True
            else:
                begins = False
            digest = chunk.digest.copy()
            digest.update(data)
            length = chunk.size + len(data) + self._tail(left)
            path = self._folder / f"c.{number}{self._zeros}"
            behind = b"\0" * self._tail(left) if self._text else self._empty * (left if begins or not tidy else 0)
            write = partial(_begin, path) if begins else partial(_go_on, path, chunk.size, self._text)
            tasks.append(partial(write, data + behind))
            chunk = _Chunk(number, chunk.size + len(data), digest)
            sums.append(Sum(f"{self._folder.name}/{path.name}", chunk.size, length, digest.hexdigest()))
        self._written, self._last = chunk, sums[-1]
        room = stop % self._rows
        return Appended(tasks, sums[:-1] if room else sums, sums[-1] if room else None)

    def keep(self) -> None:
        """Takes note that what was appended is committed."""
        self._clean = self._clean or self._written is not self._kept
        self._kept, self._kept_last = self._written, self._last

    def _tail(self, rows: int) -> int:
        """Counts the bytes that rows take which say nothing."""
        return rows * (4 * self._cells if self._text else len(self._empty))

    def _head(self) -> bytes:
        """Returns what stands before the first row: of texts, their number (numcodecs' VLenUTF8)."""
        return struct.pack("<I", self._rows * self._cells) if self._text else b""

    def _encoded(self, values: NDArray[Any]) -> bytes:
        """Encodes rows as they stand in a chunk: numbers as they are, of a text its length in bytes and UTF-8."""
        if not self._text:
            return np.ascontiguousarray(values, self._dtype).tobytes()
        texts = [str(text).encode() for text in values.ravel()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)

    def _read(self, committed: Sum) -> _Chunk:
        path = self._folder.parent / committed.path
        with path.open("rb") as file:
            data = file.read(committed.size)
        digest = hashlib.sha256(data)
        if digest.hexdigest() != committed.sha256:
            raise ValueError(f"{committed.path} is damaged (its checksum is not the recorded one)")
        return _Chunk(int(path.name.split(".")[1]), committed.size, digest)


def _begin(path: Path, data: bytes) -> None:
    """Makes a chunk file, in its full length."""
    replace_file(path, data)
    synchronize(path.parent)


def _go_on(path: Path, offset: int, text: bool, data: bytes) -> None:
    """Writes rows into a chunk file; of texts, what is left of a generation that was cut off is wiped up to its end."""
    rest = max(0, path.stat().st_size - offset - len(data)) if text else 0
    write_at(path, offset, data + b"\0" * rest)


def committed_chunks(sums: Sequence[Sum]) -> dict[str, Sum]:
    """Returns the last chunk of each array, by the array's name."""
    last: dict[str, tuple[int, Sum]] = {}
    for entry in sums:
        name, _, file = entry.path.rpartition("/")
        if file.startswith("c."):
            last[name] = max(last.get(name, (-1, entry)), (int(file.split(".")[1]), entry), key=lambda pair: pair[0])
    return {name: entry for name, (_, entry) in last.items()}
