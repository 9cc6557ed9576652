"""Opens picture files. A file is decoded only as the format that its ending promises, whatever it holds.

Pillow by itself looks at the content and knows formats that start other programs: an EPS file called ``x.png`` would
be given to Ghostscript. So this is the one place that opens pictures.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from closedloop.errors import ClosedLoopError, InvalidArgumentError

#: Endings of files that are read as pictures -> the format that Pillow decodes, and no other.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".gif": "GIF",
}


@contextlib.contextmanager
def open_picture(source: Path | bytes, ending: str = "") -> Iterator[Image.Image]:
    """Opens a picture for as long as the context lasts; whatever goes wrong in its decoding is one kind of error.

    Args:
        source: A file, or its bytes.
        ending: What the bytes promise to be, such as ".png"; of a file its own ending counts.

    Raises:
        InvalidArgumentError: The ending is none of `FORMATS`, or the content is not readable as what it promises.
    """
    called = "these bytes" if isinstance(source, bytes) else str(source)
    ending = ending if isinstance(source, bytes) else source.suffix
    promised = FORMATS.get(ending.lower())
    if promised is None:
        raise InvalidArgumentError(
            f"images: {called} ends in {ending or 'nothing'!r}; expected one of {', '.join(FORMATS)}."
        )
    try:
        with Image.open(_file(source), formats=[promised]) as opened:
            yield opened
    except ClosedLoopError:
        raise
    except Exception as error:  # Pillow's decoders raise all kinds on damaged files
        raise InvalidArgumentError(
            f"images: cannot read {called} as a {promised} image: {_trouble(source, promised, error)}."
        ) from error


def read_picture(source: Path | bytes, ending: str = "", most: int | None = None) -> Image.Image:
    """Reads a photograph in 8-bit RGB: upright, transparent parts on mid-grey, 16-bit grey values divided by 257.

    Args:
        source: A file, or its bytes.
        ending: What the bytes promise to be, such as ".png".
        most: Pixels of the largest picture that is decoded; None for what Pillow takes.

    Raises:
        InvalidArgumentError: The file is not a readable image, or has more pixels.
    """
    with open_picture(source, ending) as opened:
        if most is not None and opened.width * opened.height > most:
            raise InvalidArgumentError(
                f"images: expected at most {most / 1e6:g} megapixels, got {opened.width} × {opened.height}; make it "
                "smaller."
            )
        return _as_rgb(ImageOps.exif_transpose(opened))


def _as_rgb(picture: Image.Image) -> Image.Image:
    """Returns a picture in 8-bit RGB."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture, dtype=float)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"expected grey values of 16 bits, 0 to 65535, got {values.min():g} to {values.max():g}; save it with "
                "8 or 16 bits"
            )
        grey = np.rint(values / 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    return picture.convert("RGB")


def _trouble(source: Path | bytes, promised: str, error: Exception) -> str:
    """Says what a file is in truth, if that is another of the known formats, or else what was wrong in decoding it."""
    for form in sorted(set(FORMATS.values()) - {promised}):
        with contextlib.suppress(Exception), Image.open(_file(source), formats=[form]):
            right = next(ending for ending, known in FORMATS.items() if known == form)
            return f"its content is {form}; let its name end in {right}"
    if isinstance(error, UnidentifiedImageError):
        return "its content is something else"
    if isinstance(error, Image.DecompressionBombError) and Image.MAX_IMAGE_PIXELS:
        most = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        return f"it has more than {most:.0f} megapixels, as files have that are made to fill memory; make it smaller"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # the file was named already
    return str(error).rstrip(".") or type(error).__name__


def _file(source: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source
