"""Where a run is: a folder, or the zip file that it was packed into. Both are read by the same words."""

from __future__ import annotations

import io
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

#: A folder or file on the disk, or one in a zip file.
Root = Path | zipfile.Path
#: The ending of a packed run.
PACKED = ".zip"
#: What zipfile raises where an archive is damaged: its sums, its compression, its encryption, its end.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OverflowError)


class Packed(zipfile.Path):
    """A file or folder in a zip file, read as on the disk: what is damaged there is an `OSError`, too."""

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:  # type: ignore[override]
        """Opens a file to read it; its content is checked by the sum that the zip file has of it."""
        try:
            with super().open("rb") as stream:
                content = io.BytesIO(stream.read())
        except DAMAGED as error:
            raise OSError(f"{self}: {error}") from error
        return content if "b" in mode else io.TextIOWrapper(content, *args, **kwargs)


def root_of(path: str | Path) -> Root:
    """Returns the folder of a run, or the top of the zip file that it was packed into.

    Raises:
        OSError: A file that ends like a packed run is none.
    """
    place = Path(path)
    if not is_packed(place):
        return place
    try:
        return Packed(str(place))
    except DAMAGED as error:
        raise OSError(f"{place.name}: {error}") from error


def is_packed(path: str | Path) -> bool:
    """Tells whether a path is a file that ends like a packed run."""
    return str(path).lower().endswith(PACKED) and Path(path).is_file()


def sizes(folder: Root) -> dict[str, int]:
    """Returns the sizes of the files in a folder in bytes, in one pass; none where there is no folder."""
    if isinstance(folder, zipfile.Path):
        start = folder.at
        return {
            info.filename.removeprefix(start): info.file_size
            for info in folder.root.infolist()
            if info.filename.startswith(start) and "/" not in info.filename.removeprefix(start)
        }
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return {}


@contextmanager
def on_disk(place: Root) -> Iterator[Path]:
    """Gives a file, or a folder of files, as it is on the disk; of what is packed, a copy for as long as it is used."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / (place.name or "run")
        if place.is_dir():
            copy.mkdir()
        for file in place.iterdir() if place.is_dir() else ():
            if file.is_file():
                (copy / file.name).write_bytes(file.read_bytes())
        if place.is_file():
            copy.write_bytes(place.read_bytes())
        yield copy
