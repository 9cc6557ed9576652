"""The pictures behind the names of a recording: files of its run where they were kept, else made again from codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from closedloop.errors import ClosedLoopError, RecordingError
from closedloop.evolution import REFERENCE
from closedloop.images import ImageSet, to_bytes
from closedloop.recording import IMAGES, read_references
from closedloop.stimuli import render

#: The name of an evolved image -> its picture ``(h, w, 3)`` 8-bit RGB; None where there is none to show.
Lookup = Callable[[str], NDArray[np.uint8] | None]


@final
class Pictures:
    """The pictures of a recording by name, 8-bit RGB.

    An evolved image is read from the run's folder if it was kept there, else made again from its code. Where neither is
    possible there is none, and `reasons` says why; a generator with other weights than recorded is said there too.

    Args:
        recording: See `closedloop.open_recording`.
    """

    def __init__(self, recording: xr.Dataset) -> None:
        self._recording = recording
        source = recording.encoding.get("source")
        self._run = None if source is None else Path(source)
        self._reference = recording["thread"].values == REFERENCE
        self._known: dict[tuple[str, bool], NDArray[np.uint8] | None] = {}
        self.reasons: list[str] = []

    def __call__(self, stimulus_id: str) -> NDArray[np.uint8] | None:
        """The picture ``(h, w, 3)`` of an evolved image, or None."""
        return self._remembered(stimulus_id, False)

    def reference(self, stimulus_id: str) -> NDArray[np.uint8] | None:
        """The picture ``(h, w, 3)`` of a reference as it was shown, or None."""
        return self._remembered(stimulus_id, True)

    def _remembered(self, name: str, reference: bool) -> NDArray[np.uint8] | None:
        key = (name, reference)
        if key not in self._known:
            kept = self._stored_reference(name) if reference else self._file(name)
            self._known[key] = self._made(name, reference) if kept is None else kept
        return self._known[key]

    def _file(self, name: str) -> NDArray[np.uint8] | None:
        """The file of an evolved image, if the run kept it."""
        if self._run is None:
            return None
        path = self._run / IMAGES / f"{name}.png"
        if path.parent != self._run / IMAGES or not path.is_file():  # a name from a strange file leads nowhere else
            return None
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise RecordingError(f"{path}: cannot read this image ({error}).") from error

    def _stored_reference(self, name: str) -> NDArray[np.uint8] | None:
        known = self._references
        if known is None or name not in known.ids:
            return None
        return to_bytes(known.images[known.ids.index(name)]).transpose(1, 2, 0)

    @cached_property
    def _references(self) -> ImageSet | None:
        return None if self._run is None else read_references(self._run)

    def _made(self, name: str, reference: bool) -> NDArray[np.uint8] | None:
        """The image made again, or looked up where its experiment took it from."""
        rows = np.flatnonzero((self._recording["stimulus_id"].values == name) & (self._reference == reference))
        if len(rows) == 0:
            return None
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                image = render(self._recording, [int(rows[0])])[0]
            except ClosedLoopError as error:
                self._note(str(error))
                return None
        for warning in heard:
            self._note(str(warning.message))
        return to_bytes(image).transpose(1, 2, 0)

    def _note(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)
