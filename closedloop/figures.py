"""Figures of a recording. Each draws into matplotlib axes or a figure of its own and returns it; nothing is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from closedloop.analysis import generation_scores
from closedloop.errors import RecordingError
from closedloop.evolution import REFERENCE
from closedloop.images import to_bytes
from closedloop.objectives import parse_objective
from closedloop.recording import IMAGES, open_recording, read_references
from closedloop.summary import Estimate, ThreadSummary, excites_one, summarize

#: Okabe & Ito's colours, distinct for colour-blind readers.
EVOLVED, NATURAL, INK = "#D55E00", "#0072B2", "#333333"
#: Images in the strip above the trajectory.
STRIP = 8


def plot_trajectory(recording: xr.Dataset, ax: Axes, thread: str = "main") -> Axes:
    """The scores of an evolution: each image, the generation mean, and the band of one standard deviation around it.

    Args:
        recording: See `closedloop.open_recording`.
        ax: Where to draw.
        thread: Which evolution.
    """
    scores = generation_scores(recording, thread)
    shown, mean, sd = scores["images"].values, scores["mean"].values, scores["sd"].values
    every = scores["score"].values
    ax.plot(
        np.repeat(shown, every.shape[1]),
        every.ravel(),
        ".",
        ms=2.5,
        alpha=0.3,
        color=EVOLVED,
        mec="none",
        rasterized=True,
    )
    ax.fill_between(shown, mean - sd, mean + sd, color=EVOLVED, alpha=0.22, lw=0, label="± 1 s.d. over images")
    ax.plot(shown, mean, color=EVOLVED, lw=2, label="generation mean")
    ax.set_xlabel("evolved images shown")
    ax.set_xlim(0, shown.max() * 1.12)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def plot_evolution(run: str | Path, thread: str = "main") -> Figure:
    """One evolution on a page: its best images over time, its trajectory, and what it found beside nature's best.

    Args:
        run: The run's folder.
        thread: Which evolution.
    """
    recording = open_recording(run)
    summaries = {s.thread: s for s in summarize(recording)}
    if thread not in summaries:
        raise RecordingError(f"{run}: no thread {thread!r}; it has {sorted(summaries)}.")
    summary = summaries[thread]
    figure = Figure(figsize=(11.5, 6.4), dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06))
    parts = figure.add_gridspec(2, 2, height_ratios=[0.085, 1], width_ratios=[2.35, 1])
    heading, left, right = (figure.add_subfigure(p) for p in (parts[0, :], parts[1, 0], parts[1, 1]))
    _draw_heading(heading, recording, summary)
    strip, axes = left.subplots(2, 1, height_ratios=[1, 3.2])
    plot_trajectory(recording, axes, thread)
    _draw_estimates(axes, summary)
    axes.set_ylabel("response" if excites_one(summary.objective) else f"score:  {summary.objective}")
    axes.legend(loc="lower right", frameon=False, fontsize=8.5)
    _draw_strip(strip, Path(run), generation_scores(recording, thread))
    _draw_exemplars(right, Path(run), recording, summary)
    return figure


def _draw_heading(figure: SubFigure, recording: xr.Dataset, summary: ThreadSummary) -> None:
    """What was asked, and how."""
    single = excites_one(summary.objective)
    question = f"What does {summary.target} want to see?" if single else f"What drives {summary.target}?"
    place = str(recording["threads"].item()).split("; ").index(summary.thread)
    generator, optimizer = (str(recording[k].item()).split("; ")[place] for k in ("generator", "optimizer"))
    setting = f"{generator} images, {optimizer}, {summary.images} of them shown, seed {recording['seed'].item()}"
    figure.text(0.012, 0.62, question, fontsize=14, weight="bold", color=INK, va="center")
    figure.text(0.012, 0.08, setting, fontsize=9.5, color=INK, va="center")


def _draw_estimates(ax: Axes, summary: ThreadSummary) -> None:
    """The re-tested numbers: a line for the best natural image, a diamond with its error for the evolved one."""
    end = ax.get_xlim()[1]
    if summary.natural.n:
        sem = np.nan_to_num(summary.natural.sem)
        ax.axhspan(summary.natural.mean - sem, summary.natural.mean + sem, color=NATURAL, alpha=0.18, lw=0)
        ax.axhline(summary.natural.mean, color=NATURAL, lw=1.6, ls=(0, (5, 2)), label="best natural image, re-tested")
    if summary.evolved.n:
        error = np.nan_to_num(summary.evolved.sem) or None
        ax.errorbar(
            end * 0.965, summary.evolved.mean, error, fmt="D", ms=8, color=EVOLVED, mec="white", mew=1, capsize=4,
            label="evolved image, re-tested", zorder=5, ls="none",
        )  # fmt: skip


def _draw_strip(ax: Axes, run: Path, scores: xr.Dataset) -> None:
    """The best image of some generations, with the images shown until then and its score."""
    ax.axis("off")
    numbers = np.unique(np.linspace(0, scores.sizes["generation"] - 1, STRIP).round().astype(int))
    for column, number in enumerate(numbers):
        cell = ax.inset_axes((column / STRIP, 0.2, 0.94 / STRIP, 0.8))
        _show(cell, _stored(run, str(scores["best_id"].values[number])))
        shown, best = int(scores["images"][number]), float(scores["best"][number])
        cell.text(
            0.5, -0.07, f"{best:.3g}\nafter {shown}", transform=cell.transAxes, ha="center", va="top", fontsize=8,
            color=INK, linespacing=1.3,
        )  # fmt: skip


def _draw_exemplars(figure: SubFigure, run: Path, recording: xr.Dataset, summary: ThreadSummary) -> None:
    """The evolved image above the best natural ones, each with its number."""
    grid = figure.add_gridspec(3, 3, height_ratios=[3, 1.05, 0.3])
    top = figure.add_subplot(grid[0, :])
    _show(top, _stored(run, summary.evolved.stimulus_id))
    top.set_title(f"evolved  {_number(summary.evolved)}", color=EVOLVED, fontsize=12, weight="bold")
    for column, estimate in enumerate(best_references(recording, summary, 3)):
        ax = figure.add_subplot(grid[1, column])
        _show(ax, _reference(run, estimate.stimulus_id))
        ax.set_title(f"{estimate.mean:.3g}", color=NATURAL, fontsize=10, weight="bold")
    text = figure.add_subplot(grid[2, :])
    text.axis("off")
    text.text(0.5, 1.0, _verdict(recording, summary), ha="center", va="top", fontsize=9, color=INK, linespacing=1.5)


def _number(estimate: Estimate) -> str:
    """The mean, with its standard error where repeats differ."""
    if estimate.n == 0:
        return "not re-tested"
    return f"{estimate.mean:.4g} ± {estimate.sem:.2g}" if estimate.sem > 0 else f"{estimate.mean:.4g}"


def _verdict(recording: xr.Dataset, summary: ThreadSummary) -> str:
    if not summary.natural.n:
        return "no natural image was re-tested"
    rows = recording["thread"].values == REFERENCE
    count = len(np.unique(recording["stimulus_id"].values[rows]))
    lines = [f"the best of {count} natural images"]
    if np.isfinite(summary.ratio):
        error = f" ± {summary.ratio_sem:.2g}" if summary.ratio_sem > 0 else ""
        lines.append(f"evolved ÷ best natural = {summary.ratio:.2f}{error}")
    return "\n".join(lines)


def best_references(recording: xr.Dataset, summary: ThreadSummary, count: int) -> list[Estimate]:
    """The references with the highest mean score over all their presentations; the confirmed one comes first."""
    rows = np.flatnonzero(recording["thread"].values == REFERENCE)
    if len(rows) == 0:
        return []
    responses = recording["responses"].isel(presentation=rows).values
    scores = parse_objective(summary.objective)(responses)
    ids = recording["stimulus_id"].values[rows]
    estimates = [Estimate.of(str(name), scores[ids == name]) for name in np.unique(ids)]
    ranked = sorted((e for e in estimates if e.n), key=lambda e: -e.mean)
    confirmed = [summary.natural] if summary.natural.n else []
    others = [e for e in ranked if e.stimulus_id != summary.natural.stimulus_id]
    return [*confirmed, *others][:count]


def _show(ax: Axes, image: NDArray[np.uint8] | None) -> None:
    ax.axis("off")
    if image is None:
        ax.text(0.5, 0.5, "image not kept", ha="center", va="center", transform=ax.transAxes, color=INK)
    else:
        ax.imshow(image, interpolation="lanczos")


def _stored(run: Path, stimulus_id: str) -> NDArray[np.uint8] | None:
    path = run / IMAGES / f"{stimulus_id}.png"
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _reference(run: Path, stimulus_id: str) -> NDArray[np.uint8] | None:
    references = read_references(run)
    if references is None or stimulus_id not in references.ids:
        return None
    return to_bytes(references.images[references.ids.index(stimulus_id)]).transpose(1, 2, 0)
