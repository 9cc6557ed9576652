"""What a protocol tells the house about its runs: how they go on, what a person sees of them, how they are repeated.

A protocol is a function such as `closedloop.protocols.evolve`. What the commands ``resume``, ``show``, ``report`` and
``analyze`` need to know of its runs it says once, by a `RunProtocol`: in an entry point of the group
``closedloop.protocols``, or by `register`. A run names its protocol in its ``experiment.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.images.movies import encode_webp
from closedloop.interfaces import Generator, Subject
from closedloop.loop.blocks import Observer
from closedloop.loop.progress import Progress
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.recording.lean import all_units
from closedloop.recording.titles import recorded_titles, shared
from closedloop.signatures import at_door, check_fields

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The protocol of a run that names none: runs of the first version were evolutions.
EVOLVE = "evolve"
#: Units, and images of each, that a table of recorded responses shows.
_UNITS, _IMAGES = 20, 3


@dataclass(frozen=True)
class Handed:
    """What `closedloop.protocols.resume` was handed besides the run: parts that a file cannot name.

    Attributes:
        subject: The network or animal; None for the one that the file names.
        threads: The evolutions, freshly built as for the run.
        generator: Turns codes into images.
        stop: Stopping rules.
        observers: Watch a session.
        progress: Whether progress is shown, or a function that is called with images shown so far and of all.
    """

    subject: Subject | None = None
    threads: Sequence[Thread] | None = None
    generator: Generator | None = None
    stop: Sequence[StoppingRule] | None = None
    observers: Sequence[Observer] = ()
    progress: Progress = None


@dataclass(frozen=True)
class RunTable:
    """A table for terminal and report.

    Attributes:
        title: What it holds.
        columns: Their names.
        rows: One text for each column.
        caption: What a reader must know of it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RunFigure:
    """A figure of a run.

    Attributes:
        draw: Draws it.
        caption: What it shows, in a sentence or two.
    """

    draw: Callable[[], Figure]
    caption: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RunMovie:
    """A movie of a run.

    Attributes:
        draw: Draws its pictures, ``(frames, 3, h, w)`` RGB, 8 bits.
        rate_hz: Pictures per second.
        caption: What it shows, in a sentence or two.
    """

    draw: Callable[[], NDArray[np.uint8]]
    rate_hz: float
    caption: str = ""

    def __post_init__(self) -> None:
        check_fields(self)

    def encoded(self) -> bytes:
        """Returns it as an animated WebP."""
        return encode_webp(self.draw(), self.rate_hz)


@dataclass(frozen=True)
class RunSummary:
    """What a person sees of a run.

    Attributes:
        tables: Its numbers.
        lines: Sentences below them: what must be known before the numbers are trusted.
        figures: By the name of its file without an ending; the first is the main one.
        question: What the run asked, as a title; empty for that of the report.
        movies: By the name of its file without an ending.
        steady: Whether the subject stays the same; else a report does not say which images each unit likes best, and
            how reliable it is, over the whole run.
        rows: What was recorded, in the plural, where that is no presentation of an image: "steps of training".
        units: Columns of the units that the run is about, of which a report shows what they like best; None for the
            first ones.
        found: What was found, in sentences that stand above all else; none for those of the report.
    """

    tables: Sequence[RunTable] = ()
    lines: Sequence[str] = ()
    figures: Mapping[str, RunFigure] = field(default_factory=dict)
    question: str = ""
    movies: Mapping[str, RunMovie] = field(default_factory=dict)
    steady: bool = True
    rows: str = ""
    units: Sequence[int] | None = None
    found: Sequence[str] = ()

    def beside(self, other: RunSummary) -> RunSummary:
        """Returns the same with the tables, sentences and figures of another one behind its own."""
        return replace(
            self,
            tables=[*self.tables, *other.tables],
            lines=[*self.lines, *other.lines],
            figures={**self.figures, **other.figures},
        )


@dataclass(frozen=True)
class Analysis:
    """How an analysis of a protocol's runs is asked for by ``closedloop analyze --what NAME``.

    Attributes:
        function: From a recording to its result.
        of: "thread" (of each evolution, over all runs together), "unit" (of each unit, run by run), or "runs" (of what
            the evolutions of all runs have in common).
        options: For the function.
        without: Variables that are too large for a table.
        best: A variable by which rows are sorted, the largest first; empty for the order of the result.
    """

    function: Callable[..., xr.Dataset]
    of: str
    options: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    best: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


def summarize_responses(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns the images that each unit likes best: a summary for any recording."""
    recording = all_units(recording)
    ids = recording["stimulus_id"].values
    names, place = np.unique(ids, return_inverse=True)
    rows = []
    titles, note = shared(recorded_titles(recording)[:_UNITS])
    for i, unit in enumerate(titles):
        responses = recording["responses"].isel(neuroid=i).values
        responses = responses.mean(-1) if responses.ndim == 2 else responses
        valid = ~np.isnan(responses)
        total = np.bincount(place, np.where(valid, responses, 0), len(names))
        count = np.bincount(place, valid, len(names))
        means = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
        best = np.argsort(-means, kind="stable")[:_IMAGES]
        cells = [f"{names[j]} ({means[j]:.3g})" if count[j] else "" for j in best]
        rows.append([unit, *cells, *[""] * (_IMAGES - len(cells))])
    n = recording.sizes["neuroid"]
    caption = "; ".join(
        [*([f"units {note}"] if note else []), *([f"the first {_UNITS} of {n} units"] if n > _UNITS else [])]
    )
    table = RunTable("Images with the highest mean response", ("unit", "first", "second", "third"), rows, caption)
    return RunSummary([table])


def by_its_file(experiment: Mapping[str, Any]) -> Sequence[str] | None:
    """Returns nothing: a run's file says all."""
    return ()


def always(experiment: Mapping[str, Any]) -> bool:
    """Says yes, of any run."""
    return True


def no_budget(experiment: Mapping[str, Any]) -> int | None:
    """Returns nothing: how many images a thread evolves is not known before."""
    return None


def no_findings(recording: xr.Dataset) -> Sequence[Mapping[str, Any]] | None:
    """Returns no threads: a run of something else than evolutions."""
    return ()


@dataclass(frozen=True)
class RunProtocol:
    """One way to do an experiment, as far as its runs concern others.

    Attributes:
        name: Stands as ``protocol`` in a run's ``experiment.yaml``.
        resume: Goes on with a run, given its folder, its experiment file and what was handed over besides. It is
            called for finished runs, too, and returns what it found then.
        summary: Returns what a person sees, given folder and recording.
        section: Returns what stands in a report, beside what any report says of evolutions and recorded images; None
            for what `summary` returns.
        command: The command of closedloop that repeats a run by ``--config FILE --out FOLDER``; empty for none.
        repeats: Returns what else that command needs for a run, such as ``["--script", "mine.py:made"]``, given its
            experiment file; None where no command repeats this one.
        resumes: Tells whether ``closedloop resume`` goes on with a run of such an experiment file. Where it does not,
            the command does with ``--exists resume``, if it repeats it.
        analyses: Analyses of its own, by the name that ``closedloop analyze --what`` takes.
        ends: Whether its runs can be ended on request before their plan is used up, see `closedloop.loop.ending`.
        planned: Returns the experiment of a run in a sweep in its canonical form, and about how many images it takes,
            or steps where it trains; None where a sweep cannot run it. It is given what the plan says of the run, the
            names of its units, and whether they are one; it checks all of it.
        begin: Does the run of such an experiment in a folder, or goes on with it; it is given a function that is told
            how many images there were so far. Finished runs are returned at once.
        trains: Whether its runs in a sweep train a network of their own: then they have no subject, and no units.
        budget: Returns how many images each thread of a run evolves at most, given its experiment file; None where that
            is not known before.
        findings: Returns what each thread found, in plain values by name, for the catalogue; None where that takes
            more than the recording. It is asked once, when a run comes to its end.
    """

    name: str
    resume: Callable[[Path, Mapping[str, Any], Handed], xr.Dataset]
    summary: Callable[[Path, xr.Dataset], RunSummary] = summarize_responses
    section: Callable[[Path, xr.Dataset], RunSummary] | None = None
    command: str = ""
    repeats: Callable[[Mapping[str, Any]], Sequence[str] | None] = by_its_file
    resumes: Callable[[Mapping[str, Any]], bool] = always
    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    ends: bool = False
    budget: Callable[[Mapping[str, Any]], int | None] = no_budget
    findings: Callable[[xr.Dataset], Sequence[Mapping[str, Any]] | None] = no_findings
    planned: Callable[[Mapping[str, Any], Sequence[str], bool], tuple[dict[str, Any], int]] | None = None
    begin: Callable[[Mapping[str, Any], Path, Callable[[int], None]], xr.Dataset] | None = None
    trains: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


_registered: dict[str, RunProtocol] = {}


@at_door
def register(protocol: RunProtocol) -> RunProtocol:
    """Makes a protocol known to this process; an entry point in ``closedloop.protocols`` makes it known to all.

    Raises:
        InvalidArgumentError: It is no `RunProtocol`, or another one has its name.
    """
    if not isinstance(protocol, RunProtocol) or not protocol.name:
        raise InvalidArgumentError(f"protocol: expected a RunProtocol with a name, got {protocol!r:.80}.")
    held = _registered.get(protocol.name)
    if (held is not None and held != protocol) or (held is None and protocol.name in recipes.names("protocols")):
        raise InvalidArgumentError(f"protocol: the name {protocol.name!r} is taken; choose another.")
    _registered[protocol.name] = protocol
    return protocol


def protocol_name(content: Mapping[str, Any]) -> str:
    """Returns the name of the protocol that an experiment file is of."""
    return str(content.get("protocol", EVOLVE))


def protocol_of(content: Mapping[str, Any], where: str) -> RunProtocol:
    """Returns the protocol that an experiment file names.

    Args:
        content: The file's entries.
        where: The run, for the error.

    Raises:
        UnknownNameError: It is not known here: the package that brings it is not installed.
    """
    name = protocol_name(content)
    if name in _registered:
        return _registered[name]
    if name not in recipes.names("protocols"):
        raise UnknownNameError(
            f"{where}: it was recorded by a protocol that is not known here, {name!r}; install the package that brings "
            "it, or hand it to closedloop.protocols.register. What is recorded is safe: open_recording reads it."
        )
    found = recipes.find("protocols", name)
    if not isinstance(found, RunProtocol):
        raise InvalidArgumentError(f"{name}: expected its entry point to be a RunProtocol, got {found!r:.80}.")
    return found


def shown_protocol(content: Mapping[str, Any], where: str) -> RunProtocol:
    """Returns the protocol of a run that is only to be looked at; where it is not known here, one for any recording."""
    try:
        return protocol_of(content, where)
    except UnknownNameError as error:
        return RunProtocol(protocol_name(content), _cannot_resume, partial(_summarize_unknown, str(error)))


def _cannot_resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    return protocol_of(content, str(run)).resume(run, content, handed)  # says which protocol is missing


def _summarize_unknown(reason: str, run: Path, recording: xr.Dataset) -> RunSummary:
    return replace(summarize_responses(run, recording), lines=[reason])


def nothing_more(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns an empty section of a report: what any report says of evolutions and recorded images is all."""
    return RunSummary()
