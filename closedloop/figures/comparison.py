"""Draws what was found against what nature offers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from closedloop.analysis.summary import Estimate, reference_estimates, summarize
from closedloop.errors import RecordingError
from closedloop.figures.style import (
    EVOLVED,
    INK,
    NATURAL,
    caption,
    draw_diamond,
    dress,
    new_axes,
    one_thread,
    score_name,
)
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door


@at_door
def plot_evolved_vs_reference(recording: xr.Dataset, ax: Axes | None = None, thread: str | None = None) -> Axes:
    """Draws the evolved image against the references: each one's mean, the best of them and the evolved one re-tested.

    Args:
        recording: See `closedloop.open_recording`.
        ax: Where to draw; None for a new figure.
        thread: Which evolution; None where there is only one.

    Returns:
        The axes: the score (x) by kind (y). The two re-tested means come from fresh presentations that chose neither
        image; a reference's dot is the mean of all its presentations.

    Raises:
        RecordingError: No such thread, or there is neither a reference nor a re-test.
    """
    thread = one_thread(recording, thread)
    summary = next(s for s in summarize(recording) if s.thread == thread)
    references = [e for e in reference_estimates(recording, summary.objective) if e.n]
    if not references and not summary.evolved.n:
        raise RecordingError(f"recording: thread {thread!r} has no re-tested image and no reference yet.")
    ax = new_axes(ax, (4.5, 2.7))
    values = np.array([e.mean for e in references])
    # Three rows from the bottom, at the heights 0, 1 and 1.7: the swarm needs more room than a single mean.
    ax.plot(values, swarm(values), "o", ms=4, alpha=0.55, color=NATURAL, mec="none", label="each reference")
    _draw_estimate(ax, summary.natural, 1.0, NATURAL)
    _draw_estimate(ax, summary.evolved, 1.7, EVOLVED)
    rows = [f"references\n(n = {len(references)})", "best reference\nre-tested", "evolved\nre-tested"]
    ax.set_yticks([0.0, 1.0, 1.7], labels=rows)
    ax.set_ylim(-0.6, 2.2)
    ax.set_xlabel(score_name(recording, summary.objective))
    ax.margins(x=0.12)
    repeats = max(summary.evolved.n, summary.natural.n)
    caption(ax, f"re-tested: mean ± s.e.m. of {repeats} fresh presentations" if repeats else "nothing was re-tested")
    dress(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(left=False)
    return ax


def _draw_estimate(ax: Axes, estimate: Estimate, y: float, colour: str) -> None:
    """Draws a re-tested mean with its standard error and its number; nothing where none was re-tested."""
    if estimate.n == 0:
        return
    draw_diamond(ax, estimate, y, colour, across=True)
    ax.annotate(
        estimate.short,
        (estimate.mean, y),
        (0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=9.5,
        weight="bold",
        color=INK,
        parse_math=False,
    )


def swarm(values: FloatArray, height: float = 0.42, bins: int = 40) -> NDArray[np.float64]:
    """Returns heights ``(n,)`` that spread equal values apart, as in a beeswarm: the widest where there are most.

    Args:
        values: ``(n,)``.
        height: No height is further than this from 0.
        bins: Values in one of so many bins of equal width are set apart from each other.
    """
    spread = np.zeros(len(values))
    if len(values) == 0:
        return spread
    edges = np.linspace(values.min(), values.max(), bins + 1)[1:-1]
    place = np.searchsorted(edges, values)
    most = np.bincount(place).max()
    for b in np.unique(place):
        own = np.flatnonzero(place == b)
        rank = np.arange(len(own)) - (len(own) - 1) / 2  # symmetrical about 0
        spread[own] = rank * 2 * height / max(most, 8)  # few values stay close to the middle
    return spread
