"""The pictures behind the names of a recording: files of its run where they were kept, else made again from codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import ClosedLoopError, RecordingError
from closedloop.images.eight_bit import to_bytes
from closedloop.images.forms import recoloured
from closedloop.images.movies import IMAGE_ENDINGS, decode_movie
from closedloop.images.opening import open_picture
from closedloop.images.sets import ImageSet
from closedloop.recording.checksums import Sum
from closedloop.recording.layout import EXPORT, IMAGES, REFERENCE, recorded_form
from closedloop.recording.places import Root, root_of
from closedloop.recording.reader import checked_kept, kept_sums
from closedloop.recording.readers.nwb_pictures import pictures_in
from closedloop.recording.references import read_references
from closedloop.recording.render import render

#: The name of an evolved image -> its picture ``(h, w, 3)`` 8-bit RGB, or its movie ``(frames, h, w, 3)``; None where
#: there is none to show.
Lookup = Callable[[str], NDArray[np.uint8] | None]


@final
class Pictures:
    """The pictures of a recording by name, 8-bit RGB; grey ones too, so that all can be shown alike.

    An evolved image is read from the run's folder or NWB file if it was kept there, else made again from its code.
    Where neither is possible there is none.

    Args:
        recording: See `closedloop.open_recording`.

    Attributes:
        rate_hz: Frames per second of movies; None for stills.
        missing: Why there is no picture, where there was none so far.
        doubts: Why a picture that was made again may look different: the generator's weights are others.
    """

    def __init__(self, recording: xr.Dataset) -> None:
        self._recording = recording
        self.rate_hz: float | None = recorded_form(recording).rate_hz
        source = recording.encoding.get("source")
        self._run = None if source is None else Path(source)
        export = recording.encoding.get(EXPORT)
        self._export = None if export is None else Path(export)
        self._reference = recording["thread"].values == REFERENCE
        self._known: dict[tuple[str, bool], NDArray[np.uint8] | None] = {}
        self.missing: dict[str, None] = {}
        self.doubts: dict[str, None] = {}

    def __call__(self, stimulus_id: str) -> NDArray[np.uint8] | None:
        """Returns the picture ``(h, w, 3)`` of an evolved image, or the movie ``(frames, h, w, 3)``; or None."""
        return self.several([stimulus_id])[0]

    def reference(self, stimulus_id: str) -> NDArray[np.uint8] | None:
        """Returns the picture ``(h, w, 3)`` of a reference as it was shown, or None."""
        return self.several([stimulus_id], reference=True)[0]

    def kept(self, name: str) -> NDArray[np.uint8] | None:
        """Returns the picture ``(h, w, 3)`` of a file that the run kept by this name, whatever it shows; None for none.

        It is read anew each time.
        """
        return self._file(name)

    def several(self, names: Sequence[str], reference: bool = False) -> list[NDArray[np.uint8] | None]:
        """Returns the pictures of several evolved images, or references; faster than one by one."""
        unknown = [name for name in dict.fromkeys(names) if (name, reference) not in self._known]
        kept = {name: self._stored_reference(name) if reference else self._file(name) for name in unknown}
        kept |= self._beside([name for name, image in kept.items() if image is None], reference)
        made = self._made([name for name, image in kept.items() if image is None], reference)
        self._known.update({(name, reference): image for name, image in (kept | made).items()})
        return [self._known[name, reference] for name in names]

    def _file(self, name: str) -> NDArray[np.uint8] | None:
        """Reads the file of an evolved image, if the run kept it."""
        if self._run is None or Path(name).name != name:  # a name from a strange file leads nowhere else
            return None
        root, sums = root_of(self._run), self._sums
        for file in (f"{IMAGES}/{name}{ending}" for ending in IMAGE_ENDINGS):
            if sums is not None and file not in sums:
                continue  # a process died between this file and its commit; what was committed is made again
            if (root / file).is_file():
                content = checked_kept(self._run, file, sums)
                return None if content is None else _decoded(root / file, content)
            if sums is not None:
                self.doubts["images that the run kept are missing from its folder; they are made again."] = None
        return None

    def _beside(self, names: list[str], reference: bool) -> dict[str, NDArray[np.uint8]]:
        """Reads pictures that an NWB file holds beside the recording; none of anything else."""
        file = self._export
        if not names or file is None or file.suffix.lower() != ".nwb" or not file.is_file():
            return {}
        return pictures_in(file, names, reference)

    @cached_property
    def _sums(self) -> Mapping[str, Sum] | None:
        """Checksums of the files that the run keeps; None where it has none."""
        return None if self._run is None else kept_sums(self._run)

    def _stored_reference(self, name: str) -> NDArray[np.uint8] | None:
        known = self._references
        if known is None or name not in known.ids:
            return None
        return _rgb(to_bytes(known.images[known.ids.index(name)]))

    @cached_property
    def _references(self) -> ImageSet | None:
        return None if self._run is None else read_references(self._run)

    def _made(self, names: list[str], reference: bool) -> dict[str, NDArray[np.uint8] | None]:
        """Makes images again, or looks them up where their experiment took them from."""
        found: dict[str, NDArray[np.uint8] | None] = dict.fromkeys(names)
        rows = {name: row for name in names if (row := self._row(name, reference)) is not None}
        if not rows:
            return found
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                images = _rgb(to_bytes(render(self._recording, list(rows.values()))))
            except ClosedLoopError as error:
                self.missing[str(error)] = None
                return found
        for warning in heard:
            self.doubts[str(warning.message)] = None
        return found | dict(zip(rows, images, strict=True))

    def _row(self, name: str, reference: bool) -> int | None:
        """Returns the first presentation of an image."""
        rows = np.flatnonzero((self._recording["stimulus_id"].values == name) & (self._reference == reference))
        return int(rows[0]) if len(rows) else None


def _decoded(file: Root, content: bytes) -> NDArray[np.uint8]:
    """Decodes the picture or movie in the bytes of a file, as `Pictures` gives it."""
    try:
        ending = Path(file.name).suffix
        movie = decode_movie(content, ending)
        if movie is not None:
            return _rgb(movie.pictures)
        with open_picture(content, ending) as image:
            return np.asarray(image.convert("RGB"))
    except ClosedLoopError as error:
        raise RecordingError(f"{file}: cannot read this image ({error}).") from error


def _rgb(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turns images ``(…, 1 or 3, h, w)`` into pictures ``(…, h, w, 3)``."""
    pictures: NDArray[np.uint8] = np.moveaxis(recoloured(images, 3), -3, -1)
    return pictures
