"""How the pages of runs say what is known: rows of a catalogue as words, and pictures made small."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.recording.summaries import finite
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
        "evolved": with_error(row["evolved"], row["evolved_sem"]),
        "natural": with_error(row["natural"], row["natural_sem"]),
        "ratio": with_error(row["ratio"], None, 3),
    }
    return dict(finite({**row, "name": name, "when": when_words(row["when_s"]), "said": said}))


def with_error(value: float | None, error: float | None, digits: int = 4) -> str:
    """Writes a number with its standard error where it has one above 0; a dash for what is not known."""
    if value is None or not np.isfinite(value):
        return "–"
    number = f"{value:.{digits}g}"
    return (f"{number} ± {error:.2g}" if error is not None and error > 0 else number).replace("-", "−")


def when_words(seconds: float) -> str:
    """Writes a time, in seconds since 1970, as date and time of day (UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def thumbnail(picture: NDArray[np.uint8], size: int) -> bytes:
    """Returns a picture ``(h, w, 3)``, or the middle frame of a movie, as JPEG that is no larger than it was."""
    still = picture[len(picture) // 2] if picture.ndim == 4 else picture
    image = Image.fromarray(still)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return encode_jpeg(image, 90, subsampling=0)
