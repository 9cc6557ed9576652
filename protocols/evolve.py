"""Evolve a preferred stimulus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Generator, Objective, Optimizer, Subject
from closedloop.loop.session import Observer, Session
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit, parse_objective


def evolve(
    subject: Subject,
    generator: Generator,
    optimizer: Optimizer,
    *,
    objective: Objective | str | None = None,
    references: ImageSet | str | Path | NDArray[Any] | None = "bundled",
    stop: Sequence[StoppingRule] = (),
    save: str | Path | None = None,
    observers: Sequence[Observer] = (),
    **settings: Any,
) -> xr.Dataset:
    """One evolution: the optimizer searches the generator's codes for what drives the subject.

    References are shown once before the evolution and some of them in each generation. Afterwards the best candidates
    are re-tested in fresh presentations, and the selected one again; `closedloop.summarize` reports that last mean.

    Args:
        subject: Who looks.
        generator: Turns codes into images.
        optimizer: Proposes codes; built with ``generator.space``.
        objective: What is maximized, or its text such as "unit(0) - unit(1)"; default the response of the only unit.
        references: Natural images to compare with: a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`,
            "bundled", or None.
        stop: Rules that end the evolution before its budget is used up.
        save: Folder of the run; None keeps it in memory.
        observers: Watch the session.
        **settings: ``images`` (budget, default 2000), ``repeats``, ``seed`` …; see `closedloop.loop.settings.Settings`.

    Returns:
        The recording, see `closedloop.open_recording`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    check_parts(subject=subject, generator=generator, optimizer=optimizer)
    if isinstance(objective, str):
        objective = parse_objective(objective, subject.units)
    thread = Thread(generator, optimizer, default_objective(subject) if objective is None else objective)
    session = Session(subject, [thread], references=references, stop=stop, save=save, observers=observers, **settings)
    return session.run()


def check_parts(**parts: Any) -> None:
    """Raises unless `subject`, `generator` and `optimizer`, those that are given, are what their names say."""
    nouns: dict[str, tuple[str, type[Any]]] = {
        "subject": ("a Subject", Subject), "generator": ("a Generator", Generator),
        "optimizer": ("an Optimizer", Optimizer),
    }  # fmt: skip
    for name, value in parts.items():
        words, noun = nouns[name]
        if not isinstance(value, noun):
            raise InvalidArgumentError(
                f"{name}: expected {words}, got {value!r:.80}; names are loaded by load_{name}(…)."
            )


def default_objective(subject: Subject) -> Objective:
    """The only unit's response.

    Raises:
        InvalidArgumentError: The subject records several units, so that the objective must be named.
    """
    if len(subject.units) != 1:
        raise InvalidArgumentError(
            f"objective: the subject records {len(subject.units)} units; say what to maximize, for instance "
            "objective=Unit(0) or Mean([0, 1])."
        )
    return Unit(0)
