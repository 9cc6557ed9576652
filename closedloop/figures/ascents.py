"""Draws what gradient ascents found: the images with their numbers below, the way up, and what went wrong."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from closedloop.figures.style import EVOLVED, INK, NATURAL, THREAD_COLOURS, dress
from closedloop.figures.tiles import contrast_words, draw_picture, stretched
from closedloop.images.eight_bit import to_bytes
from closedloop.recording.titles import result_title
from closedloop.signatures import at_door

#: Colour of words that say what went wrong.
FAILURE_COLOUR = "#B00020"
#: Colour of the length of the gradient.
GRADIENT_COLOUR = THREAD_COLOURS[2]


@at_door
def plot_ascents(result: xr.Dataset, most: int = 24, columns: int = 6) -> Figure:
    """Draws ascents on a page: last image, its numbers, what went wrong, and score and gradient on the way.

    Args:
        result: What `closedloop.protocols.ascend` or `read_ascent` returned, with or without the dimension ``unit``.
        most: At most so many units are drawn, the first ones; the heading says so where there are more.
        columns: Ascents side by side.
    """
    every = result if "unit" in result.dims else result.expand_dims("unit")
    drawn = every.isel(unit=slice(0, most))
    count = drawn.sizes["unit"]
    columns = min(count, columns)
    rows = -(-count // columns)
    size_in = (max(2.1 * columns, 4.6), 4.3 * rows + 0.5)
    figure = Figure(figsize=size_in, dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.05, w_pad=0.05))
    left = "" if every.sizes["unit"] == count else f", the first {count} of {every.sizes['unit']}"
    heading = f"{_text(every, 'method')} on {_text(every, 'subject')}, seed {_text(every, 'seed')}{left}"
    figure.suptitle(heading, fontsize=11, weight="bold", color=INK, x=0.02, ha="left", parse_math=False)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[2.6, 1] * rows)
    for i in range(count):
        one, row, column = drawn.isel(unit=i), 2 * (i // columns), i % columns
        _draw_image(figure.add_subplot(grid[row, column]), one)
        _draw_way(figure.add_subplot(grid[row + 1, column]), one, column == 0, column == columns - 1 or i == count - 1)
    _draw_legend(figure)
    return figure


def _draw_legend(figure: Figure) -> None:
    """Names, below all ascents, what is drawn along their steps."""
    looks: dict[str, dict[str, Any]] = {
        "score climbed": {"color": EVOLVED, "ls": "-"},
        "response shown": {"color": NATURAL, "ls": "", "marker": ".", "ms": 4},
        "gradient norm": {"color": GRADIENT_COLOUR, "ls": "-"},
    }
    lines = [Line2D([], [], lw=1.5, **look) for look in looks.values()]
    figure.legend(lines, list(looks), loc="outside lower left", ncols=3, frameon=False, fontsize=7.5, labelcolor=INK)


def _text(result: xr.Dataset, name: str) -> str:
    """Returns a coordinate that all units share."""
    return str(np.atleast_1d(result[name].values)[0])


def _draw_image(ax: Axes, one: xr.Dataset) -> None:
    """Draws the last image between the unit's name and its numbers."""
    image, factor = stretched(to_bytes(one["image"].values.transpose(1, 2, 0)))
    draw_picture(ax, image)
    title = textwrap.fill(result_title(one), 26)
    ax.set_title(title, fontsize=8.5, color=INK, parse_math=False)
    words = [f"response {one['response'].item():.4g}"]
    if np.isfinite(one["confidence"].item()):
        words.append(f"confidence {one['confidence'].item():.4f}")
    if np.isfinite(one["natural"].item()):
        words.append(f"best natural {one['natural'].item():.4g}")
    words += [f"shown with {contrast_words(factor)}"] if factor != 1 else []
    failure = textwrap.fill(str(one["failure"].item()), 30)
    style: dict[str, Any] = {"transform": ax.transAxes, "ha": "center", "va": "top", "fontsize": 8, "parse_math": False}
    ax.text(0.5, -0.03, "\n".join(words), color=INK, **style)
    if failure:
        ax.text(0.5, -0.05 - 0.085 * len(words), failure, color=FAILURE_COLOUR, **{**style, "fontsize": 6.5})


def _draw_way(ax: Axes, one: xr.Dataset, first: bool, last: bool) -> None:
    """Draws the score of each step, responses at presentations, and the length of the gradient.

    The gradient's axis is logarithmic where its longest is more than 20 times its shortest.
    """
    step = one["step"].values
    ax.plot(step, one["score"].values, color=EVOLVED, lw=1.2)
    ax.plot(one["shown"].values, one["shown_response"].values, ".", ms=3, color=NATURAL)
    ax.set_xlabel("step", fontsize=8)
    norm = one["gradient_norm"].values
    side = ax.twinx()
    if (norm > 0).any():
        side.plot(step, np.where(norm > 0, norm, np.nan), color=GRADIENT_COLOUR, lw=0.9, alpha=0.8)
        low, high = norm[norm > 0].min(), norm[norm > 0].max()
        if high > 20 * low:
            side.set_yscale("log")
        elif high < 1.001 * low:  # constant but for rounding, which is not worth an axis
            side.set_ylim(0.9 * low, 1.1 * high)
    else:
        side.set_yticks([])
        ax.text(0.5, 0.7, "no gradient", transform=ax.transAxes, ha="center", color=FAILURE_COLOUR, fontsize=8)
    if first:
        ax.set_ylabel("score, response", fontsize=8)
    if last:
        side.set_ylabel("gradient norm", fontsize=8, color=GRADIENT_COLOUR)
    dress(ax)
    side.spines[["top", "left", "bottom"]].set_visible(False)
    side.tick_params(colors=GRADIENT_COLOUR, labelsize=6.5, which="both")
    ax.tick_params(labelsize=7)
