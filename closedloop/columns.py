"""Appending rows to the arrays of a zarr group, a whole chunk file at a time.

zarr's own ``array[start:stop] = rows`` reads the chunk back, merges, and writes it through an event loop, which costs
more than a millisecond for each array and leaves the file unsynchronized. Here the chunk under way stays in memory and
its file is replaced atomically. The files are what zarr would have written: uncompressed, default chunk names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import zarr
from numcodecs import VLenUTF8
from numpy.typing import NDArray

from closedloop.files import replace_file


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

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Writes rows ``start`` to ``start + len(values)``; what stands before them in their chunks stays."""
        stop = start + len(values)
        for number in range(start // self._rows, -(-stop // self._rows)):
            first = number * self._rows
            begin, end = max(start, first), min(stop, first + self._rows)
            self._go_to(number)
            self._chunk[begin - first : end - first] = values[begin - start : end - start]
            file = self._folder.joinpath("c", str(number), *["0"] * (self._array.ndim - 1))
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, self._bytes())

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

    def _bytes(self) -> bytes:
        return bytes(VLenUTF8().encode(self._chunk)) if self._text else self._chunk.tobytes()
