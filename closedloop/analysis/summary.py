"""What a run found, from its recording alone: re-tested means with their standard errors, never a noisy maximum."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from closedloop.analysis.students import spread
from closedloop.checks import check_whole
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray
from closedloop.objectives import Linear, evaluate, parse_objective
from closedloop.readable import Readable, number, with_error
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.layout import EVOLUTION, REFERENCE
from closedloop.recording.lean import lost, responses_at
from closedloop.recording.pictures import Pictures
from closedloop.recording.render import render
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door

#: More threads than these are shown in one table and one picture, and not each by itself.
MANY = 6


@dataclass(frozen=True)
class Estimate:
    """A mean over fresh presentations of one image.

    Attributes:
        stimulus_id: Which image.
        mean: Mean score; NaN where nothing was presented.
        sem: Standard error of the mean; 0 for a subject that always answers the same, NaN below two presentations.
        n: Presentations that were not lost.
    """

    stimulus_id: str
    mean: float
    sem: float
    n: int

    @classmethod
    def of(cls, stimulus_id: str, scores: FloatArray) -> Estimate:
        """Makes the estimate from single-presentation scores ``(n,)``."""
        valid = scores[~np.isnan(scores)]
        n = len(valid)
        same = n > 0 and bool((valid == valid[0]).all())  # a deterministic subject: no rounding of its one answer
        mean = float(valid[0]) if same else float(valid.mean()) if n else float("nan")
        sem = float("nan") if n < 2 else 0.0 if same else float(spread(valid) / np.sqrt(n))
        return cls(stimulus_id, mean, sem, n)

    @property
    def short(self) -> str:
        """The mean, with its standard error where repeats differ."""
        return str(self) if self.n == 0 or self.sem > 0 else number(self.mean)

    def __str__(self) -> str:
        if self.n == 0:
            return "not re-tested"
        return f"{number(self.mean)} ± 0" if self.sem == 0 else with_error(self.mean, self.sem)


@dataclass(frozen=True)
class ThreadSummary(Readable):
    """What one thread found.

    Attributes:
        thread: Its name.
        objective: What was maximized.
        target: The same in words: the unit and its class where it is a single unit.
        evolved: The evolved image, from the fresh re-test after its selection.
        natural: The best reference image, re-tested likewise.
        ratio: evolved / natural; NaN unless the objective is a single unit's response and both are above 0.
        ratio_sem: Its standard error to first order.
        noisy_maximum: The highest score during the evolution, an optimistic number; where drift was corrected, what the
            image with the highest score answered without the correction, as re-tests are measured.
        curse: Winner's curse: the noisy maximum minus the re-tested mean of the very image that gave it.
        images: Evolved presentations.
        generations: Generations of the evolution.
        lost: Presentations of this thread that gave no response.
        drift: How scores were corrected for drift while evolving: "none", "divide" or "regress". All numbers here are
            of the responses as they were answered.
        recording: Where it comes from, for its picture in a notebook; None for a summary made by hand.
    """

    thread: str
    objective: str
    target: str
    evolved: Estimate
    natural: Estimate
    ratio: float
    ratio_sem: float
    noisy_maximum: float
    curse: float
    images: int
    generations: int
    lost: int
    drift: str = "none"
    recording: xr.Dataset | None = field(default=None, compare=False)

    def _in_words(self) -> str:
        ratio = f", ratio {self.ratio:.3g}" if np.isfinite(self.ratio) else ""
        found = f"evolved {self.evolved}, best reference {self.natural}{ratio}"
        return f"{self.thread}: {self.target}: {found}, {self.images:,} images"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the evolved image, if it can be had, beside the numbers."""
        curse = beside(self.curse, self.noisy_maximum)
        rows = {
            "evolved image, re-tested": str(self.evolved),
            "best reference, re-tested": str(self.natural),
            "evolved ÷ best reference": with_error(self.ratio, self.ratio_sem),
            "winner’s curse": "–" if np.isnan(curse) else f"{curse:.4g}",
            "evolved images shown": f"{self.images:,} in {self.generations:,} generations",
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{text}</td></tr>" for name, text in rows.items()
        )
        title = escape(f"{self.thread}: {self.target}")
        return (
            f"<div style='display:flex;gap:1em;align-items:center'>{self._image()}"
            f"<table><caption style='text-align:left'>{title}</caption>{cells}</table></div>"
        )

    def _image(self) -> str:
        """Returns the evolved image as HTML; of a movie its first frame, and nothing where there is none."""
        if self.recording is None or not self.evolved.n:
            return ""
        found = Pictures(self.recording)(self.evolved.stimulus_id)
        if found is None:
            return ""
        buffer = io.BytesIO()
        Image.fromarray(found[0] if found.ndim == 4 else found).save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        name = escape(self.evolved.stimulus_id, quote=True)
        return f"<img src='data:image/png;base64,{data}' alt='{name}' width='160'>"


class Summaries(list[ThreadSummary]):
    """Summaries of a recording's threads: a list that notebooks show well."""

    def __repr__(self) -> str:
        return "[" + ",\n ".join(map(repr, self)) + "]"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: one summary below the other."""
        return "".join(summary._repr_html_() for summary in self)


def beside(value: float, other: float, digits: int = 4) -> float:
    """Rounds a difference to the last digit of the number that it was taken from, which has `digits` of them.

    Of a noiseless run a winner's curse of 2e-05 beside a response of 1.635 is a rounding error, and 0.
    """
    if not (np.isfinite(value) and np.isfinite(other)) or other == 0:
        return value
    return round(value, digits - 1 - int(np.floor(np.log10(abs(other))))) + 0.0


@at_door
def summarize(recording: xr.Dataset) -> Summaries:
    """Summarizes each thread of a recording that `open_recording` or a protocol returned.

    Raises:
        RecordingError: The recording lacks what every run of an evolution holds.
    """
    threads = thread_objectives(recording)
    gone = lost(recording)
    return Summaries(summarize_thread(recording, name, objective, gone) for name, objective in threads)


#: The kind of presentations of evolved images that are shown to other units; see `closedloop.protocols.cross_units`.
CROSS = "cross"


def is_evolution(recording: xr.Dataset) -> bool:
    """Tells whether a recording holds evolutions, and not only responses to given images or to what others evolved."""
    if not {EVOLUTION, "objective"} <= set(map(str, recording.coords)):
        return False
    kinds = recording["kind"].values if "kind" in recording.coords else np.empty(0)
    return not (len(kinds) and bool((kinds == CROSS).all()))


def thread_objectives(recording: xr.Dataset) -> list[tuple[str, str]]:
    """Returns the name and the objective of each thread of a recording.

    Raises:
        RecordingError: The recording holds no evolution.
    """
    missing = [name for name in (EVOLUTION, "objective") if name not in recording.coords]
    if missing:
        raise RecordingError(f"recording: expected an evolution, but it has no coordinate {', '.join(missing)}.")
    columns = (recording[name].values.tolist() for name in (EVOLUTION, "objective"))
    return list(zip(*columns, strict=True))


def fact_of(recording: xr.Dataset, name: str, thread: str) -> str:
    """Returns what a coordinate on ``evolution`` says of a thread of one run; "" where the run does not say it.

    Args:
        recording: One run.
        name: "generator", "optimizer", "objective" …
        thread: The thread's name.
    """
    if name not in recording.coords:
        return ""
    return str(recording[name].values[recording[EVOLUTION].values.tolist().index(thread)])


def summarize_thread(
    recording: xr.Dataset, name: str, objective: str, gone: NDArray[np.bool_] | None = None
) -> ThreadSummary:
    """Summarizes one thread, of which `thread_objectives` gives name and objective.

    Args:
        recording: One run.
        name: Of the thread.
        objective: What it maximizes.
        gone: Which presentations gave no response; None for `closedloop.recording.lean.lost`.
    """
    gone = lost(recording) if gone is None else gone
    thread, kind = recording["thread"].values, recording["kind"].values
    generation = recording["generation"].values
    own = thread == name
    evolved_rows = own & (kind == "evolved")
    evolved = _confirmed(recording, objective, own)
    natural = _confirmed(recording, objective, thread == REFERENCE)
    ratio, ratio_sem = _ratio(evolved, natural) if excites_one(objective) else (float("nan"), float("nan"))
    maximum, curse = _curse(recording, objective, own, evolved_rows)
    return ThreadSummary(
        thread=name,
        objective=objective,
        target=target_name(recording, objective),
        evolved=evolved,
        natural=natural,
        ratio=ratio,
        ratio_sem=ratio_sem,
        noisy_maximum=maximum,
        curse=curse,
        images=int(evolved_rows.sum()),
        generations=len(np.unique(generation[evolved_rows])),
        lost=int(gone[own].sum()),
        drift=drift_method(recording),
        recording=recording,
    )


def drift_method(recording: xr.Dataset) -> str:
    """Returns how a run corrected its scores for drift: "none", "divide" or "regress"."""
    return str(experiment_of(recording).get("drift", "none"))


def raw_scores(recording: xr.Dataset, objective: str, rows: NDArray[np.intp]) -> FloatArray:
    """Returns evolved presentations' scores ``(n,)`` without drift correction, in the unit of re-tests and references.

    Of an image that was shown several times in its generation, the mean.
    """
    scores: FloatArray = recording["score"].values[rows]
    if drift_method(recording) == "none":
        return scores
    ids, single = recording["stimulus_id"].values[rows], single_scores(recording, objective, rows)
    means = {name: Estimate.of("", single[ids == name]).mean for name in np.unique(ids)}
    return np.array([means[name] for name in ids], dtype=float)


@at_door
def best_references(recording: xr.Dataset, summary: ThreadSummary, count: int) -> list[Estimate]:
    """Returns the references of the highest mean score over all presentations; the confirmed one comes first."""
    if not isinstance(recording, xr.Dataset) or not isinstance(summary, ThreadSummary):
        raise InvalidArgumentError(
            "recording, summary: expected a Dataset of open_recording and one of its summaries, of "
            f"closedloop.summarize, got {type(recording).__name__} and {type(summary).__name__}."
        )
    check_whole("count", count, 0)
    estimates = reference_estimates(recording, summary.objective)
    ranked = sorted((e for e in estimates if e.n), key=lambda e: -e.mean)
    confirmed = [summary.natural] if summary.natural.n else []
    others = [e for e in ranked if e.stimulus_id != summary.natural.stimulus_id]
    return [*confirmed, *others][:count]


def reference_estimates(recording: xr.Dataset, objective: str) -> list[Estimate]:
    """Returns the score of each reference image over all its presentations, in the order of their names."""
    rows = np.flatnonzero(recording["thread"].values == REFERENCE)
    if len(rows) == 0:
        return []
    scores, ids = single_scores(recording, objective, rows), recording["stimulus_id"].values[rows]
    return [Estimate.of(str(name), scores[ids == name]) for name in np.unique(ids)]


def target_name(recording: xr.Dataset, objective: str) -> str:
    """Puts an objective into words: what a person calls the unit where it is the response of a single one."""
    if excites_one(objective):
        return recorded_title(recording, next(iter(parse_objective(objective).columns or ())))
    return f"{short_objective(objective)} of {recording['subject'].item()}"


def short_objective(objective: str, longest: int = 60) -> str:
    """Shortens an objective's text for a title: leaves out a caption's weights, and cuts off the end of a long one."""
    text = re.sub(r"(caption\(\"[^\"]*\"), \{[^{}]*\}", r"\1", objective)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def excites_one(objective: str) -> bool:
    """Tells whether an objective is the response of a single unit as it is."""
    parsed = parse_objective(objective)
    return isinstance(parsed, Linear) and list(parsed.weights.values()) == [1.0] and parsed.constant == 0


def _curse(recording: xr.Dataset, objective: str, own: FloatArray, evolved_rows: FloatArray) -> tuple[float, float]:
    """Returns the evolution's highest score, and how far it exceeds that image's re-tests; NaN where there are none."""
    scores = np.where(evolved_rows, recording["score"].values, np.nan)
    if np.isnan(scores).all():
        return float("nan"), float("nan")
    ids = recording["stimulus_id"].values
    best = ids == ids[np.nanargmax(scores)]
    maximum = float(np.nanmax(raw_scores(recording, objective, np.flatnonzero(evolved_rows & best))))
    again = own & (recording["kind"].values == "retest") & best
    return maximum, maximum - Estimate.of("", single_scores(recording, objective, np.flatnonzero(again))).mean


def single_scores(recording: xr.Dataset, objective: str, rows: NDArray[np.intp]) -> FloatArray:
    """Returns each single presentation's score ``(n,)`` in the rows given by index; loads only the units that count.

    Where the objective looks at images they are made again; NaN, with a warning, where they cannot be.
    """
    parsed = parse_objective(objective)
    units = recording.sizes["neuroid"]
    columns = list(parsed.columns or range(units))
    if max(columns) >= units:
        evaluate(parsed, np.empty((0, units)), np.empty((0, 3, 2, 2)))  # says which unit is missing
    places = {column: place for place, column in enumerate(columns)}
    of_loaded = parsed.moved([places.get(column, -1) for column in range(units)])
    responses = responses_at(recording, rows, columns)
    if not of_loaded.needs_images:
        return np.asarray(of_loaded(responses), dtype=float)
    scores = np.full(len(rows), np.nan)
    for group in _alike(recording, rows):
        images = _images(recording, rows[group], objective)
        if images is not None:
            scores[group] = evaluate(of_loaded, responses[group], images)
    return scores


def _alike(recording: xr.Dataset, rows: NDArray[np.intp], images: int = 256) -> list[NDArray[np.intp]]:
    """Returns places among the rows, at most ``images`` at a time, evolved images and references apart."""
    natural = recording["thread"].values[rows] == REFERENCE
    groups = [np.flatnonzero(natural == kind) for kind in (False, True)]
    return [group[i : i + images] for group in groups for i in range(0, len(group), images)]


def _images(recording: xr.Dataset, rows: NDArray[np.intp], objective: str) -> NDArray[np.float32] | None:
    """Makes these rows' images again for an objective that looks at them; None, with a warning, if one cannot."""
    try:
        return render(recording, rows)
    except (InvalidArgumentError, RecordingError) as error:
        warnings.warn(
            f"objective {objective!r} looks at the images, and some cannot be made again, so their scores are NaN: "
            f"{error}",
            UserWarning,
            stacklevel=3,
        )
        return None


def _confirmed(recording: xr.Dataset, objective: str, own: FloatArray) -> Estimate:
    """Returns the best image of the last re-test: the selected one, in presentations that did not select it."""
    retest = own & (recording["kind"].values == "retest")
    generation = recording["generation"].values
    if not retest.any() or np.unique(generation[recording["kind"].values == "retest"]).size < 2:
        return Estimate("", float("nan"), float("nan"), 0)
    last = np.flatnonzero(retest & (generation == generation[recording["kind"].values == "retest"].max()))
    ids, scores = recording["stimulus_id"].values[last], single_scores(recording, objective, last)
    earlier = np.flatnonzero(retest & (generation < generation[last[0]]))
    chosen = _preferred(recording, objective, ids, earlier) if len(last) else ""
    return Estimate.of(chosen, scores[ids == chosen])


def _preferred(recording: xr.Dataset, objective: str, ids: NDArray[Any], earlier: NDArray[np.intp]) -> str:
    """Returns the confirmed image the selecting re-test liked best (several threads confirm several references)."""
    names = sorted(set(ids.tolist()))
    if len(names) == 1:
        return str(names[0])
    scores, shown = single_scores(recording, objective, earlier), recording["stimulus_id"].values[earlier]
    means = {name: Estimate.of(name, scores[shown == name]).mean for name in names}
    return str(max(names, key=lambda name: np.nan_to_num(means[name], nan=-np.inf)))


def _ratio(a: Estimate, b: Estimate) -> tuple[float, float]:
    """Returns a / b with its standard error by the delta method; NaN unless both means are above 0."""
    if not (a.mean > 0 and b.mean > 0):
        return float("nan"), float("nan")
    ratio = a.mean / b.mean
    return ratio, ratio * float(np.hypot(a.sem / a.mean, b.sem / b.mean))
