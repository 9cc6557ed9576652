"""How the pages of runs say what is known: rows of a catalogue as words, and pictures made small."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.recording.summaries import finite
from closedloop.report.wording import number, true_minus, with_error
from closedloop.viewer.inputs import encode_jpeg


def row_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row of a catalogue with what a page says of it besides.

    Args:
        row: See `closedloop.analysis.catalogue.found`.

    Returns:
        The row, numbers that are not known as null, with ``when`` in words, ``name`` (the end of the path) and
        ``said``: the texts of evolved, natural and ratio.
    """
    name = str(row["path"]).rpartition("/")[2]
    said = {
        "evolved": true_minus(with_error(row["evolved"], row["evolved_sem"])),
        "natural": true_minus(with_error(row["natural"], row["natural_sem"])),
        "ratio": true_minus(number(row["ratio"], 3)),
    }
    return dict(finite({**row, "name": name, "when": when_words(row["when_s"]), "said": said}))


def when_words(seconds: float) -> str:
    """Writes a time, in seconds since 1970, as date and time of day (UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def thumbnail(picture: NDArray[np.uint8], size: int) -> bytes:
    """Returns a picture ``(h, w, 3)``, or the middle frame of a movie, as JPEG that is no larger than it was."""
    still = picture[len(picture) // 2] if picture.ndim == 4 else picture
    image = Image.fromarray(still)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return encode_jpeg(image, 90, subsampling=0)
