"""Turns images into what files and screens hold, 8 bits for each colour, and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.errors import InvalidArgumentError
from closedloop.files import replace_file
from closedloop.signatures import at_door


@at_door
def quantize(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounds to the nearest multiple of 1/255, as an 8-bit file does: what `from_bytes` makes of `to_bytes`."""
    values = np.asarray(images) * np.float32(255)
    if values.dtype != np.float32 or values.ndim == 0:
        return from_bytes(to_bytes(images))
    np.rint(values, out=values)
    np.abs(values, out=values)  # a file has no negative zero
    values /= np.float32(255)
    return values


@at_door
def to_bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns images in [0, 1] as 8-bit values of the same shape."""
    values: NDArray[np.uint8] = np.rint(np.asarray(images) * np.float32(255)).astype(np.uint8)
    return values


@at_door
def from_bytes(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns 8-bit values as images in [0, 1] of the same shape."""
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "uif":
        raise InvalidArgumentError(f"values: expected 8-bit numbers, got {numbers.dtype}.")
    return numbers.astype(np.float32) / np.float32(255)


def pillow_image(image: NDArray[np.uint8]) -> Image.Image:
    """Returns one 8-bit image ``(3, h, w)`` or, grey, ``(1, h, w)`` as Pillow has it."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


@at_door
def encode_png(image: NDArray[np.float32]) -> bytes:
    """Returns one image ``(3, h, w)``, or grey ``(1, h, w)``, in [0, 1] as the bytes of an 8-bit PNG."""
    shape = np.shape(image)
    if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape:
        raise InvalidArgumentError(f"image: expected shape (3, h, w), or (1, h, w) for grey, got {shape}.")
    buffer = io.BytesIO()
    pillow_image(to_bytes(image)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


@at_door
def write_png(path: str | Path, image: NDArray[np.float32]) -> None:
    """Writes one image ``(channels, h, w)`` in [0, 1] as an 8-bit PNG; appears under its name only when complete."""
    replace_file(Path(path), encode_png(image))
