"""How the pages of runs say what is known: rows of a catalogue as words, and pictures made small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from closedloop.readable import number, with_error
from closedloop.recording.notes import PROCESS, Note
from closedloop.recording.summaries import finite
from closedloop.report.wording import true_minus
from closedloop.viewer.inputs import encode_jpeg

#: How much of what a person was told a page lists.
TOLD = 50


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


def told_words(notes: Sequence[Note], running: bool) -> list[dict[str, Any]]:
    """Returns what a person was told while a run went on, the newest first, in plain values.

    Notes about the same that follow each other are one: ``from_s`` is the time of the first, ``at_s`` and ``text`` are
    those of the last. What was told last of something ``stands`` while the run goes on, until that is over.

    Args:
        notes: See `closedloop.recording.notes`.
        running: Whether the run goes on.
    """
    told: list[dict[str, Any]] = []
    for note in notes:
        last = told[-1] if told else None
        same = last is not None and note.about and (last["about"], last["well"]) == (note.about, note.well)
        entry = {"from_s": last["from_s"] if last and same else note.at_s, **asdict(note)}
        told[-1 if same else len(told) :] = [entry]
    newest, over = told[::-1], {""}
    for entry in newest:
        entry["stands"] = running and not entry["well"] and entry["about"] not in over and PROCESS not in over
        over.add(entry["about"])
    return newest[:TOLD]


def when_words(seconds: float) -> str:
    """Writes a time, in seconds since 1970, as date and time of day (UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def thumbnail(picture: NDArray[np.uint8], size: int) -> bytes:
    """Returns a picture ``(h, w, 3)``, or the middle frame of a movie, as JPEG that is no larger than it was."""
    still = picture[len(picture) // 2] if picture.ndim == 4 else picture
    image = Image.fromarray(still)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return encode_jpeg(image, 90, subsampling=0)
