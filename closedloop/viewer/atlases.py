"""Atlases on the disk, and what a page shows of them: words, numbers, geometry and pictures, before any HTML.

The server and the static site show the same; what differs is where an address leads, which `Addresses` says.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.analysis.atlas import (
    ATLAS,
    AtlasPages,
    UnitPage,
    attribution_name,
    corrected,
    corrected_classes,
    natural_name,
)
from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError
from closedloop.figures.tiles import stretched
from closedloop.interfaces import RESOLUTION
from closedloop.recording.layout import is_run
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording, read_experiment, read_pointer

#: The shortest side of a picture on a page in pixels; a smaller one is enlarged by whole steps.
SIDE = 160
#: The longest side of a whole photograph on a page.
WHOLE = 224


class Addresses(Protocol):
    """Where the links of a page lead."""

    def layer(self, layer: str) -> str:
        """Returns the address of a layer's page."""
        ...

    def unit(self, layer: str, key: str) -> str:
        """Returns the address of a unit's page."""
        ...

    def picture(self, book: Book, name: str) -> str:
        """Returns the address of a picture, by the name that `Book.encoded` knows."""
        ...


@final
class Book:
    """One run of an atlas, read when it is asked for, and anew when it has grown.

    Args:
        run: Its folder.
        number: Among the atlases that are shown together.

    Attributes:
        run: Its folder.
        number: Among the atlases that are shown together.
    """

    def __init__(self, run: Path, number: int) -> None:
        self.run: Path = run
        self.number: int = number
        self._lock = threading.Lock()
        self._stamp: int | None = None
        self._resolution: int | None = None
        self._pages: AtlasPages | None = None
        self._pictures: Pictures | None = None

    @property
    def pages(self) -> AtlasPages:
        """Its pages as far as they are filled.

        Raises:
            RecordingError: Nothing is recorded yet, or it is damaged.
        """
        self._read()
        if self._pages is None:
            raise RecordingError(f"{self.run}: nothing is recorded yet.")
        return self._pages

    @property
    def stamp(self) -> int:
        """How many presentations are committed.

        Raises:
            RecordingError: It is damaged.
        """
        return int(read_pointer(self.run)["n_presentations"])

    def _read(self) -> None:
        with self._lock:
            stamp = self.stamp
            if stamp != self._stamp:
                recording = open_recording(self.run)
                self._pages, self._pictures, self._stamp = AtlasPages(recording), Pictures(recording), stamp

    @cached_property
    def experiment(self) -> dict[str, Any]:
        """What repeats it."""
        return dict(read_experiment(self.run))

    @property
    def photographs(self) -> str:
        """Which natural images it was made with: SHA-256 of them, or where none was noted, where they came from."""
        held = self.experiment.get("fingerprints") or {}
        return str(held.get("naturals") or self.experiment.get("naturals"))

    @property
    def photographs_from(self) -> str:
        """The name of the folder of its natural images, or "bundled"."""
        return Path(str(self.experiment.get("naturals"))).name

    @property
    def subject(self) -> str:
        """The subject's name."""
        return self.pages.subject

    @property
    def resolution(self) -> int:
        """Height and width of its images in pixels."""
        if self._resolution is None:
            self._resolution = self._measured()
        return self._resolution or RESOLUTION

    def _measured(self) -> int | None:
        """Returns the height of the first picture that is kept; None as long as there is none."""
        names = [natural_name(one.number) for column in range(self.pages.units) for one in self.pages.best(column)[:1]]
        names += [one.stimulus_id for column in range(self.pages.units) for one in self.pages.made(column)[:1]]
        known = next((picture for name in names if (picture := self._stored(name)) is not None), None)
        return None if known is None else int(known.shape[0])

    def encoded(self, name: str) -> bytes | None:
        """Returns a picture of a page as WebP; None for none of that name.

        Args:
            name: ``made-IMAGE-COLUMN`` (what the unit sees of an image that was made, with more contrast where it has
                little), ``crop-natural-NUMBER-COLUMN`` (what it sees of a natural image), ``whole-IMAGE-0`` (all of
                an image), or ``attribution-PLACE-COLUMN``.
        """
        found = re.fullmatch(r"(made|crop|whole|attribution)-([A-Za-z0-9_-]{1,120})-([0-9]{1,9})", name)
        if found is None:
            return None
        kind, image, column = found.group(1), found.group(2), int(found.group(3))
        picture = self._attribution(image, column) if kind == "attribution" else self._stored(image)
        if picture is None or column >= self.pages.units:
            return None
        if kind in ("made", "crop"):
            picture = _cut(picture, self.pages.field(column))
        if not picture.size:  # a name that no page holds, of a picture that is smaller than the field
            return None
        if kind == "made":
            picture = stretched(picture)[0]
        return _webp(picture, enlarge=kind != "whole")

    def _stored(self, name: str) -> NDArray[np.uint8] | None:
        self._read()
        return None if self._pictures is None else self._pictures.kept(name)

    def contrast(self, name: str, column: int) -> float:
        """Returns by how much the contrast of what a unit sees of an image that was made is raised; 1 for not."""
        picture = self._stored(name)
        return 1.0 if picture is None else stretched(_cut(picture, self.pages.field(column)))[1]

    def preferred(self, layer: str, key: str) -> NDArray[np.uint8] | None:
        """Returns what a unit sees of the image that drives it most of those that were made; None for none yet."""
        column = self.pages.column(layer, key)
        made = self.pages.made(column)
        picture = self._stored(made[0].stimulus_id) if made else None
        return None if picture is None else stretched(_cut(picture, self.pages.field(column)))[0]

    def _attribution(self, place: str, column: int) -> NDArray[np.uint8] | None:
        strip = self._stored(attribution_name(column))
        if strip is None or not place.isdecimal():
            return None
        y0, x0, y1, x1 = self.pages.field(column) or (0, 0, 1, 1)
        width = round(strip.shape[0] * (x1 - x0) / max(1, y1 - y0))
        found = strip[:, int(place) * width : (int(place) + 1) * width]
        return found if found.shape[1] == width else None


def books_of(folder: Path) -> list[Book]:
    """Returns the atlases in a folder: itself, or those of its subfolders, by name.

    Raises:
        InvalidArgumentError: There is none.
    """
    runs = [folder] if is_run(folder) else sorted(p for p in folder.iterdir() if p.is_dir() and is_run(p))
    found = [run for run in runs if _is_atlas(run)]
    if not found:
        raise InvalidArgumentError(
            f"atlas: expected the folder of a run of closedloop atlas, or of several, and {folder} is none."
        )
    return [Book(run, i) for i, run in enumerate(found)]


def _is_atlas(run: Path) -> bool:
    try:
        return read_experiment(run).get("protocol") == ATLAS
    except ClosedLoopError:
        return False


def _cut(picture: NDArray[np.uint8], field: tuple[int, int, int, int] | None) -> NDArray[np.uint8]:
    """Returns what a unit sees of a picture ``(h, w, 3)``."""
    if field is None:
        return picture
    y0, x0, y1, x1 = field
    return picture[y0:y1, x0:x1]


def _webp(picture: NDArray[np.uint8], enlarge: bool) -> bytes:
    """Returns a picture ``(h, w, 3)`` as WebP, one of few pixels enlarged by whole steps, a large one made smaller."""
    side = max(picture.shape[:2])
    if enlarge and side < SIDE:
        picture = np.repeat(np.repeat(picture, SIDE // side, 0), SIDE // side, 1)
    image, buffer = Image.fromarray(np.ascontiguousarray(picture)), BytesIO()
    if side > WHOLE:
        image.thumbnail((WHOLE, WHOLE), Image.Resampling.LANCZOS)
    image.save(buffer, format="WEBP", quality=88, method=4)
    return buffer.getvalue()


@dataclass(frozen=True)
class Shelf:
    """Atlases that are shown together.

    Attributes:
        books: They.
    """

    books: Sequence[Book]
    _corrected: dict[str, tuple[tuple[AtlasPages, ...], list[dict[str, float]]]] = field(default_factory=dict)

    def corrected(self, layer: str) -> dict[tuple[int, str], float]:
        """Returns the p-value of each image that was made for a layer, by its book's number and its name.

        Corrected for the images of all books together, since they are shown together.
        """
        pages = tuple(book.pages for book in self.books)
        known = self._corrected.get(layer)
        if known is None or known[0] != pages:  # a book that has grown has new pages
            known = self._corrected[layer] = (pages, corrected(pages, layer))
        return {
            (book.number, name): p for book, own in zip(self.books, known[1], strict=True) for name, p in own.items()
        }

    def classes_corrected(self, layer: str) -> dict[tuple[str, str], float]:
        """Returns the p-value of the difference between classes, by the set of photographs and the unit's name.

        Corrected for the units of the layer and the sets together, since they are shown together.
        """
        books = [book for book in self.books if layer in book.pages.keys]
        sets = [book.photographs for book in books]
        found = corrected_classes([book.pages for book in books], layer, sets)
        return {(which, key): p for which, own in zip(sets, found, strict=True) for key, p in own.items()}

    @property
    def layers(self) -> dict[str, dict[str, list[Book]]]:
        """The books that know each unit, by its name within its layer, by layer."""
        found: dict[str, dict[str, list[Book]]] = {}
        for book in self.books:
            for layer, units in book.pages.keys.items():
                for key in units:
                    found.setdefault(layer, {}).setdefault(key, []).append(book)
        return {
            layer: dict(sorted(units.items(), key=lambda e: _natural_order(e[0]))) for layer, units in found.items()
        }

    def unit(self, layer: str, key: str) -> list[tuple[Book, UnitPage]]:
        """Returns what each book says of a unit.

        Raises:
            InvalidArgumentError: There is no such unit.
        """
        known = [book for book in self.books if key in book.pages.keys.get(layer, {})]
        if not known:
            self.books[0].pages.column(layer, key)  # says what there is
        return [(book, book.pages.unit(layer, key)) for book in known]


def _natural_order(key: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.split(r"[@,]", key) if part.isdecimal())


@dataclass(frozen=True)
class Histogram:
    """Responses to natural images as bars, with the images that were made as marks; in units of an SVG.

    Attributes:
        width: Of the drawing.
        height: Of its bars.
        bars: Left edge, top, width and height of each.
        marks: Place and number of each image that was made.
        ticks: Place and text of each tick.
        words: What it shows, for a screen reader.
    """

    width: int
    height: int
    bars: list[tuple[float, float, float, float]]
    marks: list[tuple[float, int, int]]
    ticks: list[tuple[float, str]]
    words: str


def histogram(page: UnitPage, made: Sequence[float], width: int = 640, height: int = 120) -> Histogram | None:
    """Returns the histogram of a unit's responses to natural images; None where there are none.

    Args:
        page: Of the unit.
        made: Responses to the images that were made, in the order of their numbers on the page.
        width: In units of the drawing.
        height: Likewise.
    """
    known = [value for value in made if np.isfinite(value)]
    if not len(page.counts):
        return None
    low, high = min([float(page.edges[0]), *known]), max([float(page.edges[-1]), *known])
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return round(8 + (width - 16) * (value - low) / span, 2)

    # Roots of the counts: single images at the ends are seen beside the many in the middle.
    tallest = float(np.sqrt(page.counts.max()))
    bars = []
    for count, left, right in zip(page.counts.tolist(), page.edges[:-1], page.edges[1:], strict=True):
        tall = round(height * float(np.sqrt(count)) / tallest, 2)
        if count:
            bars.append((at(left), round(height - tall, 2), max(round(at(right) - at(left) - 0.4, 2), 0.6), tall))
    marks, last = [], [-100.0, -100.0, -100.0]
    for number, value in sorted(enumerate(made, 1), key=lambda pair: pair[1]):
        if np.isfinite(value):
            row = next((r for r in range(3) if at(value) - last[r] > 16), 0)
            last[row] = at(value)
            marks.append((at(value), number, row))
    ticks = [(at(v), _short(v)) for v in _ticks(low, high)]
    words = (
        f"Responses to {len(page.natural):,} natural images, {page.natural[0]:.3g} to {page.natural[-1]:.3g}; images "
        f"that were made: {', '.join(f'{i}: {v:.3g}' for i, v in enumerate(made, 1))}."
    )
    return Histogram(width, height, bars, marks, ticks, words)


def _ticks(low: float, high: float) -> list[float]:
    """Returns some five round numbers between two."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / 5
    size = 10.0 ** np.floor(np.log10(rough))
    step = size * next(s for s in (1, 2, 5, 10) if s * size >= rough)
    return [float(v) for v in np.arange(np.ceil(low / step) * step, high + step * 1e-6, step)]


def _short(value: float) -> str:
    return f"{value + 0.0:.4g}".replace("-", "−")
