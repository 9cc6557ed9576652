"""Images as parts of a block: raw pixels ("rgb8") or PNG, each named by its SHA-256."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, RigError
from closedloop.images.eight_bit import encode_png, to_bytes
from closedloop.images.opening import open_picture
from closedloop.rigs.messages import Consecutive, sha256

#: How images may be encoded, the fastest first.
ENCODINGS = ("rgb8", "png")
#: PNG files that are kept, since references come again: about 100 MB of images 256 pixels wide.
KEPT = 512


@final
class Encoder:
    """Encodes images, and keeps those that it encoded last.

    Args:
        encoding: One of `ENCODINGS`.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in ENCODINGS:
            raise InvalidArgumentError(f"encoding: expected {' or '.join(map(repr, ENCODINGS))}, got {encoding!r}.")
        self.encoding = encoding
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def encode(self, images: NDArray[np.float32]) -> Sequence[bytes | memoryview]:
        """Returns images ``(n, 3, h, w)``, RGB in [0, 1], rounded to 8 bits, as parts of a block."""
        pixels = np.ascontiguousarray(to_bytes(images).transpose(0, 2, 3, 1))
        if self.encoding == "rgb8":
            return Consecutive(pixels.data.cast("B"), [image.nbytes for image in pixels])
        names = [sha256(image.tobytes()) for image in pixels]
        missing = {name: image for name, image in zip(names, images, strict=True) if name not in self._kept}
        with ThreadPoolExecutor(2) as pool:  # zlib lets go of the interpreter
            self._kept.update(zip(missing, pool.map(encode_png, missing.values()), strict=True))
        found = [self._kept[name] for name in names]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found


def decode(encoding: str, entry: Mapping[str, Any], part: bytes | memoryview) -> NDArray[np.uint8]:
    """Returns the pixels ``(h, w, 3)`` of a part of a block.

    Args:
        encoding: One of `ENCODINGS`.
        entry: What the header says of it.
        part: The bytes.

    Raises:
        RigError: They are not those of which the header holds the SHA-256 ("damaged"), or no image ("malformed").
    """
    if len(part) != entry.get("bytes") or sha256(part) != entry.get("sha256"):
        raise RigError(f"image {entry.get('id')!r:.80}: its bytes are not those that were sent.", "damaged")
    try:
        if encoding == "png":
            with open_picture(bytes(part), ".png") as opened:
                return np.asarray(opened.convert("RGB"))
        height, width = entry["height"], entry["width"]
        if type(height) is not int or type(width) is not int or min(height, width) < 1:
            raise ValueError(f"height and width of {height!r:.40} and {width!r:.40}")
        return np.frombuffer(part, np.uint8).reshape(height, width, 3)
    except (ValueError, KeyError, TypeError, OverflowError, OSError, InvalidArgumentError) as error:
        raise RigError(
            f"image {entry.get('id')!r:.80}: expected {encoding}, got something else ({error}).", "malformed"
        ) from error


def floats(pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Returns pixels ``(h, w, 3)`` each as images ``(n, 3, h, w)`` float32 in [0, 1]."""
    return np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
