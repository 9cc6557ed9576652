"""Evolve a preferred stimulus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.findings import thread_findings
from closedloop.analysis.provenance import proposers_in_words
from closedloop.analysis.quality import cautions, together
from closedloop.analysis.summary import MANY, ThreadSummary, beside, is_evolution, summarize
from closedloop.checks import check_part, units_of
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Generator, Objective, Optimizer, Subject
from closedloop.loop.blocks import Observer
from closedloop.loop.commits import is_finished
from closedloop.loop.each import MakeOptimizer, threads_of_units
from closedloop.loop.experiment import (
    build_rules,
    build_subject,
    build_threads,
    experiment_of_each,
    parse_experiment,
)
from closedloop.loop.parts import ReferencePart, RunPart
from closedloop.loop.progress import ImageCount
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
from closedloop.loop.settings import Settings
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit, parse_objective
from closedloop.objectives.naming_units import UnitSpec
from closedloop.readable import counted, with_error
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import shared
from closedloop.recording.writer import Recording
from closedloop.signatures import at_door

from .stored import stored_images
from .sweep_plan import planned_evolution

#: Rows of the table of many threads, and cautions below it.
_ROWS, _LINES = 40, 12
#: Words below the map of many threads.
_MAP = "The evolved image of each unit, re-tested response and ratio to the best reference; alike ones are neighbours."


@at_door
def evolve(
    subject: Subject,
    generator: Generator,
    optimizer: Optimizer | MakeOptimizer,
    *,
    units: UnitSpec | None = None,
    objective: Objective | str | None = None,
    references: ImageSet | str | Path | NDArray[Any] | None = ReferencePart.references,
    stop: Sequence[StoppingRule] = (),
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    observers: Sequence[Observer] = (),
    progress: bool = True,
    **settings: Any,
) -> xr.Dataset:
    """Runs one evolution: the optimizer searches the generator's codes for what drives the subject.

    References are shown once before the evolution and some of them in each generation. Afterwards the best candidates
    are re-tested in fresh presentations, and the selected one again; `closedloop.summarize` reports that last mean.

    With `units` an image is evolved for each of them, side by side: one session, one thread a unit, whose images are
    made and shown together. Its optimizer is one of its own, with a seed that is spawned by the unit's name
    (`closedloop.loop.each.unit_seed`); so a thread does what the run of its unit alone with that seed would do, up to
    the rounding of generator and subject in batches of another size. The response of an evolved image's own unit is
    recorded, and those of all units to references (``responses="all"`` records all); an error of a thread ends that
    thread alone (``failures="stop"`` ends all).

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        optimizer: Proposes codes; built with ``generator.space``. With `units` the name of one, its recipe
            ``{"name": …}``, or a function of a space and a seed that builds one.
        units: Which units to evolve an image for each: "all", "random:64", "0-99", a list of columns …; None for one
            evolution.
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
        The recording, see `closedloop.open_recording`; as a notebook cell's last line it shows a saved run's figure.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    if units is not None:
        settings = {"responses": "own", "failures": "thread", **settings}
    session = Session(
        subject,
        _threads(subject, generator, optimizer, units, objective, settings.get("seed", Settings.seed)),
        references=references,
        stop=stop,
        save=save,
        exists=exists,
        observers=observers,
        progress=progress,
        **settings,
    )
    return session.run()


def _threads(
    subject: Subject,
    generator: Generator,
    optimizer: Optimizer | MakeOptimizer,
    units: UnitSpec | None,
    objective: Objective | str | None,
    seed: int,
) -> list[Thread]:
    """Returns one thread, or one for each of some units."""
    if units is not None:
        if objective is not None:
            raise InvalidArgumentError(
                "objective: expected none with units=…, for each thread maximizes the response of its own unit, got "
                f"{objective!r:.80}."
            )
        if isinstance(optimizer, Optimizer):
            raise InvalidArgumentError(
                "optimizer: expected a name such as 'auto', or a function of a space and a seed that builds one for "
                f"each of the units, got {optimizer!r:.80}, which can serve one thread alone."
            )
        return threads_of_units(units_of(subject), units, generator, optimizer, seed)
    check_part("optimizer", optimizer)
    if isinstance(objective, str):
        objective = parse_objective(objective, subject.units)
    single: Any = optimizer  # no name and no function, as `check_part` holds
    return [Thread(generator, single, default_objective(subject) if objective is None else objective)]


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


def _begin(content: Mapping[str, Any], save: Path, told: Callable[[int], None]) -> xr.Dataset:
    """Does a run of a sweep; with ``each`` one evolution for each of those units, side by side."""
    experiment = parse_experiment({name: value for name, value in content.items() if name != "each"}, str(save))
    subject = build_subject(experiment)
    if content.get("each"):
        experiment = experiment_of_each(experiment, subject.units, content["each"])
    return Session(
        subject,
        build_threads(experiment, subject),
        references=experiment.references,
        stop=build_rules(experiment),
        save=save,
        exists="resume",
        observers=[ImageCount(told)],
        progress=False,
        **experiment.settings,
    ).run()


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what each thread found, what to beware of, and a figure of each."""
    from closedloop.figures import plot_evolution

    if not is_evolution(recording):
        return summarize_responses(run, recording)
    found = summarize(recording)
    if len(found) > MANY:
        return _summary_of_many(run, recording, found)
    lines = [f"Ended:  {reason}"] if (reason := str(recording.attrs.get("reason", ""))) else []
    words = {s.thread: proposers_in_words(recording, s.thread) for s in found}
    lines += [f"Images of {thread}:  {text}" for thread, text in words.items() if text]
    lines += [str(caution) for caution in cautions(recording, Pictures(recording), str(run))]
    names = ["summary"] if len(found) == 1 else [f"summary-{s.thread}" for s in found]
    figures = {name: RunFigure(partial(plot_evolution, run, s.thread)) for name, s in zip(names, found, strict=True)}
    return RunSummary([_table(found, float(recording.attrs["elapsed_s"]))], lines, figures)


def _summary_of_many(run: Path, recording: xr.Dataset, found: Sequence[ThreadSummary]) -> RunSummary:
    """Returns a line for each of many threads, what to beware of in a few words, and a picture of all of them."""
    from closedloop.figures import plot_unit_map

    reason = str(recording.attrs.get("reason", ""))
    lines = [f"Ended:  {_shortened(reason, [one.thread for one in found])}"] if reason else []
    said = [str(caution) for caution in together(cautions(recording, Pictures(recording), str(run)))]
    more = len(said) - _LINES
    lines += said[:_LINES] + [f"… and {more} more cautions; all of them: closedloop report {run}"] * (more > 0)
    figure = RunFigure(partial(plot_unit_map, run), _MAP)
    return RunSummary([_table_of_many(found, float(recording.attrs["elapsed_s"]), _ROWS)], lines, {"summary": figure})


def _section(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what stands in a report beside what any says of evolutions: of many threads a table and a map of all."""
    from closedloop.figures import plot_unit_map

    found = summarize(recording) if is_evolution(recording) else []
    if len(found) <= MANY:
        return RunSummary()
    table = _table_of_many(found, float(recording.attrs["elapsed_s"]))
    return RunSummary([table], figures={"map": RunFigure(partial(plot_unit_map, run), _MAP)})


def _shortened(reason: str, threads: Sequence[str]) -> str:
    """Returns why threads ended, those that failed first and in full, the others by how many they are.

    A thread's reason is what stands behind its name, for an error may hold whatever stands between reasons.
    """
    begin = "|".join(re.escape(name) for name in threads)
    reasons = re.split(rf"; (?=(?:{begin}): )", reason)
    failed = [text for text in reasons if ": failed: " in text]
    others = Counter(text.partition(": ")[2] for text in reasons if text not in failed)
    return "; ".join([*failed, *(f"{counted(count, 'thread')} by {why}" for why, count in others.most_common(3))])


def _table_of_many(found: Sequence[ThreadSummary], seconds: float, most: int | None = None) -> RunTable:
    """Returns one row for each thread, those with the largest ratio first, and what all of them say together."""
    order = sorted(found, key=lambda s: -np.nan_to_num(s.ratio, nan=-np.inf))
    titles, note = shared([s.target for s in order])
    rows = [
        [title, str(s.evolved), str(s.natural), _finite(s.ratio), f"{s.images:,}"]
        for title, s in zip(titles[:most], order, strict=False)
    ]
    ratios = np.array([s.ratio for s in found])
    known = ratios[np.isfinite(ratios)]
    words = [f"{len(found)} units{f' {note}' * bool(note)}"]
    if len(known):
        words += [f"median ratio {np.median(known):.3g}, {int((known > 1).sum())} of {len(known)} above 1"]
    words += [f"{sum(s.images for s in found):,} evolved images shown, {seconds:.0f} s"]
    if most is not None and len(found) > most:
        words.append(f"the first {most}; all of them: closedloop runs RUN --csv FILE")
    columns = ["", "evolved ± s.e.", "best natural ± s.e.", "ratio", "images"]
    return RunTable("Preferred stimuli, re-tested in fresh presentations", columns, rows, "; ".join(words))


def _table(found: Sequence[ThreadSummary], seconds: float) -> RunTable:
    """Returns one column for each thread."""
    raw = ", without the drift correction" if any(s.drift != "none" for s in found) else ""
    targets = {s.target for s in found}
    rows = [
        *([] if len(targets) == 1 < len(found) else [("target", [s.target for s in found])]),
        ("evolved best ± s.e.", [str(s.evolved) for s in found]),
        ("best natural reference ± s.e.", [str(s.natural) for s in found]),
        ("evolved ÷ natural", [with_error(s.ratio, s.ratio_sem) for s in found]),
        (f"highest score while evolving{raw}", [_finite(s.noisy_maximum) for s in found]),
        ("winner's curse of that image", [_finite(beside(s.curse, s.noisy_maximum)) for s in found]),
        ("evolved images shown", [f"{s.images:,}" for s in found]),
        ("seconds, all threads", [f"{seconds:.0f}", *[""] * (len(found) - 1)]),
    ]
    title = "Preferred stimulus, re-tested in fresh presentations"
    caption = f"target of all: {found[0].target}" if len(targets) == 1 < len(found) else ""
    return RunTable(title, ["", *(s.thread for s in found)], [[name, *cells] for name, cells in rows], caption)


def _finite(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "–"


def _resume_import(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Returns what was imported; another system's run cannot go on here."""
    if not is_finished(run):
        raise RecordingError(f"{run}: its import was not finished; remove it, and import it again.")
    return open_recording(run)


#: What others must know of evolutions, and of those that were imported from other systems.
PROTOCOL = RunProtocol(
    "evolve",
    _resume,
    _summary,
    _section,
    command="evolve",
    ends=True,
    budget=lambda experiment: experiment.get("images", Settings.images),
    findings=thread_findings,
    planned=planned_evolution,
    begin=_begin,
)
IMPORT = RunProtocol("import", _resume_import, _summary, nothing_more, findings=thread_findings)


def default_objective(subject: Subject) -> Objective:
    """Returns the only unit's response.

    Raises:
        InvalidArgumentError: The subject records several units, so that the objective must be named.
    """
    if len(subject.units) != 1:
        raise InvalidArgumentError(
            f"objective: the subject records {len(subject.units)} units; say what to maximize, for instance "
            "objective=Unit(0) or Mean([0, 1]), or units='all' of evolve for an image of each."
        )
    return Unit(0)
