"""Draws a search along fronts: what was shown, the images of a front in fresh presentations, and these images."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from closedloop.analysis.fronts import (
    FIRST,
    FIRST_NAME,
    RETEST,
    SEARCHED,
    SECOND,
    SECOND_NAME,
    SQUEEZE,
    STRETCH,
    pareto_front,
)
from closedloop.errors import RecordingError
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, dress, off_by
from closedloop.figures.tiles import draw_picture
from closedloop.interfaces import FloatArray
from closedloop.recording.layout import REFERENCE
from closedloop.recording.pictures import Pictures
from closedloop.signatures import at_door

#: Images that are drawn of each front.
MOST = 6
#: Colours of the two searches around an image.
_COLOURS = {STRETCH: EVOLVED, SQUEEZE: "#009E73"}


@at_door
def plot_front(recording: xr.Dataset) -> Figure:
    """Draws both values of what was shown, the images shown again with their intervals, and these images.

    Of a run of `closedloop.protocols.stretch_and_squeeze` the axes are distance and response, for both searches.

    Args:
        recording: What `closedloop.protocols.pareto` or `stretch_and_squeeze` returned.
    """
    if not isinstance(recording, xr.Dataset) or not {FIRST, SECOND, FIRST_NAME} <= set(recording.variables):
        raise RecordingError("recording: expected what closedloop.protocols.pareto or stretch_and_squeeze returned.")
    kind = recording["kind"].values.astype(str)
    found = pareto_front(recording) if (kind == RETEST).any() else None
    threads = [] if found is None else [t for t in dict.fromkeys(found["thread"].values.tolist()) if t != REFERENCE]
    rows = len(threads) + (1 if found is not None and _naturals(found, threads) else 0)
    figure = Figure(figsize=(8.4, 3.6 + 1.35 * rows), dpi=150, layout="constrained")
    grid = figure.add_gridspec(1 + rows, MOST, height_ratios=[2.6] + [1] * rows)
    ax = figure.add_subplot(grid[0, :])
    _draw_values(ax, recording, found)
    if found is None:
        return figure
    pictures = Pictures(recording)
    for row, thread in enumerate([*threads, *([REFERENCE] if rows > len(threads) else [])], 1):
        own = found.isel(image=np.flatnonzero(found["thread"].values == thread))
        names = own["stimulus_id"].values.tolist()
        even = np.linspace(0, len(names) - 1, min(MOST, len(names))).round().astype(int)
        shown = pictures.several([names[i] for i in even], reference=thread == REFERENCE)
        for column, (i, picture) in enumerate(zip(even.tolist(), shown, strict=True)):
            tile = figure.add_subplot(grid[row, column])
            draw_picture(tile, picture)
            x, y = (float(v[i]) for v in _axes(own, thread in _COLOURS))
            tile.set_title(f"{x:.3g}, {y:.3g}", fontsize=8, color=_colour(thread))
            if column == 0:
                tile.text(
                    -0.08,
                    0.5,
                    thread,
                    rotation=90,
                    va="center",
                    ha="right",
                    transform=tile.transAxes,
                    fontsize=8.5,
                    color=_colour(thread),
                    parse_math=False,
                )
    return figure


def _naturals(found: xr.Dataset, threads: list[str]) -> bool:
    """Tells whether natural images stand beside the front."""
    return not set(threads) & set(_COLOURS) and bool((found["thread"].values == REFERENCE).any())


def _colour(thread: str) -> str:
    return NATURAL if thread == REFERENCE else _COLOURS.get(thread, EVOLVED)


def _axes(values: xr.Dataset, around: bool) -> tuple[FloatArray, FloatArray]:
    """Returns what stands along both axes: the two values, or distance and response."""
    first = values[FIRST].values.astype(float)
    return (np.abs(first), values["score"].values.astype(float)) if around else (first, values[SECOND].values)


def _draw_values(ax: Axes, recording: xr.Dataset, found: xr.Dataset | None) -> None:
    """Draws all presentations of the search, and the images that were shown again."""
    thread, kind = recording["thread"].values.astype(str), recording["kind"].values.astype(str)
    around = bool(set(thread) & set(_COLOURS))
    searched = recording.isel(presentation=np.flatnonzero(kind == SEARCHED))
    ax.plot(*_axes(searched, around), ".", ms=2, color="#BBBBBB", label="while searching", zorder=1)
    if not around:
        natural = recording.isel(presentation=np.flatnonzero((thread == REFERENCE) & (kind != RETEST)))
        ax.plot(*_axes(natural, False), ".", ms=4, color=NATURAL, alpha=0.6, label="natural images", zorder=2)
    shown = recording.isel(presentation=[]) if found is None else found
    for name in dict.fromkeys([] if found is None else shown["thread"].values.tolist()):
        own = shown.isel(image=np.flatnonzero(shown["thread"].values == name))
        if around and name == REFERENCE:
            for one in (own.isel(image=i) for i in range(own.sizes["image"])):
                ax.axhline(float(one["score"]), color=INK, lw=0.8, ls=(0, (4, 3)))
                ax.annotate(
                    str(one["stimulus_id"].item()),
                    (0.995, float(one["score"])),
                    (0, 2),
                    va="bottom",
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    ha="right",
                    fontsize=7.5,
                    color=INK,
                )
            continue
        x, y = _axes(own, around)
        second = "score" if around else SECOND
        spread = off_by(y, own, second)
        across = None if around else off_by(x, own, FIRST)
        label = "natural images, again" if name == REFERENCE else f"{name}, again (95 %)"
        ax.errorbar(x, y, spread, across, fmt="o", ms=4.5, lw=1.2, color=_colour(name), label=label, zorder=3)
    first, second = (str(recording[n].item()) for n in (FIRST_NAME, SECOND_NAME))
    ax.set_xlabel("distance from the reference" if around else first, fontsize=9)
    ax.set_ylabel("response" if around else second, fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    count, seed = int((kind == SEARCHED).sum()), recording["seed"].item()
    caption(ax, f"{recording['subject'].item()}, {count:,} presentations; seed {seed}")
    dress(ax)
