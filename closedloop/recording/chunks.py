"""Appending rows to the arrays of a zarr group, a whole chunk file at a time.

zarr's own ``array[start:stop] = rows`` reads the chunk back, merges, and writes it through an event loop, which costs
more than a millisecond for each array and leaves the file unsynchronized. Here the chunk under way stays in memory, and
whoever commits replaces its file atomically. The files are what zarr would have written: uncompressed, default names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import zarr
from numcodecs import VLenUTF8
from numpy.typing import NDArray

from closedloop.recording.checksums import Sum


class Chunk(NamedTuple):
    """A chunk file as it must be written.

    Attributes:
        path: The file; its folder is there.
        data: Its whole content.
        sum: Checksum of the content, up to the last row that was set.
    """

    path: Path
    data: bytes
    sum: Sum


@final
class Column:
    """One array of a group, with a row for each presentation.

    Args:
        folder: The array's folder.
        array: The array, created without compression, its chunks undivided but for rows.
    """

    def __init__(self, folder: Path, array: zarr.Array[Any]) -> None:
        self._folder, self._array = folder, array
        self._rows = int(array.chunks[0])
        self._text = array.dtype.kind not in "iuf"
        self._number = -1
        self._chunk: NDArray[Any] = np.empty(0)

    def set(self, start: int, values: NDArray[Any]) -> list[Chunk]:
        """Sets rows ``start`` to ``start + len(values)``; what stands before them in their chunks stays.

        Returns:
            The chunk files that hold them, which the caller writes.
        """
        stop, chunks = start + len(values), []
        for number in range(start // self._rows, -(-stop // self._rows)):
            first = number * self._rows
            begin, end = max(start, first), min(stop, first + self._rows)
            self._go_to(number)
            self._chunk[begin - first : end - first] = values[begin - start : end - start]
            name = "/".join(["c", str(number), *["0"] * (self._array.ndim - 1)])
            file = self._folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            data = self._bytes(self._rows)
            known = Sum.of(f"{self._folder.name}/{name}", data, *self._sizes(data, end - first))
            chunks.append(Chunk(file, data, known))
        return chunks

    def _sizes(self, data: bytes, rows: int) -> tuple[int, int]:
        """Bytes of the first rows of a chunk, and the least that the whole takes whatever stands in the rest."""
        if not self._text:
            return rows * (len(data) // self._rows), len(data)
        # Encoded texts follow each other, so the first ones are as long alone as in the chunk; an empty one takes 4.
        size = len(self._bytes(rows))
        return size, size + 4 * (self._rows - rows)

    def _go_to(self, number: int) -> None:
        """Takes a chunk into memory, as it stands on the disk."""
        if number == self._number:
            return
        first = number * self._rows
        dtype = object if self._text else self._array.dtype.newbyteorder("<")
        chunk = np.full((self._rows, *self._array.shape[1:]), self._array.fill_value, dtype)
        stored = np.asarray(self._array[first : first + self._rows])
        chunk[: len(stored)] = stored
        self._chunk, self._number = chunk, number

    def _bytes(self, rows: int) -> bytes:
        chunk = self._chunk[:rows]
        return bytes(VLenUTF8().encode(chunk)) if self._text else chunk.tobytes()
