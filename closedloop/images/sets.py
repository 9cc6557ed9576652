"""Reads images: folders of photographs, resizing, 8-bit files. RGB in [0, 1], ``(n, 3, h, w)`` float32.

For a subject of another form they come in that form: grey, and for one of movies stills or movies of its length.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.arrays import as_names
from closedloop.checks import check_any_images, check_memory, check_whole
from closedloop.errors import InvalidArgumentError, reword
from closedloop.images.eight_bit import from_bytes, quantize, to_bytes
from closedloop.images.forms import check_forms, recoloured, shown_as
from closedloop.images.movies import decode_movie
from closedloop.images.opening import FORMATS, read_picture
from closedloop.images.resizing import resize_images
from closedloop.interfaces import STILL, Form
from closedloop.readable import Readable, counted, some
from closedloop.recipes import BUNDLED
from closedloop.signatures import at_door


@dataclass(frozen=True)
class ImageSet(Readable):
    """Named images, all of one size, with 8-bit values so that a file can hold them exactly.

    Raises:
        InvalidArgumentError: Names or images are none, or not as many as each other.

    Attributes:
        ids: A unique name for each, a text of one line.
        images: ``(n, 3, h, w)`` float32, RGB in [0, 1], multiples of 1/255; or grey ``(n, 1, h, w)``, or movies
            ``(n, frames, channels, h, w)``.
        rate_hz: Frames per second of movies, where that is known.
    """

    ids: tuple[str, ...]
    images: NDArray[np.float32]
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", as_names("ids", self.ids))
        object.__setattr__(self, "images", check_any_images(self.images))
        if len(self.ids) != len(self.images):
            raise InvalidArgumentError(f"ids: expected {len(self.images)} names, got {len(self.ids)}.")

    def __len__(self) -> int:
        return len(self.ids)

    def _in_words(self) -> str:
        size = " × ".join(map(str, self.images.shape[-2:]))
        kind = "movie" if self.images.ndim == 5 else "image"
        return f"{counted(len(self), kind)} of {size} pixels: {some(self.ids)}"

    @property
    def fingerprint(self) -> str:
        """Returns SHA-256 of names and 8-bit values."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        digest.update(str(self.images.shape).encode())
        for image in self.images:  # one by one and colours last, as they lie in memory, so that nothing large is copied
            digest.update(np.ascontiguousarray(np.moveaxis(to_bytes(image), -3, -1)).data)
        return digest.hexdigest()


def folder_fingerprint(folder: str | Path) -> str:
    """Returns SHA-256 of the names and contents of the images in a folder.

    Raises:
        InvalidArgumentError: There is no such folder, or it holds no image.
    """
    digest = hashlib.sha256()
    for name, path in zip(*folder_images(folder), strict=True):
        digest.update(os.fsencode(name))  # a name may be no text
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@at_door
def read_image(path: str | Path, resolution: int) -> NDArray[np.uint8]:
    """Reads one photograph, upright, its central square, resized: ``(3, resolution, resolution)`` 8-bit RGB.

    Raises:
        InvalidArgumentError: The file is not a readable image.
    """
    return fitted(read_picture(Path(path)), check_whole("resolution", resolution, 1))


def fitted(picture: Image.Image, resolution: int, stretch: bool = False) -> NDArray[np.uint8]:
    """Returns the central square of a picture, or all of it stretched to a square, ``(3, resolution, resolution)``."""
    if stretch:
        squeezed = picture.resize((resolution, resolution), Image.Resampling.BICUBIC)
        return np.asarray(squeezed).transpose(2, 0, 1)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    if side != resolution:
        square = square.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.asarray(square).transpose(2, 0, 1)


@at_door
def folder_images(folder: str | Path) -> tuple[tuple[str, ...], list[Path]]:
    """Returns names and paths of the images in a folder, in the order of their names.

    Raises:
        InvalidArgumentError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidArgumentError(f"images: expected a folder of images, got {folder}, which is not a folder.")
    named = [p for p in folder.iterdir() if p.suffix.lower() in FORMATS]
    paths = sorted(p for p in named if p.is_file())
    if lost := sorted(p for p in named if p.is_symlink() and not p.exists()):
        raise InvalidArgumentError(
            f"images: {lost[0]} is a link to a file that is not there{_and_more(len(lost) - 1)}; fetch what it is a "
            "link to, or remove it."
        )
    if not paths:
        raise InvalidArgumentError(f"images: no image in {folder}; expected files ending in {', '.join(FORMATS)}.")
    stems = Counter(p.stem for p in paths)
    return tuple(p.stem if stems[p.stem] == 1 else p.name for p in paths), paths


def _and_more(count: int) -> str:
    return f", and so are {count} more" if count else ""


@at_door
def read_folder(folder: str | Path, resolution: int, form: Form = STILL) -> ImageSet:
    """Reads all images of a folder in the order of their names: the central square of each, resized.

    Raises:
        InvalidArgumentError: There is no such folder, no image in it, or an image that cannot be read.
    """
    ids, paths = folder_images(folder)
    return ImageSet(ids, read_images(paths, resolution, form), form.rate_hz)


def read_images(paths: Sequence[Path], resolution: int, form: Form = STILL) -> NDArray[np.float32]:
    """Reads files as a subject of this form is shown them, but for stills that it is to be shown as movies.

    Animated files are movies for a subject of movies, where all of these files are: otherwise stills are held for all
    frames here. For a subject of stills the first frame of a file counts.

    Returns:
        ``(n, 3, resolution, resolution)`` float32, multiples of 1/255; grey or movies where the form is.

    Raises:
        InvalidArgumentError: A file is not a readable image, or a movie of another length or rate.
    """
    resolution = check_whole("resolution", resolution, 1)
    check_memory("resolution", len(paths), *form.leading, resolution, resolution)
    if form.frames is None:
        return in_colours(from_bytes(np.stack([read_image(path, resolution) for path in paths])), form)
    read = [_read_movie(path, resolution, form) for path in paths]
    if any(image.ndim == 4 for image in read):
        read = [shown_as(image[None], form)[0] for image in read]
    return np.stack(read)


def _read_movie(path: Path, resolution: int, form: Form) -> NDArray[np.float32]:
    """Reads a movie ``(frames, channels, r, r)`` of a form, or a still ``(channels, r, r)``."""
    movie = decode_movie(path)
    if movie is None:
        return in_colours(from_bytes(read_image(path, resolution)), form)
    frames, channels, height, width = movie.pictures.shape
    # Files of others hold their durations in whole milliseconds: the rate is not looked at more closely than that.
    rate = form.rate_hz if form.rate_hz and abs(1000 / movie.rate_hz - 1000 / form.rate_hz) <= 1 else movie.rate_hz
    check_forms(str(path), Form(channels, frames, rate), form)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = from_bytes(movie.pictures[..., top : top + side, left : left + side])
    fitted = square if side == resolution else quantize(resize_images(square, resolution))
    return in_colours(fitted, form)


def in_colours(images: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """Returns 8-bit images ``(…, channels, h, w)`` with the channels of a form, in 8 bits again where these change."""
    if images.shape[-3] == form.channels:
        return images
    return quantize(recoloured(images, form.channels))


@at_door
def natural_references(resolution: int = 224, form: Form = STILL) -> ImageSet:
    """Reads the bundled natural photographs; ``closedloop/references/CREDITS.md`` names their authors and licences."""
    resolution = check_whole("resolution", resolution, 1)
    # Up to 256 pixels high they stay in memory once they were read, in 30 MB.
    ids, pictures = (_bundled if resolution <= 256 else _bundled.__wrapped__)(resolution)
    check_memory("resolution", len(ids), *form.leading, resolution, resolution)
    return ImageSet(ids, in_colours(from_bytes(pictures), form), form.rate_hz)


@lru_cache(maxsize=2)
def _bundled(resolution: int) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Reads names and pixels of the bundled photographs, for which a small run would take half of its time."""
    with resources.as_file(resources.files("closedloop") / "references") as folder:
        ids, paths = folder_images(folder)
        check_memory("resolution", len(paths), *STILL.leading, resolution, resolution)
        return ids, np.stack([read_image(path, resolution) for path in paths])


@at_door
def as_image_set(
    images: ImageSet | str | Path | NDArray[Any] | Sequence[Any],
    resolution: int,
    form: Form = STILL,
    name: str = "images",
) -> ImageSet:
    """Makes an image set from a folder, an array ``(n, 3, h, w)`` or another set, at the given resolution.

    Arrays are rounded to 8 bits, so that what is stored is what was shown. For a subject of another form colours become
    grey (or grey colours); movies must have its length.

    Args:
        images: What to read; "bundled" for the natural photographs.
        resolution: Height and width in pixels.
        form: What the subject is shown.
        name: What the argument is called where they were given, for an error.

    Raises:
        InvalidArgumentError: Nothing to read, not images, movies of another form, or more than the memory holds.
    """
    try:
        return _image_set(images, resolution, form)
    except InvalidArgumentError as error:
        reword(error, re.sub("^images:", f"{name}:", str(error)))
        raise


def _image_set(images: ImageSet | str | Path | NDArray[Any] | Sequence[Any], resolution: int, form: Form) -> ImageSet:
    if isinstance(images, (str, Path)):
        known = str(images) == BUNDLED
        return natural_references(resolution, form) if known else read_folder(images, resolution, form)
    if isinstance(images, ImageSet):
        ids, array, rate = images.ids, images.images, images.rate_hz
    else:
        array, rate = check_any_images(images), None
        ids = tuple(f"image-{i:05d}" for i in range(len(array)))
    if len(array) == 0:
        raise InvalidArgumentError("images: expected at least one image, got none.")
    if array.ndim == 5:
        check_forms("images", Form(array.shape[2], array.shape[1], rate or form.rate_hz or 1.0), form)
    eight_bit = quantize(resize_images(array, resolution))
    return ImageSet(ids, in_colours(eight_bit, form), form.rate_hz if array.ndim == 5 else None)
