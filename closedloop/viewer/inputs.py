"""What a subject is shown: bundled photographs, a folder, what was dropped, camera frames, and images of codes.

Each is decoded as what it promises to be, after its size was looked at. Bundled photographs are kept once they were
read, and others as long as there is room: what a deep link names is either there or read again.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.images.eight_bit import from_bytes, pillow_image, to_bytes
from closedloop.images.forms import shown_as
from closedloop.images.movies import decode_movie, encode_webp
from closedloop.images.opening import read_picture
from closedloop.images.resizing import resize_images
from closedloop.images.sets import fitted, folder_images, in_colours
from closedloop.interfaces import STILL, Form
from closedloop.viewer.asked import RequestError, absent

#: Pixels of the largest picture that is decoded.
MOST_PIXELS = 50_000_000
#: Pictures that were dropped or made from codes, and fitted pictures, that are kept.
DROPPED, FITTED = 64, 256
#: Pictures that are decoded for pages at the same time; one of 50 megapixels takes half a gigabyte while it is.
DECODED = 2
#: Content types of pictures, and the endings that promise the same.
TYPES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
}

#: One stimulus in 8 bits: ``(channels, h, w)``, or ``(frames, channels, h, w)``.
Stimulus = NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """One input.

    Attributes:
        id: Its name in addresses.
        title: What a person calls it.
        source: "bundled", "folder", "dropped" or "generator".
        read: Returns it as the subject is shown it; its argument says whether it is stretched to a square.
    """

    id: str
    title: str
    source: str
    read: Callable[[bool], Stimulus]

    def facts(self) -> dict[str, str]:
        """Returns what a list says of it."""
        return {"id": self.id, "title": self.title, "source": self.source}


@final
class Inputs:
    """All that there is to look at.

    Args:
        resolution: Height and width of what the subject sees in pixels.
        form: Colour or grey, stills or movies.
        folder: A folder of the user's; links that lead out of it are left out.
    """

    def __init__(self, resolution: int, form: Form, folder: Path | None = None) -> None:
        self.resolution: int = resolution
        self.form: Form = form
        with resources.as_file(resources.files("closedloop") / "references") as bundled:
            self._fixed = dict(self._files("bundled", bundled))
        self._fixed |= dict(self._files("folder", folder)) if folder is not None else {}
        self._dropped: OrderedDict[str, Entry] = OrderedDict()
        self._fitted: OrderedDict[tuple[str, bool], Stimulus] = OrderedDict()
        self._pinned: dict[tuple[str, bool], Stimulus] = {}
        self._lock = threading.Lock()

    def _files(self, source: str, folder: Path) -> list[tuple[str, Entry]]:
        found = []
        for title, path in zip(*folder_images(folder), strict=True):
            if path.resolve().is_relative_to(folder.resolve()):
                name = f"{source}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}"
                called = os.fsencode(title).decode(errors="replace")  # a name may be no text
                found.append((name, Entry(name, called, source, self._reader(path))))
        return found

    def _reader(self, path: Path) -> Callable[[bool], Stimulus]:
        return lambda stretch: self.decoded(path, "", stretch)

    def listed(self) -> list[dict[str, str]]:
        """Lists all inputs: what was dropped last comes first, then those of the folder, and the bundled ones."""
        with self._lock:
            recent = [entry.facts() for entry in reversed(self._dropped.values()) if entry.source == "dropped"]
        fixed = sorted(self._fixed.values(), key=lambda entry: entry.source, reverse=True)
        return [*recent, *(entry.facts() for entry in fixed)]

    def stimulus(self, name: str, stretch: bool = False) -> Stimulus:
        """Returns an input as the subject is shown it, in 8 bits.

        Raises:
            RequestError: There is none of that name, or no longer.
            InvalidArgumentError: Its file cannot be read.
        """
        key = (name, stretch)
        with self._lock:
            known = self._pinned.get(key)
            if known is None and key in self._fitted:
                self._fitted.move_to_end(key)
                known = self._fitted[key]
            entry = self._fixed.get(name) or self._dropped.get(name)
        if known is not None:
            return known
        if entry is None:
            raise absent(f"input: there is no input {name[:60]!r}, or no longer; choose one of /api/inputs.")
        made = entry.read(stretch)
        self._keep(key, made, entry.source == "bundled")
        return made

    def known(self, name: str, stretch: bool = False) -> bool:
        """Returns whether an input can be shown without decoding anything."""
        with self._lock:
            return (name, stretch) in self._pinned or (name, stretch) in self._fitted

    def _keep(self, key: tuple[str, bool], made: Stimulus, pinned: bool) -> None:
        with self._lock:
            if pinned:
                self._pinned[key] = made
                return
            self._fitted[key] = made
            while len(self._fitted) > FITTED:
                self._fitted.popitem(last=False)

    def drop(self, content: bytes, kind: str, title: str, stretch: bool = False) -> Entry:
        """Keeps a picture that a user dropped or pasted; the same pixels are the same input.

        Args:
            content: Its bytes.
            kind: Its content type, one of `TYPES`.
            title: What it is called.
            stretch: Whether it is stretched to a square, and not cut.

        Raises:
            RequestError: No content type of a picture.
            InvalidArgumentError: The bytes are no such picture, or too many pixels.
        """
        stimulus = self.decoded(content, ending_of(kind), stretch)
        return self.add(stimulus, title, "dropped")

    def add(self, stimulus: Stimulus, title: str, source: str) -> Entry:
        """Keeps a stimulus as an input; its name follows from its pixels."""
        digest = hashlib.sha256(f"{stimulus.shape}".encode() + np.ascontiguousarray(stimulus).tobytes())
        name = f"{source}-{digest.hexdigest()[:16]}"
        entry = Entry(name, title, source, lambda _stretch: stimulus)
        with self._lock:
            self._dropped[name] = entry
            self._dropped.move_to_end(name)
            while len(self._dropped) > DROPPED:
                self._dropped.popitem(last=False)
        return entry

    def decoded(self, source: Path | bytes, ending: str, stretch: bool) -> Stimulus:
        """Decodes a picture as the subject is shown it: its central square, or all of it stretched, in colours or grey.

        For a subject of movies a file of as many frames is the movie, and any other picture a still that is held.

        Raises:
            InvalidArgumentError: It cannot be read, has too many pixels, or is a movie of another length.
        """
        if self.form.frames is not None:
            movie = self._movie(source, ending)
            if movie is not None:
                return movie
        still = fitted(read_picture(source, ending, MOST_PIXELS), self.resolution, stretch)
        # A still in colours is shown as it is: to numbers in [0, 1] and back to 8 bits changes nothing.
        return np.ascontiguousarray(still) if self.form == STILL else self.as_shown(from_bytes(still)[None])

    def _movie(self, source: Path | bytes, ending: str) -> Stimulus | None:
        found = decode_movie(source, ending, self.form.frames)
        if found is None:
            return None
        _, _, height, width = found.pictures.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = from_bytes(found.pictures[..., top : top + side, left : left + side])
        return self.as_shown(resize_images(square, self.resolution)[None])

    def as_shown(self, images: NDArray[np.float32]) -> Stimulus:
        """Turns one image ``(1, 3, h, w)`` in [0, 1], or movie, into the form that the subject is shown, in 8 bits."""
        fit = resize_images(images, self.resolution)
        return to_bytes(np.asarray(shown_as(in_colours(fit, self.form), self.form))[0])


def ending_of(kind: str) -> str:
    """Returns the ending that promises what a content type does.

    Raises:
        RequestError: It is none of `TYPES`.
    """
    known = TYPES.get(kind.partition(";")[0].strip().lower())
    if known is None:
        raise RequestError(f"body: expected a picture ({', '.join(TYPES)}), got Content-Type {kind[:60]!r}.", 415)
    return known


def picture(stimulus: Stimulus, form: Form, size: int | None = None) -> tuple[bytes, str]:
    """Encodes a stimulus for the browser, a JPEG, or a movie in WebP; returns it and its content type.

    Args:
        stimulus: What the subject is shown.
        form: Its form.
        size: Height and width in pixels; None for as it is.
    """
    if form.frames is not None:
        return encode_webp(stimulus, form.rate_hz or 10.0), "image/webp"
    drawn = pillow_image(stimulus)
    if size is not None:
        drawn = drawn.resize((size, size), Image.Resampling.BICUBIC)
    return encode_jpeg(drawn, 92), "image/jpeg"


def encode_jpeg(drawn: Image.Image, quality: int, **options: Any) -> bytes:
    """Encodes a picture as a JPEG."""
    buffer = io.BytesIO()
    settings: Mapping[str, Any] = {"quality": quality, **options}
    drawn.save(buffer, format="JPEG", **settings)
    return buffer.getvalue()
