"""Evolve a preferred stimulus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.findings import thread_findings
from closedloop.analysis.quality import cautions
from closedloop.analysis.summary import ThreadSummary, beside, is_evolution, summarize
from closedloop.checks import at_door
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Generator, Objective, Optimizer, Subject
from closedloop.loop.blocks import Observer
from closedloop.loop.commits import is_finished
from closedloop.loop.experiment import build_rules, build_subject, build_threads, parse_experiment
from closedloop.loop.protocol import (
    Handed,
    RunFigure,
    RunProtocol,
    RunSummary,
    RunTable,
    nothing_more,
    summarize_responses,
)
from closedloop.loop.session import Session
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit, parse_objective
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording

from .stored import stored_images


@at_door
def evolve(
    subject: Subject,
    generator: Generator,
    optimizer: Optimizer,
    *,
    objective: Objective | str | None = None,
    references: ImageSet | str | Path | NDArray[Any] | None = "bundled",
    stop: Sequence[StoppingRule] = (),
    save: str | Path | None = None,
    exists: str = "fail",
    observers: Sequence[Observer] = (),
    progress: bool = True,
    **settings: Any,
) -> xr.Dataset:
    """Runs one evolution: the optimizer searches the generator's codes for what drives the subject.

    References are shown once before the evolution and some of them in each generation. Afterwards the best candidates
    are re-tested in fresh presentations, and the selected one again; `closedloop.summarize` reports that last mean.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        optimizer: Proposes codes; built with ``generator.space``.
        objective: What is maximized, or its text such as "unit(0) - unit(1)"; default the response of the only unit.
        references: Natural images to compare with: a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`,
            "bundled", or None.
        stop: Rules that end the evolution before its budget is used up.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        observers: Watch the session.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is.
        **settings: ``images`` (budget, default 4000), ``repeats``, ``seed`` …; see `closedloop.loop.settings.Settings`.

    Returns:
        The recording, see `closedloop.open_recording`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    if isinstance(objective, str):
        objective = parse_objective(objective, subject.units)
    thread = Thread(generator, optimizer, default_objective(subject) if objective is None else objective)
    session = Session(
        subject,
        [thread],
        references=references,
        stop=stop,
        save=save,
        exists=exists,
        observers=observers,
        progress=progress,
        **settings,
    )
    return session.run()


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with evolutions; returns a finished run at once."""
    if is_finished(run):
        return open_recording(run)
    experiment = parse_experiment(content, str(run))
    names = [part.name for part in experiment.threads]
    if handed.threads is not None and [t.name for t in handed.threads] != names:
        raise InvalidArgumentError(
            f"threads: expected those of the run, {names}, got {[t.name for t in handed.threads]}."
        )
    subject = build_subject(experiment) if handed.subject is None else handed.subject
    stored = stored_images(run, experiment.references)
    session = Session(
        subject,
        build_threads(experiment, subject) if handed.threads is None else handed.threads,
        references=experiment.references if stored is None else stored,
        stop=build_rules(experiment) if handed.stop is None else handed.stop,
        save=run,
        observers=handed.observers,
        progress=handed.progress is True,
        **experiment.settings,
    )
    return session.resume(Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what each thread found, what to beware of, and a figure of each."""
    from closedloop.figures import plot_evolution

    if not is_evolution(recording):
        return summarize_responses(run, recording)
    found = summarize(recording)
    lines = [f"Ended:  {reason}"] if (reason := str(recording.attrs.get("reason", ""))) else []
    lines += [str(caution) for caution in cautions(recording, Pictures(recording), str(run))]
    names = ["summary"] if len(found) == 1 else [f"summary-{s.thread}" for s in found]
    figures = {name: RunFigure(partial(plot_evolution, run, s.thread)) for name, s in zip(names, found, strict=True)}
    return RunSummary([_table(found, float(recording.attrs["elapsed_s"]))], lines, figures)


def _table(found: Sequence[ThreadSummary], seconds: float) -> RunTable:
    """Returns one column for each thread."""
    raw = ", without the drift correction" if any(s.drift != "none" for s in found) else ""
    targets = {s.target for s in found}
    rows = [
        *([] if len(targets) == 1 < len(found) else [("target", [s.target for s in found])]),
        ("evolved best ± s.e.", [str(s.evolved) for s in found]),
        ("best natural reference ± s.e.", [str(s.natural) for s in found]),
        ("evolved ÷ natural", [_pair(s.ratio, s.ratio_sem) for s in found]),
        (f"highest score while evolving{raw}", [_finite(s.noisy_maximum) for s in found]),
        ("winner's curse of that image", [_finite(beside(s.curse, s.noisy_maximum)) for s in found]),
        ("presentations", [f"{s.images:,}" for s in found]),
        ("seconds, all threads", [f"{seconds:.0f}", *[""] * (len(found) - 1)]),
    ]
    title = "Preferred stimulus, re-tested in fresh presentations"
    caption = f"target of all: {found[0].target}" if len(targets) == 1 < len(found) else ""
    return RunTable(title, ["", *(s.thread for s in found)], [[name, *cells] for name, cells in rows], caption)


def _finite(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "–"


def _pair(value: float, error: float) -> str:
    return f"{value:.3g} ± {error:.2g}" if np.isfinite(value) else "–"


def _resume_import(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Returns what was imported; another system's run cannot go on here."""
    if not is_finished(run):
        raise RecordingError(f"{run}: its import was not finished; remove it, and import it again.")
    return open_recording(run)


#: What others must know of evolutions, and of those that were imported from other systems.
PROTOCOL = RunProtocol("evolve", _resume, _summary, nothing_more, command="evolve", ends=True, findings=thread_findings)
IMPORT = RunProtocol("import", _resume_import, _summary, nothing_more, findings=thread_findings)


def default_objective(subject: Subject) -> Objective:
    """Returns the only unit's response.

    Raises:
        InvalidArgumentError: The subject records several units, so that the objective must be named.
    """
    if len(subject.units) != 1:
        raise InvalidArgumentError(
            f"objective: the subject records {len(subject.units)} units; say what to maximize, for instance "
            "objective=Unit(0) or Mean([0, 1])."
        )
    return Unit(0)
