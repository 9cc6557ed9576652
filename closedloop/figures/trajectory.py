"""Draws the course of evolutions: scores by generation, the best images above them, threads side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis import generation_scores
from closedloop.analysis.provenance import BY_TWIN
from closedloop.analysis.summary import ThreadSummary, summarize
from closedloop.errors import RecordingError
from closedloop.figures.style import (
    EVOLVED,
    INK,
    NATURAL,
    TWIN,
    caption,
    draw_diamond,
    dress,
    legend_below,
    line_style,
    new_axes,
    one_thread,
    part_of,
    score_name,
    thread_names,
)
from closedloop.figures.tiles import draw_picture
from closedloop.recording.pictures import Lookup
from closedloop.signatures import at_door


@at_door
def plot_trajectory(
    recording: xr.Dataset, ax: Axes | None = None, thread: str | None = None, pictures: Lookup | None = None
) -> Axes:
    """Draws the scores of an evolution: each image, and the generation mean with a band of one standard deviation.

    Args:
        recording: See `closedloop.open_recording`.
        ax: Where to draw; None for a new figure, which is ``result.figure``.
        thread: Which evolution; None where there is only one.
        pictures: With it, for instance ``Pictures(recording)``, the best images of some generations stand above.

    Returns:
        The axes: evolved images shown (x) against the score (y). The dashed line and the diamond are the re-tested
        best reference and evolved image, each the mean of fresh presentations ± its standard error.

    Raises:
        RecordingError: No such thread, or it has no evolved image yet.
    """
    thread = one_thread(recording, thread)
    scores = generation_scores(recording, thread)
    ax = new_axes(ax, (7.2, 5.0) if pictures else (6.0, 3.8))
    shown, mean, sd = scores["images"].values, scores["mean"].values, scores["sd"].values
    every = scores["score"].values
    ways = scores["proposed_by"].values if "proposed_by" in scores else np.full(every.shape, "")
    for way in dict.fromkeys(ways.ravel().tolist()):
        at = ways == way
        ax.plot(
            np.repeat(shown, every.shape[1])[at.ravel()],
            every[at],
            ".",
            ms=6 if way == BY_TWIN else 2.5,
            alpha=0.8 if way == BY_TWIN else 0.3,
            color=TWIN if way == BY_TWIN else EVOLVED,
            mec="none",
            rasterized=True,
            label="proposed by the twin" if way == BY_TWIN else "_each image",
        )
    ax.fill_between(shown, mean - sd, mean + sd, color=EVOLVED, alpha=0.22, lw=0, label="± 1 s.d. over images")
    ax.plot(shown, mean, color=EVOLVED, lw=2, label="generation mean")
    ax.set_xlabel("evolved images shown")
    ax.set_ylabel(score_name(recording, part_of(recording, "objective", thread)))
    ax.set_xlim(0, shown.max() * 1.12)
    _draw_estimates(ax, next(s for s in summarize(recording) if s.thread == thread))
    legend_below(ax)
    if pictures is not None:
        draw_strip(ax, scores, pictures, 1.05, 1 / 3.4)
    return dress(ax)


def _draw_estimates(ax: Axes, summary: ThreadSummary) -> None:
    """Draws the re-tested numbers: a line for the best natural image, a diamond with its error for the evolved one."""
    end = ax.get_xlim()[1]
    if summary.natural.n:
        sem = np.nan_to_num(summary.natural.sem)
        ax.axhspan(summary.natural.mean - sem, summary.natural.mean + sem, color=NATURAL, alpha=0.18, lw=0)
        ax.axhline(summary.natural.mean, color=NATURAL, lw=1.6, ls=(0, (5, 2)), label="best reference, re-tested")
    if summary.evolved.n:
        draw_diamond(ax, summary.evolved, end * 0.965, EVOLVED, label="evolved image, re-tested")


def draw_strip(ax: Axes, scores: xr.Dataset, pictures: Lookup, bottom: float, height: float, count: int = 8) -> None:
    """Draws the best image of some generations in a row, with its score and the images shown until then.

    Args:
        ax: Axes in whose coordinates the row is placed; it may lie above them.
        scores: See `generation_scores`.
        pictures: Where the images come from.
        bottom: Lower edge of the words, in the axes' coordinates.
        height: Height of words and images together, likewise.
        count: Images in the row; fewer generations leave room on the right.
    """
    for column, number in enumerate(milestones(scores, count)):
        cell = ax.inset_axes((column / count, bottom + 0.25 * height, 0.94 / count, 0.75 * height))
        draw_picture(cell, pictures(str(scores["best_id"].values[number])))
        cell.set_anchor("S")
        shown, best = int(scores["images"][number]), float(scores["best"][number])
        cell.text(
            0.5,
            -0.07,
            f"{best:.3g}\nafter {shown}",
            transform=cell.transAxes,
            ha="center",
            va="top",
            fontsize=8,
            color=INK,
            linespacing=1.3,
        )


def milestones(scores: xr.Dataset, count: int = 8) -> list[int]:
    """Returns rows of `generation_scores` at even distances, with the first and the last, without all lost ones."""
    valid = np.flatnonzero(np.isfinite(scores["best"].values))
    if len(valid) == 0:
        return []
    places = np.unique(np.linspace(0, len(valid) - 1, count).round().astype(int))
    return [int(i) for i in valid[places]]


@at_door
def plot_threads(recording: xr.Dataset | Mapping[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """Draws threads side by side: generation mean with the band of its standard error, and the re-tested evolved image.

    Args:
        recording: One recording with several threads, or several recordings by a name for each.
        ax: Where to draw; None for a new figure.

    Returns:
        The axes: evolved images shown (x) against the score (y). Each thread's diamond is the mean of fresh
        presentations of its selected image, with its standard error.

    Raises:
        RecordingError: No thread has an evolved image yet.
    """
    runs = recording if isinstance(recording, Mapping) and not isinstance(recording, xr.Dataset) else {"": recording}
    lines = [(_line_name(run, s.thread, ds), ds, s) for run, ds in runs.items() for s in summarize(ds) if s.images]
    if not lines:
        raise RecordingError("recording: no thread has an evolved image yet.")
    ax = new_axes(ax)
    ends = [_draw_thread(ax, ds, summary, name, i) for i, (name, ds, summary) in enumerate(lines)]
    for i, (_, _, summary) in enumerate(lines):
        if summary.evolved.n:
            place = max(ends) * (1.04 + 0.08 * (i + 1) / len(lines))
            draw_diamond(ax, summary.evolved, place, line_style(i)["color"], size=6.5)
    objectives = {s.objective for _, _, s in lines}
    names = {score_name(ds, s.objective) for _, ds, s in lines}
    shared = len(objectives) == len(names) == 1
    ax.set_ylabel(names.pop() if shared else "score (own objective of each)")
    ax.set_xlabel("evolved images shown")
    ax.set_xlim(0, max(ends) * 1.16)
    caption(ax, "band: ± s.e.m. over images;  ◆ re-tested evolved image ± s.e.m.")
    ax.legend(frameon=False, fontsize=8.5, loc="best")
    return dress(ax)


def _draw_thread(ax: Axes, recording: xr.Dataset, summary: ThreadSummary, name: str, index: int) -> int:
    """Draws one thread's line and band; returns the number of evolved images shown."""
    scores = generation_scores(recording, summary.thread)
    shown, mean = scores["images"].values, scores["mean"].values
    sem = scores["sd"].values / np.sqrt(np.maximum(np.isfinite(scores["score"].values).sum(1), 1))
    style = line_style(index)
    ax.fill_between(shown, mean - sem, mean + sem, color=style["color"], alpha=0.22, lw=0)
    ax.plot(shown, mean, lw=2, label=name, **style)
    return int(shown[-1])


def _line_name(run: str, thread: str, recording: xr.Dataset) -> str:
    """Returns a line's name: the run's, the thread's, or both where one does not tell it from others; and its seed."""
    several = len(thread_names(recording)) > 1
    parts = [p for p in (run, thread if several or not run else "") if p]
    return ": ".join(parts) + f"  (seed {recording['seed'].item()})"
