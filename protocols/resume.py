"""Go on with a run that was killed, failed, or filled the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from closedloop.analysis.ascents import ASCEND
from closedloop.analysis.elites import ELITES, class_elites
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Generator, Subject, form_of
from closedloop.loop.experiment import (
    build_rules,
    build_subject,
    build_threads,
    load_recorded_subject,
    parse_experiment,
)
from closedloop.loop.session import Observer, Session
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.recipes import generator_of_run
from closedloop.recording.layout import EXPERIMENT, POINTER, REFERENCES
from closedloop.recording.reader import open_recording, read_experiment, read_pointer
from closedloop.recording.references import read_references
from closedloop.recording.writer import Recording

from .ascend import resumed_session
from .elites import ELITES_SETTINGS, stored_elites
from .landscape import LANDSCAPE, LANDSCAPE_SETTINGS, stored_library
from .parameters import stored_parameters
from .present import PRESENT_SETTINGS, Library, go_on


def resume(
    run: str | Path,
    *,
    subject: Subject | None = None,
    threads: Sequence[Thread] | None = None,
    generator: Generator | None = None,
    stop: Sequence[StoppingRule] | None = None,
    observers: Sequence[Observer] = (),
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Goes on where the last commit left off; the result is the one that an uninterrupted run gives.

    Args:
        run: The run's folder.
        subject: Needed where the run's subject was a Python object without a name. A stateful one is put back to where
            the last commit left it; before the first commit it must be as it was when the run began.
        threads: Likewise for its generators and optimizers, freshly built as for the run.
        generator: Likewise for the generator of a landscape, of an ascent or of elites.
        stop: Likewise for stopping rules of one's own.
        observers: Watch the session.
        progress: For a run of `present`, `landscape` or `evolve_elites`: called with images shown so far and of all.

    Returns:
        The recording; of a finished run at once. Of a run of `evolve_elites`, its elites.

    Raises:
        RecordingError: Not a run, or another process is writing it.
        InvalidArgumentError: Something that the run used cannot be loaded by name and was not handed over.
    """
    content = read_experiment(run)
    if content.get("protocol") == ELITES:
        return _resume_elites(run, content, subject, generator, progress)
    if _finished(run):
        return open_recording(run)
    if content.get("protocol") == "present":
        return _resume_presentation(run, content, subject, progress)
    if content.get("protocol") == LANDSCAPE:
        return _resume_landscape(run, content, subject, generator, progress)
    if content.get("protocol") == ASCEND:
        return _resume_ascent(run, content, subject, generator, observers)
    experiment = parse_experiment(content, str(run))
    names = [part.name for part in experiment.threads]
    if threads is not None and [t.name for t in threads] != names:
        raise InvalidArgumentError(f"threads: expected those of the run, {names}, got {[t.name for t in threads]}.")
    subject = build_subject(experiment) if subject is None else subject
    session = Session(
        subject,
        build_threads(experiment, subject) if threads is None else threads,
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
    _check_complete(run, content, *PRESENT_SETTINGS, "subject", "images")
    if subject is None:
        subject = load_recorded_subject(content["subject"], str(run))
    settings = {name: content[name] for name in PRESENT_SETTINGS}
    stored = _references(run, content["images"])
    library = Library.of(content["images"] if stored is None else stored, settings["resolution"], form_of(subject))
    library = replace(library, coords=stored_parameters(run, content))
    return go_on(subject, library, Recording.reopen(run), settings, progress)


def _resume_landscape(
    run: str | Path,
    content: dict[str, Any],
    subject: Subject | None,
    generator: Generator | None,
    progress: Callable[[int, int], None] | None,
) -> xr.Dataset:
    _check_complete(run, content, *LANDSCAPE_SETTINGS, "subject", "generator", "planes")
    library = stored_library(run, content, generator)
    if subject is None:
        subject = load_recorded_subject(content["subject"], str(run))
    settings = {name: content[name] for name in LANDSCAPE_SETTINGS}
    return go_on(subject, library, Recording.reopen(run), settings, progress)


def _resume_ascent(
    run: str | Path,
    content: dict[str, Any],
    subject: Subject | None,
    generator: Generator | None,
    observers: Sequence[Observer],
) -> xr.Dataset:
    _check_complete(run, content, "subject", "generator", "method", "objectives", "steps", "seed")
    if subject is None:
        subject = load_recorded_subject(content["subject"], str(run))
    return resumed_session(run, subject, generator, observers).resume(Recording.reopen(run))


def _resume_elites(
    run: str | Path,
    content: dict[str, Any],
    subject: Subject | None,
    generator: Generator | None,
    progress: Callable[[int, int], None] | None,
) -> xr.Dataset:
    if _finished(run):
        return class_elites(open_recording(run))
    _check_complete(run, content, *ELITES_SETTINGS, "subject", "generator", "classes", "breeding")
    made = generator_of_run(run, content, generator)
    if subject is None:
        subject = load_recorded_subject(content["subject"], str(run))
    return stored_elites(content, subject, made).go_on(Recording.reopen(run), progress)


def _check_complete(run: str | Path, content: dict[str, Any], *names: str) -> None:
    """Raises unless the experiment file holds all these entries."""
    missing = set(names) - content.keys()
    if missing:
        raise RecordingError(f"{run}: {EXPERIMENT} lacks {', '.join(sorted(missing))}.")
