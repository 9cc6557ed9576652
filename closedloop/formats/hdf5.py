"""The file under HDF5: an error of the disk is kept and raised at the end, for HDF5 itself does not survive one."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final


@contextmanager
def hdf5_file(path: Path) -> Iterator[PatientFile]:
    """Opens a new file for h5py's ``fileobj`` driver, which takes a full disk without ending the process.

    Raises:
        OSError: The disk is full, or cannot be written; it is raised when all was handed to the file, or in the place
            of what HDF5 made of it.
    """
    with path.open("w+b", buffering=0) as raw:
        file = PatientFile(raw)
        try:
            yield file
        except Exception as error:
            if file.failed is not None:
                raise file.failed from error
            raise
        file.synchronize()
        if file.failed is not None:
            raise file.failed


@final
class PatientFile(io.RawIOBase):
    """A file that goes on in memory once the disk fails.

    Args:
        raw: The file on the disk.

    Attributes:
        failed: The first error of the disk; None where there was none.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw, self._at = raw, 0
        self._rest: list[tuple[int, bytes]] = []
        self.failed: OSError | None = None

    def readable(self) -> bool:
        """Returns True."""
        return True

    def writable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to another place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end()}[whence]
        self._at = base + offset
        return self._at

    def _end(self) -> int:
        return max([os.fstat(self._raw.fileno()).st_size, *(start + len(data) for start, data in self._rest)])

    def readinto(self, buffer: Any) -> int:
        """Reads what was written, on the disk or not."""
        wanted = memoryview(buffer).cast("B")
        self._raw.seek(self._at)
        count = self._raw.readinto(wanted) or 0
        for start, data in self._rest:
            first, last = max(start, self._at), min(start + len(data), self._at + len(wanted))
            if first < last:
                wanted[first - self._at : last - self._at] = data[first - start : last - start]
                count = max(count, last - self._at)
        self._at += count
        return count

    def write(self, data: Any) -> int:
        """Writes to the disk, or into memory once it failed."""
        content = memoryview(data).cast("B")
        start, self._at = self._at, self._at + len(content)
        if self.failed is None:
            try:
                self._raw.seek(start)
                rest = content
                while rest:
                    rest = rest[self._raw.write(rest) :]
                return len(content)
            except OSError as error:
                self.failed = error
        self._rest.append((start, bytes(content)))
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        """Sets the length of the file."""
        length = self._at if size is None else size
        if self.failed is None:
            try:
                return self._raw.truncate(length)
            except OSError as error:
                self.failed = error
        return length

    def synchronize(self) -> None:
        """Brings the file to the disk."""
        try:
            os.fsync(self._raw.fileno())
        except OSError as error:
            self.failed = self.failed or error
