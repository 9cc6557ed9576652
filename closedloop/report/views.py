"""Gathers from the runs what stands in a report: words, numbers and pictures, before any HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.analysis import generation_scores
from closedloop.analysis.quality import CHECKS, Caution, cautions, together
from closedloop.analysis.summary import (
    MANY,
    Estimate,
    ThreadSummary,
    best_references,
    excites_one,
    is_evolution,
    reference_estimates,
    summarize,
    target_name,
)
from closedloop.errors import RecordingError
from closedloop.figures import (
    plot_code_plane,
    plot_cross_driving,
    plot_evolved_vs_reference,
    plot_reliability,
    plot_threads,
    plot_trajectory,
)
from closedloop.figures.population import population
from closedloop.figures.sittings import rig_summary
from closedloop.figures.style import part_of, reference_count
from closedloop.figures.trajectory import milestones
from closedloop.interfaces import STILL
from closedloop.loop.protocol import RunTable, shown_protocol
from closedloop.objectives import Unit, parse_objective
from closedloop.readable import counted, number
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.layout import recorded_form
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import recorded_title, recorded_titles
from closedloop.report.embedding import SMALL_PX, inline_svg, picture
from closedloop.report.repeating import commands, experiment_text, objects
from closedloop.report.wording import estimate, natural_rows, presentations, table_rows, verdict


@dataclass(frozen=True)
class Picture:
    """A picture with its words.

    Attributes:
        image: The element.
        value: Its number, large.
        note: What it is, small.
    """

    image: Markup
    value: str
    note: str


@dataclass(frozen=True)
class Drawing:
    """A figure of a report, with the caption below it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class ThreadView:
    """An evolution as a report shows it: its words, numbers, pictures and figures."""

    name: str
    target: str
    evolved: Picture
    references: list[Picture]
    looks: list[tuple[str, list[str]]]
    strip: list[Picture]
    sheet: list[Picture]
    drawings: list[Drawing]


@dataclass(frozen=True)
class UnitView:
    """A unit of a run of recorded images, with the images that it likes best."""

    name: str
    images: list[Picture]


@dataclass(frozen=True)
class RunView:
    """A run as a report shows it, with its evolutions or its units."""

    label: str
    path: str
    exported: bool
    question: str
    sentences: list[str]
    facts: list[tuple[str, str]]
    cautions: list[Caution]
    checks: tuple[str, ...]
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    threads: list[ThreadView]
    units: list[UnitView]
    tables: list[RunTable]
    lines: list[str]
    drawings: list[Drawing]
    omitted: list[str]
    commands: list[tuple[str, str]]
    objects: list[str]
    protocol: str
    experiment: str

    @property
    def serious(self) -> list[Caution]:
        """Returns the cautions that touch the numbers."""
        return [c for c in self.cautions if c.serious]

    @property
    def repeatable(self) -> bool:
        """Tells whether a command repeats it."""
        return any(what.startswith("repeat") for what, _ in self.commands)


class Sketches:
    """Draws figures for a page; what cannot be drawn is said in words instead.

    Args:
        prefix: Starts the ids of all its figures.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix, self._count = prefix, 0
        self._reasons: dict[str, list[str]] = {}

    @property
    def omitted(self) -> list[str]:
        """Returns which figures could not be drawn, and why."""
        return [f"{', '.join(names)}: {reason}" for reason, names in self._reasons.items()]

    def draw(self, name: str, plot: Callable[[], Axes | Figure], caption: str) -> Drawing | None:
        """Returns the figure that a function draws, or None and keeps the reason."""
        try:
            ax = plot()
        except RecordingError as error:
            self._reasons.setdefault(str(error).removeprefix("recording: ").rstrip("."), []).append(name)
            return None
        self._count += 1
        return Drawing(inline_svg(ax, f"{self._prefix}f{self._count}", caption), caption)


@dataclass(frozen=True)
class Run:
    """A run as it is read: its folder or export, its recording, the experiment that repeats it, its pictures."""

    path: Path
    label: str
    recording: xr.Dataset
    experiment: dict[str, Any]
    pictures: Pictures

    @classmethod
    def read(cls, path: Path, label: str) -> Run:
        """Opens a run's folder, or an export of one; nothing on the disk is changed."""
        recording = open_recording(path)
        return cls(path, label, recording, experiment_of(recording), Pictures(recording))

    def picture(self, image: NDArray[np.uint8] | None, alt: str, longest: int | None = None) -> Markup:
        """Returns an ``img`` element of one of its pictures or movies, which play at the rate at which they were shown.

        A still that was held for all frames is one picture.
        """
        if image is not None and image.ndim == 4 and (image == image[:1]).all():
            image = image[0]
        return picture(image, alt, longest, self.pictures.rate_hz)


def run_view(run: Run, place: int) -> RunView:
    """Returns all that a report says of one run.

    Args:
        run: The run.
        place: Its number on the page, which starts the ids of its figures.
    """
    evolution = is_evolution(run.recording)
    summaries = summarize(run.recording) if evolution else []
    sketches = Sketches(f"r{place}")
    everyone, summaries = summaries, featured(summaries)
    threads = [_thread_view(run, s, sketches) for s in summaries if s.images]
    found = cautions(run.recording, run.pictures, str(run.path))
    protocol = shown_protocol(run.experiment, str(run.path))
    section = (protocol.section or protocol.summary)(run.path, run.recording).beside(rig_summary(run.recording))
    units = list(unit_views(run, section.units)) if section.steady and not evolution else []
    whole = section.steady and len(everyone) <= MANY
    started = [s for s in summaries if s.images]
    drawings = _run_drawings(run, started, section.units, sketches) if whole else []
    drawings += [d for name, f in section.figures.items() if (d := sketches.draw(name, f.draw, f.caption)) is not None]
    return RunView(
        label=run.label,
        path=str(run.path),
        exported=run.path.is_file(),
        question=section.question or _question(run.recording, everyone),
        sentences=[*section.found] or _sentences(run.recording, summaries, len(everyone), section.rows),
        facts=list(_facts(run, section.rows)),
        cautions=[*(found if len(everyone) <= MANY else together(found)), *_picture_cautions(run.pictures)],
        checks=CHECKS if evolution else CHECKS[:1] if section.rows else CHECKS[:3],
        columns=[s.thread for s in summaries],
        rows=table_rows(run.recording, summaries) if summaries else [],
        threads=threads,
        units=units,
        tables=list(section.tables),
        lines=list(section.lines),
        drawings=drawings,
        omitted=sketches.omitted,
        commands=commands(run.path, run.experiment, bool(run.recording.attrs.get("finished", 1))),
        objects=objects(run.experiment),
        protocol=protocol.name,
        experiment=experiment_text(run.experiment),
    )


def featured(summaries: Sequence[ThreadSummary]) -> list[ThreadSummary]:
    """Returns the evolutions that a report shows by themselves: of many the best, middle and worst by ratio."""
    if len(summaries) <= MANY:
        return list(summaries)
    order = sorted(summaries, key=lambda s: -np.nan_to_num(s.ratio, nan=-np.inf))
    known = [s for s in order if np.isfinite(s.ratio)] or order
    places = dict.fromkeys([0, 1, len(known) // 2, len(known) - 2, len(known) - 1])
    return [known[place] for place in places if 0 <= place < len(known)]


def _picture_cautions(pictures: Pictures) -> Iterator[Caution]:
    """Yields what is to be said of the pictures, after all of them were asked for."""
    for doubt in pictures.doubts:
        yield Caution("other-weights", "", doubt, "The numbers are those recorded; trust no picture made again.")
    for reason in pictures.missing:
        yield Caution("missing-pictures", "", f"some pictures cannot be shown: {reason}", serious=False)


def _sentences(recording: xr.Dataset, summaries: list[ThreadSummary], threads: int, rows: str = "") -> list[str]:
    """Writes what was found, a sentence for each thread; of many for those that are shown."""
    if rows:
        return [_rows(recording, rows)]
    if not summaries:
        return [_recorded(recording)]
    if threads > len(summaries):
        return [
            f"{threads} units were evolved side by side. Shown by themselves are those with the largest, middle and "
            "smallest ratio to the best reference; the table and the map hold all.",
            *_sentences(recording, summaries, len(summaries)),
        ]
    found = [verdict(s, reference_count(recording)) for s in summaries]
    several = len(summaries) > 1
    return [f"{s.thread}: {text}" if several else text for s, text in zip(summaries, found, strict=True)]


def _rows(recording: xr.Dataset, rows: str) -> str:
    """Describes in one sentence a run in which no images were shown."""
    subject = recording["subject"].item() if "subject" in recording.coords else "a network"
    return f"{number(recording.sizes['presentation'])} {rows} were recorded, of {subject}."


def _recorded(recording: xr.Dataset) -> str:
    """Describes a run of recorded images in one sentence."""
    images, units = len(set(recording["stimulus_id"].values.tolist())), recording.sizes["neuroid"]
    shown = number(recording.sizes["presentation"])
    return (
        f"{number(images)} images were shown to {recording['subject'].item()}, {shown} presentations in all; "
        f"{number(units)} unit{'s' * (units != 1)} answered."
    )


def unit_views(run: Run, units: Sequence[int] | None = None, most: int = 20, images: int = 6) -> Iterator[UnitView]:
    """Yields the images that each unit likes best, by their mean response.

    Args:
        run: Of recorded images.
        units: Columns of the units; None for all. One without any response is left out.
        most: At most so many units, the first ones.
        images: At most so many images of each.
    """
    ds = run.recording
    for column in list(range(ds.sizes["neuroid"]) if units is None else units)[:most]:
        found = reference_estimates(ds, Unit(column).describe())
        best = sorted((e for e in found if e.n), key=lambda e: -e.mean)[:images]
        run.pictures.several([e.stimulus_id for e in best], reference=True)
        if best:
            yield UnitView(target_name(ds, Unit(column).describe()), [_exemplar(run, e, False) for e in best])


def _question(recording: xr.Dataset, summaries: list[ThreadSummary]) -> str:
    """Writes the question that a run asks, as its heading."""
    targets = list(dict.fromkeys(s.target for s in summaries))
    if not targets:
        return f"Responses of {_some(recorded_titles(recording), 2)}"
    if len(targets) > 1:
        return f"{len(targets)} questions to {recording['subject'].item()}"
    single = excites_one(summaries[0].objective)
    return f"What does {targets[0]} want to see?" if single else f"What drives {targets[0]}?"


def _facts(run: Run, rows: str) -> Iterator[tuple[str, str]]:
    """Yields what was run, as pairs of name and value.

    Args:
        run: The run.
        rows: What was recorded where no images were shown, see `RunSummary`.
    """
    ds = run.recording
    units = recorded_titles(ds)
    if "subject" in ds.coords:
        yield "subject", str(ds["subject"].item())
    form = recorded_form(ds)
    if form != STILL:
        yield "stimuli", form.describe()
    if rows:
        yield "recorded", f"{number(ds.sizes['presentation'])} {rows}"
    else:
        yield "recorded", f"{counted(len(units), 'unit')}: {_some(units)}"
        yield from _shown(run)
    if "seed" in ds.coords:
        yield "seed", _seeds(run)
    if "elapsed_s" in ds.attrs:
        yield "time", f"{ds.attrs['elapsed_s']:.0f} s of running"
    finished = bool(ds.attrs.get("finished", 1))
    whole = "all was done" if rows else "all was shown"
    yield "ended", (str(ds.attrs.get("reason", "")) or whole) if finished else "not finished"
    if "closedloop_version" in ds.coords:
        yield "closedloop", str(ds["closedloop_version"].item())


def _shown(run: Run) -> Iterator[tuple[str, str]]:
    """Yields which images were shown, and what made them."""
    ds = run.recording
    for name in [n for n in ("generator", "optimizer") if n in ds.coords]:
        yield name, "; ".join(dict.fromkeys(ds[name].values.tolist()))
    count = reference_count(ds)
    named = (run.experiment.get(n) for n in ("references", "naturals", "images"))
    source = next((text for text in named if isinstance(text, str)), "handed over")
    yield "references", f"{count} images ({source})" if count else "none"
    kinds = ds["kind"].values
    words = {"reference": "of references", "retest": "re-tests", "landscape": "of the landscape"}
    shown = [(words.get(kind, kind), int((kinds == kind).sum())) for kind in ("evolved", *words)]
    parts = ", ".join(f"{number(n)} {name}" for name, n in shown if n)
    yield "presentations", number(len(kinds)) + (f": {parts}" if parts else "")


def _seeds(run: Run) -> str:
    """Writes the seed of the session, and those of optimizers that differ from it."""
    session = str(run.recording["seed"].item())
    threads = run.experiment.get("threads") or [run.experiment]
    parts = {str(t.get("name", "main")): t.get("optimizer") for t in threads if isinstance(t, dict)}
    own = {name: part.get("seed") for name, part in parts.items() if isinstance(part, dict)}
    other = ", ".join(f"{name} {seed}" for name, seed in own.items() if seed is not None and str(seed) != session)
    return f"{session} (optimizers: {other})" if other else session


def _some(names: Any, most: int = 6) -> str:
    """Joins the first names by semicolons; an ellipsis stands for those that are left out."""
    shown = "; ".join(str(n) for n in names[:most])
    return shown + ("; …" if len(names) > most else "")


def _thread_view(run: Run, summary: ThreadSummary, sketches: Sketches) -> ThreadView:
    """Returns what a report shows of one evolution."""
    return ThreadView(
        name=summary.thread,
        target=summary.target,
        evolved=_evolved(run, summary),
        references=[_exemplar(run, e, i == 0 and bool(summary.natural.n)) for i, e in enumerate(_best(run, summary))],
        looks=natural_rows(run.recording, summary),
        strip=list(_strip(run, summary)),
        sheet=list(_sheet(run, summary)),
        drawings=_thread_drawings(run, summary, sketches),
    )


def _best(run: Run, summary: ThreadSummary, count: int = 6) -> list[Estimate]:
    """Returns the best references, which stand beside the evolved image."""
    return best_references(run.recording, summary, count)


def _evolved(run: Run, summary: ThreadSummary) -> Picture:
    """Returns the selected image; before any re-test the best-scored one so far, said to be so."""
    if summary.evolved.n:
        found = summary.evolved
        image = run.picture(run.pictures(found.stimulus_id), f"evolved image {found.stimulus_id}")
        return Picture(image, estimate(found), f"evolved · {presentations(found)}")
    scores = generation_scores(run.recording, summary.thread)
    if not np.isfinite(scores["best"].values).any():
        return Picture(picture(None, "no image has a score"), "–", "evolved · no response yet")
    best = int(np.nanargmax(scores["best"].values))
    name = str(scores["best_id"].values[best])
    image = run.picture(run.pictures(name), f"best-scored image so far, {name}")
    return Picture(image, number(summary.noisy_maximum), "best score so far, optimistic · not re-tested")


def _exemplar(run: Run, found: Estimate, confirmed: bool) -> Picture:
    """Returns a reference image: large and with its presentations where it was re-tested, else small."""
    image = run.pictures.reference(found.stimulus_id)
    alt = f"reference image {found.stimulus_id}"
    note = presentations(found) if confirmed else f"n = {found.n}"
    shown = run.picture(image, alt) if confirmed else run.picture(image, alt, SMALL_PX)
    return Picture(shown, estimate(found), f"{found.stimulus_id} · {note}")


def _strip(run: Run, summary: ThreadSummary) -> Iterator[Picture]:
    """Yields the best images of some generations, from the first to the last."""
    scores = generation_scores(run.recording, summary.thread)
    for row in milestones(scores):
        name, score = str(scores["best_id"].values[row]), number(float(scores["best"][row]), 3)
        text = f"best image of generation {scores['generation'].values[row]}"
        image = run.picture(run.pictures(name), text, SMALL_PX)
        yield Picture(image, score, f"after {number(int(scores['images'][row]))}")


def _sheet(run: Run, summary: ThreadSummary) -> Iterator[Picture]:
    """Yields the images of the last generation, best first; none where they cannot be made again."""
    table = population(run.recording, summary.thread)
    names = [str(name) for name in table["stimulus_id"].values]
    for name, score, image in zip(names, table["score"].values, run.pictures.several(names), strict=True):
        if image is not None:
            yield Picture(run.picture(image, f"image {name}", SMALL_PX), number(float(score), 3), "")


def _thread_drawings(run: Run, summary: ThreadSummary, sketches: Sketches) -> list[Drawing]:
    """Draws the figures of one evolution, as far as they can be drawn."""
    ds, thread = run.recording, summary.thread
    generator, optimizer = (part_of(ds, name, thread) for name in ("generator", "optimizer"))
    course = (
        f"Course of the evolution: {number(summary.images)} images in {summary.generations} generations ({generator}, "
        f"{optimizer}, seed {ds['seed'].item()}). Dots: each image. Line and band: generation mean ± 1 standard "
        "deviation. Diamond and dashed line: re-tested means ± standard error."
    )
    against = (
        "The evolved image against the references. Diamonds: mean ± standard error of fresh presentations that chose "
        "neither image. Dots: each reference, mean of all its presentations."
    )
    plane = (
        "The codes in the plane of their first two principal axes, coloured by generation; the line is the mean "
        "code of each generation."
    )
    drawn = [
        sketches.draw(f"references beside {thread}", lambda: plot_evolved_vs_reference(ds, thread=thread), against),
        sketches.draw(f"course of {thread}", lambda: plot_trajectory(ds, thread=thread), course),
        sketches.draw(f"codes of {thread}", lambda: plot_code_plane(ds, thread=thread), plane),
    ]
    return [d for d in drawn if d is not None]


def _run_drawings(
    run: Run, started: list[ThreadSummary], units: Sequence[int] | None, sketches: Sketches
) -> list[Drawing]:
    """Draws the figures of a run as a whole, as far as they can be drawn."""
    ds, drawn = run.recording, []
    if len(started) > 1:
        text = (
            "The threads side by side. Line and band: generation mean ± standard error over images. Diamonds: "
            "re-tested evolved images ± standard error."
        )
        drawn.append(sketches.draw("threads side by side", lambda: plot_threads(ds), text))
    if len({s.objective for s in started}) > 1:
        text = (
            "Cross-driving: the response of each thread’s unit (columns) to the image that was evolved for each "
            "(rows), mean ± standard error; colour relative to the unit’s response to its own image."
        )
        drawn.append(sketches.draw("cross-driving", lambda: plot_cross_driving(ds), text))
    for unit in _target_units(ds, started, units) if reference_count(ds) else []:
        name = f"reliability of {recorded_title(ds, unit)}"
        text = f"R{name[1:]}: each reference image’s mean response in two random halves of its repeats (seed 0)."
        drawn.append(sketches.draw(name, partial(plot_reliability, ds, unit=unit, kind="reference"), text))
    return [d for d in drawn if d is not None]


def _target_units(recording: xr.Dataset, started: list[ThreadSummary], units: Sequence[int] | None) -> list[int]:
    """Returns the columns of the units that threads excite; three of the run's where images were only recorded."""
    if not started:
        return list(range(recording.sizes["neuroid"]) if units is None else units)[:3]
    return list(dict.fromkeys((parse_objective(s.objective).columns or (0,))[0] for s in started))


def runs_drawings(runs: list[Run]) -> list[Drawing]:
    """Draws figures of several runs together, where they ask the same question."""
    evolved = {run.label: run.recording for run in runs if is_evolution(run.recording)}
    targets = {(s.target, s.objective) for ds in evolved.values() for s in summarize(ds)}
    if len(evolved) < 2 or len(targets) > 1:
        return []
    text = (
        "The runs side by side. Line and band: generation mean ± standard error over images. Diamonds: re-tested "
        "evolved images ± standard error."
    )
    drawn = Sketches("all").draw("runs side by side", lambda: plot_threads(evolved), text)
    return [] if drawn is None else [drawn]
