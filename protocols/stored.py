"""What the protocols share when they go on with a run: its file must be whole, and its images are its own copy.

The subject is the one that was handed over, or the one that the file names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from closedloop.errors import ClosedLoopError, RecordingError, reword
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Subject
from closedloop.loop.experiment import load_recorded_subject
from closedloop.loop.protocol import Handed, protocol_name
from closedloop.loop.settings import read_settings
from closedloop.recording.layout import EXPERIMENT, REFERENCES
from closedloop.recording.reader import read_experiment
from closedloop.recording.references import read_references

T = TypeVar("T")


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Puts the name of an argument before the errors about what it names, where they do not say it."""
    try:
        yield
    except ClosedLoopError as error:
        if not str(error).startswith(f"{argument}: "):
            reword(error, f"{argument}: {error}")
        raise


@contextmanager
def folder_of(save: str | Path | None) -> Iterator[Path]:
    """Gives the folder of a run, or, of one that is kept in memory, one that is gone afterwards."""
    if save is not None:
        yield Path(save)
        return
    with tempfile.TemporaryDirectory(prefix="closedloop-") as made:
        yield Path(made)


def experiment_of_protocol(run: str | Path, name: str) -> Mapping[str, Any]:
    """Returns the experiment file of a run if it is of a protocol.

    Raises:
        RecordingError: It is no run, or one of another protocol.
    """
    content = read_experiment(run)
    if (held := protocol_name(content)) != name:
        raise RecordingError(f"{run}: expected a run of {name}, got one of {held!r}.")
    return content


def check_complete(run: Path, content: Mapping[str, Any], made: type[Any] | None, *names: str) -> None:
    """Raises unless an experiment file holds the numbers of a class of settings, if any, and further entries.

    Raises:
        RecordingError: Something is missing; the error names it.
    """
    numbers = () if made is None else [f.name for f in fields(made) if not f.metadata.get("later")]
    missing = {*numbers, *names} - content.keys()
    if missing:
        raise RecordingError(f"{run}: {EXPERIMENT} lacks {', '.join(sorted(missing))}.")


def stored_settings(made: type[T], content: Mapping[str, Any]) -> T:
    """Returns the numbers of a class of settings from an experiment file; defaults where an older version had none."""
    known: Mapping[str, Any] = made.__dataclass_fields__  # type: ignore[attr-defined]
    return read_settings(made, {name: content[name] for name in known if name in content})


def subject_of(run: Path, content: Mapping[str, Any], handed: Handed) -> Subject:
    """Returns the subject that was handed over; where none was, the one that a run's experiment file names.

    Raises:
        InvalidArgumentError: The file names none, for it was handed over as a Python object then, too.
    """
    return load_recorded_subject(content["subject"], str(run)) if handed.subject is None else handed.subject


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
