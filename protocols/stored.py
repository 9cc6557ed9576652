"""What the protocols share when they go on with a run: its file must be whole, and its images are its own copy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.errors import RecordingError
from closedloop.images.sets import ImageSet
from closedloop.recording.layout import EXPERIMENT, REFERENCES
from closedloop.recording.references import read_references


def check_complete(run: Path, content: Mapping[str, Any], made: type[Any] | None, *names: str) -> None:
    """Raises unless an experiment file holds the numbers of a class of settings, if any, and further entries.

    Raises:
        RecordingError: Something is missing; the error names it.
    """
    numbers = () if made is None else made.__dataclass_fields__
    missing = {*numbers, *names} - content.keys()
    if missing:
        raise RecordingError(f"{run}: {EXPERIMENT} lacks {', '.join(sorted(missing))}.")


def stored_images(run: Path, named: str | None) -> ImageSet | None:
    """Returns a run's own copy of its references or images; None where it has none, and its file names a source.

    Raises:
        RecordingError: The run died before the copy was complete, and nothing else holds the images.
    """
    copy = read_references(run)
    if copy is None and named == REFERENCES:
        raise RecordingError(
            f"{run}: it ended before its reference images were stored; begin it again, in the same folder."
        )
    return copy
