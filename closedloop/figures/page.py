"""Draws one evolution on a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from closedloop.analysis import generation_scores
from closedloop.analysis.summary import ThreadSummary, best_references, excites_one, summarize
from closedloop.errors import RecordingError
from closedloop.figures.style import EVOLVED, INK, NATURAL, part_of, reference_count
from closedloop.figures.tiles import draw_picture
from closedloop.figures.trajectory import draw_strip, plot_trajectory
from closedloop.interfaces import STILL
from closedloop.readable import with_error
from closedloop.recording.layout import recorded_form
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.signatures import at_door


@at_door
def plot_evolution(run: xr.Dataset | str | Path, thread: str = "main") -> Figure:
    """Draws one evolution on a page: its best images over time, its trajectory, and what it found beside nature's best.

    Args:
        run: The run's folder, or its recording.
        thread: Which evolution.

    Raises:
        RecordingError: There is no run, or it has no such thread.
    """
    recording = run if isinstance(run, xr.Dataset) else open_recording(run)
    summaries = {s.thread: s for s in summarize(recording)}
    if thread not in summaries:
        raise RecordingError(f"run: no thread {thread!r}; it has {sorted(summaries)}.")
    summary = summaries[thread]
    figure = Figure(figsize=(11.5, 6.4), dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06))
    parts = figure.add_gridspec(2, 2, height_ratios=[0.085, 1], width_ratios=[2.35, 1])
    heading, left, right = (figure.add_subfigure(p) for p in (parts[0, :], parts[1, 0], parts[1, 1]))
    _draw_heading(heading, recording, summary)
    strip, axes = left.subplots(2, 1, height_ratios=[1, 3.2])
    plot_trajectory(recording, axes, thread)
    strip.axis("off")
    pictures = Pictures(recording)
    draw_strip(strip, generation_scores(recording, thread), pictures, 0.0, 1.0)
    _draw_exemplars(right, pictures, recording, summary)
    return figure


def _draw_heading(figure: SubFigure, recording: xr.Dataset, summary: ThreadSummary) -> None:
    """Writes what was asked, and how."""
    single = excites_one(summary.objective)
    question = f"What does {summary.target} want to see?" if single else f"What drives {summary.target}?"
    generator, optimizer = (part_of(recording, name, summary.thread) for name in ("generator", "optimizer"))
    setting = f"{recording['subject'].item()}: {generator} images, {optimizer}, {summary.images} of them shown, "
    setting += f"seed {recording['seed'].item()}"
    if (form := recorded_form(recording)) != STILL:
        setting += f"; {form.describe()}"
    figure.text(0.012, 0.62, question, fontsize=14, weight="bold", color=INK, va="center", parse_math=False)
    figure.text(0.012, 0.08, setting, fontsize=9.5, color=INK, va="center", parse_math=False)


def _draw_exemplars(figure: SubFigure, pictures: Pictures, recording: xr.Dataset, summary: ThreadSummary) -> None:
    """Draws the evolved image above the best natural ones, each with its number."""
    grid = figure.add_gridspec(3, 3, height_ratios=[3, 1.05, 0.3])
    top = figure.add_subplot(grid[0, :])
    draw_picture(top, pictures(summary.evolved.stimulus_id), across=3, down=2)
    top.set_title(f"evolved  {summary.evolved.short}", color=EVOLVED, fontsize=12, weight="bold")
    for column, estimate in enumerate(best_references(recording, summary, 3)):
        ax = figure.add_subplot(grid[1, column])
        draw_picture(ax, pictures.reference(estimate.stimulus_id))
        ax.set_title(estimate.short, color=NATURAL, fontsize=9, weight="bold")
    text = figure.add_subplot(grid[2, :])
    text.axis("off")
    verdict = _verdict(recording, summary)
    text.text(0.5, 1.0, verdict, ha="center", va="top", fontsize=9, color=INK, linespacing=1.5, in_layout=False)


def _verdict(recording: xr.Dataset, summary: ThreadSummary) -> str:
    """Writes how the evolved image compares with the best natural one, both re-tested."""
    if not summary.natural.n:
        return "no natural image was re-tested"
    lines = [f"the best of {reference_count(recording)} natural images, the first re-tested"]
    if np.isfinite(summary.ratio):
        lines.append(f"evolved ÷ best natural = {with_error(summary.ratio, summary.ratio_sem)}")
    return "\n".join(lines)
