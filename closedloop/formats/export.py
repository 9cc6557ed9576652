"""Finds the formats by name: ``closedloop export RUN --to FORMAT``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import xarray as xr

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.recording.reader import open_recording
from closedloop.signatures import at_door


@dataclass(frozen=True)
class Format:
    """A format that a recording can be written in.

    Attributes:
        module: The module here that writes it, by ``write(recording, out, **options)``.
        suffix: Ending of its file; empty for a folder.
        what: What comes out, in a few words.
    """

    module: str
    suffix: str
    what: str

    @property
    def write(self) -> Callable[..., None]:
        """Returns the function that writes a recording; its packages are imported now."""
        function: Callable[..., None] = import_module(f"closedloop.formats.{self.module}").write
        return function


#: All formats by the name that ``--to`` takes.
FORMATS = {
    "netcdf": Format("netcdf", ".nc", "the whole recording as one netCDF4 file; open_recording reads it back"),
    "nwb": Format("nwb", ".nwb", "Neurodata Without Borders, with the images; open_recording reads it back"),
    "brainio": Format("brainio", "", "a folder for Brain-Score: assembly (netCDF), stimulus set (CSV), images (ZIP)"),
    "csv": Format("csv", ".csv", "one row for each presentation, one column for each unit; no codes"),
    "png": Format("png", "", "a folder of images: the best of each generation and the re-tested ones, or all"),
    "gif": Format("movie", ".gif", "the evolution as an animation: the best image of each generation"),
    "mp4": Format("movie", ".mp4", "the same as a video"),
}


@at_door
def export(recording: xr.Dataset | str | Path, to: str, out: str | Path, **options: Any) -> Path:
    """Writes a recording in another format. The file appears complete or not at all.

    Args:
        recording: What `open_recording` returned, or the path it opens.
        to: One of `FORMATS`.
        out: File (or folder, for "brainio" and "png") to write; must not exist.
        **options: Of the format; see the `write` of its module.

    Returns:
        The path that was written.

    Raises:
        UnknownNameError: No such format.
        InvalidArgumentError: The name of the file does not end as the format wants, or an option does not fit.
        RecordingError: The file exists, or cannot be written.
        MissingExtraError: The format needs an extra.
    """
    if to not in FORMATS:
        raise UnknownNameError(f"to: no format named {to!r}.{closest(to, FORMATS)}")
    chosen, path = FORMATS[to], Path(out)
    if chosen.suffix and path.suffix.lower() != chosen.suffix:
        raise InvalidArgumentError(f"out: expected a name ending in {chosen.suffix} for {to}, got {path}.")
    opened = recording if isinstance(recording, xr.Dataset) else open_recording(recording)
    chosen.write(opened, path, **options)
    return path
