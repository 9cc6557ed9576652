"""Writes and reads movies as files: animated WebP without loss, which browsers play and which reads back as it was.

A WebP encoder joins frames that are alike, and holds times in whole milliseconds. So the file notes in its EXIF how
many frames at which rate and of how many channels it was written with, and reading puts the joined frames apart again.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageSequence

from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import encode_png, to_bytes
from closedloop.images.opening import open_picture
from closedloop.interfaces import Form

#: How files of single images that a run keeps end: stills, movies.
IMAGE_ENDINGS = (".png", ".webp")


@dataclass(frozen=True)
class Movie:
    """A movie as a file holds it.

    Attributes:
        pictures: ``(frames, channels, h, w)`` 8-bit.
        rate_hz: Pictures per second.
    """

    pictures: NDArray[np.uint8]
    rate_hz: float


def encode_image(image: NDArray[np.float32], rate_hz: float | None = None) -> tuple[str, bytes]:
    """Returns one stimulus in [0, 1] as the file that holds its 8-bit values: its ending, and its bytes.

    Args:
        image: A still ``(channels, h, w)``, which becomes a PNG, or a movie ``(frames, channels, h, w)``, an animated
            WebP.
        rate_hz: Frames per second of a movie; where it is not known 10.
    """
    if image.ndim == 3:
        return ".png", encode_png(image)
    return ".webp", encode_webp(to_bytes(image), rate_hz or 10.0)


def encode_webp(movie: NDArray[np.uint8], rate_hz: float) -> bytes:
    """Returns a movie ``(frames, channels, h, w)``, 8-bit, as an animated WebP that loops: exactly these values."""
    frames = [Image.fromarray(in_colour(picture)) for picture in movie]
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = json.dumps(
        {"frames": len(movie), "rate_hz": rate_hz, "channels": movie.shape[1]}
    )
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=np.diff(_begins_ms(len(movie), rate_hz)).tolist(),
        loop=0,
        lossless=True,
        exact=True,
        method=2,
        exif=exif,
    )
    return buffer.getvalue()


def decode_movie(source: bytes | Path, ending: str = ".webp", frames: int | None = None) -> Movie | None:
    """Reads the movie of an animated file; None for a file with one picture that was not written as a movie.

    A file of `encode_webp` gives the values it was written with; of others (animated WebP, GIF, PNG) the frames in RGB,
    at the rate of their mean duration. Bytes are decoded as what `ending` promises, a file as what its own ending does.

    Args:
        source: A file, or its bytes.
        ending: What the bytes promise to be.
        frames: How many pictures it must have; others are refused before any is decoded. None for any number.

    Raises:
        InvalidArgumentError: Not a readable image, or a movie of another length.
    """
    with open_picture(source, ending) as opened:
        note = _note(opened)
        length = getattr(opened, "n_frames", 1) if note is None else note.frames or 1
        if frames is not None and length > 1 and length != frames:
            raise InvalidArgumentError(f"images: expected a movie of {frames} frames, got one of {length}.")
        if note is None and getattr(opened, "n_frames", 1) == 1:
            return None
        pictures, durations = [], []
        for frame in ImageSequence.Iterator(opened):
            pictures.append(np.asarray(frame.convert("RGB")).transpose(2, 0, 1))
            durations.append(float(frame.info.get("duration") or 0))
    if note is None:
        return Movie(np.stack(pictures), 1000 / (float(np.mean(durations)) or 100.0))
    begins = np.cumsum([0.0, *durations[:-1]])
    at = np.searchsorted(begins, _begins_ms(note.frames or 1, note.rate_hz or 1.0)[:-1], side="right") - 1
    return Movie(np.stack(pictures)[at, : note.channels], note.rate_hz or 1.0)


def _begins_ms(frames: int, rate_hz: float) -> NDArray[np.int64]:
    """Returns when each frame begins, and when the last one ends, in whole milliseconds: ``(frames + 1,)``."""
    begins: NDArray[np.int64] = np.rint(np.arange(frames + 1) * 1000 / rate_hz).astype(np.int64)
    return begins


def _note(opened: Image.Image) -> Form | None:
    """Reads what `encode_webp` noted in a file; None in a file of others."""
    try:
        noted: Any = json.loads(opened.getexif().get(ExifTags.Base.ImageDescription, ""))
        return Form(int(noted["channels"]), int(noted["frames"]), float(noted["rate_hz"]))
    except (ValueError, TypeError, KeyError):
        return None


def in_colour(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a picture ``(1 or 3, h, w)`` as ``(h, w, 3)``, as files and figures want it: WebP knows no grey."""
    return np.ascontiguousarray(np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0))
