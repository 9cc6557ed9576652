"""Draws a search among natural images: scores in the order in which images were shown, and the images re-tested."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.analysis.searches import CONFIRM, PHASE, PREDICTED, SEARCH, SELECT, natural_search
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, dress
from closedloop.figures.tiles import draw_picture
from closedloop.interfaces import FloatArray
from closedloop.recording.pictures import Pictures
from closedloop.signatures import at_door

#: Images that are drawn, the best re-tested ones.
MOST = 6


@at_door
def plot_natural_search(recording: xr.Dataset) -> Figure:
    """Draws the scores in the order of presentation, and below them the images that were re-tested, the best first.

    Args:
        recording: What `closedloop.protocols.search_natural` returned.
    """
    found = natural_search(recording)
    phase = recording[PHASE].values.astype(str)
    figure = Figure(figsize=(8.4, 5.0 if (phase == SELECT).any() else 3.4), dpi=150, layout="constrained")
    if not (phase == SELECT).any():
        _draw_course(figure.add_subplot(), recording, found)
        return figure
    ids, means = _retested(recording, phase)
    grid = figure.add_gridspec(2, MOST, height_ratios=[1.9, 1])
    _draw_course(figure.add_subplot(grid[0, :]), recording, found)
    pictures = Pictures(recording).several(ids[:MOST], reference=True)
    for place, (name, mean, picture) in enumerate(zip(ids, means, pictures, strict=False)):
        ax = figure.add_subplot(grid[1, place])
        draw_picture(ax, picture)
        won = name == str(found["winner"].item())
        text = f"{float(found['confirmed']):.3g}" if won else f"{mean:.3g}"
        ax.set_title(text, fontsize=9, color=EVOLVED if won else INK, weight="bold" if won else "normal")
        if won:
            ax.text(0.5, -0.04, "confirmed", ha="center", va="top", fontsize=8, color=EVOLVED, transform=ax.transAxes)
    return figure


def _retested(recording: xr.Dataset, phase: NDArray[np.str_]) -> tuple[list[str], FloatArray]:
    """Returns the names of the images that were re-tested, and the means of these presentations, the best first."""
    rows = np.flatnonzero(phase == SELECT)
    names, index = np.unique(recording["stimulus_id"].values[rows].astype(str), return_inverse=True)
    scores = np.nan_to_num(recording["score"].values[rows].astype(float))
    mean = np.bincount(index, scores) / np.bincount(index)
    order = np.argsort(-mean, kind="stable")
    return names[order].tolist(), mean[order]


def _draw_course(ax: Axes, recording: xr.Dataset, found: xr.Dataset) -> None:
    """Draws the score of each presentation of the search, the highest so far, and the confirmed mean."""
    rows = np.flatnonzero(recording[PHASE].values.astype(str) == SEARCH)
    score, number = recording["score"].values[rows].astype(float), np.arange(1, len(rows) + 1)
    drawn = np.isnan(recording[PREDICTED].values[rows])
    ax.plot(number[drawn], score[drawn], "o", ms=3, color="#9A9A9A", label="drawn at random")
    ax.plot(number[~drawn], score[~drawn], "o", ms=3, color=NATURAL, label="chosen by the readout")
    best = np.maximum.accumulate(np.nan_to_num(score, nan=-np.inf))
    ax.step(number, np.where(np.isfinite(best), best, np.nan), where="post", color=INK, lw=1, label="highest so far")
    if (confirmed := float(found["confirmed"])) == confirmed:
        n = int((recording[PHASE].values.astype(str) == CONFIRM).sum())
        low, high = float(found["confirmed_low"]), float(found["confirmed_high"])
        if np.isfinite(low):
            ax.axhspan(low, high, color=EVOLVED, alpha=0.15, lw=0)
        ax.axhline(confirmed, color=EVOLVED, lw=1.4, label=f"confirmed, {n} fresh presentations (95 %)")
    ax.set_xlabel("presentation", fontsize=9)
    ax.set_ylabel("score", fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    pool = int(found["pool"])
    caption(
        ax,
        f"{recording['subject'].item()}: {len(rows)} presentations of {pool:,} images; seed {recording['seed'].item()}",
    )
    dress(ax)
