"""Draws what is observed over several trainings: what layers came to, and what changes of training do to its end."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from closedloop.analysis.observations import changes_of, seeds_of, trained_change, trained_layers
from closedloop.figures.allocation import HELPS, HURTS
from closedloop.figures.style import INK, UNSURE, caption, dress
from closedloop.interfaces import FloatArray
from closedloop.readable import percent
from closedloop.signatures import at_door

#: Inches of a row, of what stands above and below rows, and of the whole width.
_ROW, _FRAME, _WIDTH = 0.26, 1.0, 10.0


@at_door
def plot_trainings(recording: xr.Dataset, level: float = 0.95) -> Figure:
    """Draws a dot for each seed, means, and Student's intervals over seeds.

    Above stands what each layer came to without a change, blue where the interval lies below 0, for it helps, orange
    where it lies above. Below stand the differences that changes make to each loss and accuracy at the end of
    training, blue where they are for the better.

    Args:
        recording: A run of `closedloop.protocols.train_seeds`.
        level: Of the intervals.
    """
    layers, changes = trained_layers(recording, level), changes_of(recording)
    heights = [_FRAME + _ROW * layers.sizes["layer"], *([_FRAME + _ROW * len(changes)] if changes else [])]
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=130, layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    ax = figure.add_subplot(grid[0])
    for i in range(layers.sizes["layer"]):
        _draw_row(ax, i, layers.isel(layer=i), "mean", 1)
    _finish(ax, [str(name) for name in layers["layer"].values], "change of the loss, in all (below 0 helps)")
    n, subject = len(seeds_of(recording)), recording["subject"].item()
    caption(ax, f"{subject}: what each layer came to; {n} seeds, mean and {percent(level)} t-interval over seeds")
    if changes:
        _draw_changes(figure, grid[1], {words: trained_change(recording, words, level) for words in changes})
    return figure


def _draw_changes(figure: Figure, place: object, found: dict[str, xr.Dataset]) -> None:
    """Draws a panel for each measure, in which each change is a row."""
    measures = [str(name) for name in next(iter(found.values()))["measure"].values]
    inner = place.subgridspec(1, len(measures))  # type: ignore[attr-defined]
    for i, measure in enumerate(measures):
        ax = figure.add_subplot(inner[i])
        for row, one in enumerate(found.values()):
            _draw_row(ax, row, one.isel(measure=i), "difference", 1 if measure.startswith("loss") else -1)
        _finish(ax, list(found) if i == 0 else [""] * len(found), measure.replace("_", ", ") + ": difference")
        pairs = min(int(one["pairs"]) for one in found.values())
        caption(ax, f"what a change does; {pairs} pairs of seeds" if i == 0 else "")


def _draw_row(ax: Axes, row: int, one: xr.Dataset, middle: str, worse: int) -> None:
    """Draws dots, mean and interval of one row.

    Args:
        ax: Where.
        row: Which.
        one: Its `low`, `high`, and values `by_seed`.
        middle: Name of its mean.
        worse: 1 where values above 0 are for the worse, -1 where those below are.
    """
    low, high = float(one["low"]), float(one["high"])
    colour = UNSURE
    if low > 0 or high < 0:
        colour = HURTS if (low > 0) == (worse > 0) else HELPS
    seeds: FloatArray = one["by_seed"].values
    ax.plot(seeds, [row + 0.2] * len(seeds), "o", ms=3, color=colour, alpha=0.45, mew=0)
    if low == low:
        ax.plot([low, high], [row, row], color=colour, lw=2, solid_capstyle="butt")
    ax.plot(float(one[middle]), row, "D", ms=4.5, color=colour)


def _finish(ax: Axes, names: list[str], label: str) -> None:
    """Names rows and axis, and marks 0."""
    ax.axvline(0, color=INK, lw=0.6)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(label, fontsize=9)
    dress(ax)
