"""Go on with a run that was killed, failed, or filled the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.evolution import Thread
from closedloop.experiment import build_rules, build_subject, build_threads, parse_experiment
from closedloop.images import ImageSet
from closedloop.interfaces import Subject
from closedloop.loop import Observer, Session
from closedloop.recording import (
    POINTER,
    REFERENCES,
    Recording,
    open_recording,
    read_experiment,
    read_pointer,
    read_references,
)
from closedloop.stopping import StoppingRule

from .present import Library, go_on


def resume(
    run: str | Path,
    *,
    subject: Subject | None = None,
    threads: Sequence[Thread] | None = None,
    stop: Sequence[StoppingRule] | None = None,
    observers: Sequence[Observer] = (),
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Goes on where the last commit left off; the result is the one that an uninterrupted run gives.

    Args:
        run: The run's folder.
        subject: Needed where the run's subject was a Python object without a name.
        threads: Likewise for its generators and optimizers, freshly built as for the run.
        stop: Likewise for stopping rules of one's own.
        observers: Watch the session.
        progress: For a run of `present`: called with images shown so far and of all.

    Returns:
        The recording; of a finished run at once.

    Raises:
        RecordingError: Not a run, or another process is writing it.
        InvalidArgumentError: Something that the run used cannot be loaded by name and was not handed over.
    """
    content = read_experiment(run)
    if _finished(run):
        return open_recording(run)
    if content.get("protocol") == "present":
        return _resume_presentation(run, content, subject, progress)
    experiment = parse_experiment(content, str(run))
    session = Session(
        build_subject(experiment) if subject is None else subject,
        build_threads(experiment) if threads is None else threads,
        references=_references(run, experiment.references),
        stop=build_rules(experiment) if stop is None else stop,
        save=run,
        observers=observers,
        **experiment.settings,
    )
    return session.resume(Recording.reopen(run))


def _finished(run: str | Path) -> bool:
    return (Path(run) / POINTER).exists() and bool(read_pointer(run)["finished"])


def _references(run: str | Path, named: str | None) -> ImageSet | str | None:
    """The run's own copy of its references; what the user named if the run died before the copy was complete."""
    copy = read_references(Path(run))
    if copy is None and named == REFERENCES:
        raise RecordingError(f"{run}: it ended before its reference images were stored; begin it again.")
    return named if copy is None else copy


def _resume_presentation(
    run: str | Path,
    content: dict[str, Any],
    subject: Subject | None,
    progress: Callable[[int, int], None] | None,
) -> xr.Dataset:
    if content["images"] == REFERENCES:
        raise InvalidArgumentError(f"{run}: its images were a Python array; present them again in a new run.")
    if subject is None:
        subject = build_subject(parse_experiment({"subject": content["subject"]}, str(run)))
    settings = {k: content[k] for k in ("repeats", "resolution", "retries", "timeout_s", "soa_s", "seed")}
    library = Library.of(content["images"], settings["resolution"])
    return go_on(subject, library, Recording.reopen(run), settings, progress)
