"""Draws a network while it learns as a movie: its neurons coloured by help and harm, above the course of its loss.

Colours are those of `closedloop.figures.allocation`: what helps, a share below 0, is blue; what hurts is orange.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from closedloop.analysis.allocation import of_allocation
from closedloop.checks import check_whole
from closedloop.figures.allocation import BRIGHTEST, HELP_TO_HURT, HELPS, HURTS
from closedloop.figures.style import INK, as_pixels, dress
from closedloop.interfaces import FloatArray

#: Dots per inch, so that figures can be measured in pixels.
_DPI = 100
#: Pixels of white around, of the line of words above, of the course of the loss, and of its numbers.
_MARGIN, _WORDS, _LOSS, _NUMBERS = 14, 30, 80, 46
#: Pixels that a letter of a layer's name takes; the least width of a page, and of all neurons where they fit.
_LETTER, _NARROWEST, _WIDEST = 6, 460, 640


class _Column(NamedTuple):
    """A layer on the page.

    Attributes:
        name: Its name.
        first: Its first column of neurons, counted in neurons.
        width: Its columns.
        neurons: Numbers of its neurons, from above to below, column by column.
    """

    name: str
    first: int
    width: int
    neurons: NDArray[np.intp]


@of_allocation
def allocation_movie(
    allocation: xr.Dataset, frames: int = 60, cell: int | None = None, rows: int = 16
) -> NDArray[np.uint8]:
    """Draws the network while it learns: each neuron a square, each layer a column, blue where it helps.

    Above stand the steps whose shares are summed, and the loss after them; below the course of the loss with a mark at
    these steps. Colours end at the 99th percentile of what is shown. `closedloop.images.movies.encode_webp` makes a
    file of it.

    Args:
        allocation: See `closedloop.analysis.allocation_dataset`.
        frames: Of the movie, at most; each shows the sum of some steps.
        cell: Height and width of a neuron, in pixels; None for what fits onto the page.
        rows: Neurons below each other, at most; of more a layer is wider.

    Returns:
        ``(frames, 3, h, w)``, RGB.
    """
    rows, frames = check_whole("rows", rows, 1), check_whole("frames", frames, 1)
    parts = np.array_split(np.arange(allocation.sizes["step"]), min(frames, allocation.sizes["step"]))
    shown = np.stack([allocation["by_neuron"].values[part].sum(0) for part in parts])
    limit = float(np.percentile(np.abs(shown), BRIGHTEST)) or float(np.abs(shown).max()) or 1.0
    columns, high = _columns(allocation, rows)
    across = columns[-1].first + columns[-1].width
    cell = int(np.clip(_WIDEST // across, 5, 18)) if cell is None else check_whole("cell", cell, 2)
    page, top, mark = _page(allocation, columns, high, cell, limit)
    step, loss = allocation["step"].values + 1, allocation["loss"].values
    made = []
    for values, part in zip(shown, parts, strict=True):
        drawn = page.copy()
        _draw_neurons(drawn, columns, high, cell, top, values / limit)
        span = f"step {step[part[0]]}" if len(part) == 1 else f"steps {step[part[0]]} to {step[part[-1]]}"
        made.append(_marked(drawn, f"{span}: loss {loss[part[-1]]:.3g}", mark[part[0]], mark[part[-1]]))
    return np.stack(made).transpose(0, 3, 1, 2)


def _columns(allocation: xr.Dataset, rows: int) -> tuple[list[_Column], int]:
    """Returns the layers from left to right, and how many neurons stand below each other at most."""
    owner = allocation["neuron_layer"].values
    groups = {str(name): np.flatnonzero(owner == name) for name in allocation["layer"].values}
    high, first, found = min(rows, max(map(len, groups.values()))), 0, []
    for name, neurons in groups.items():
        width = -(-len(neurons) // high)
        found.append(_Column(name, first, width, neurons))
        first += width + 1  # a column stays free
    return found, high


def _page(
    allocation: xr.Dataset, columns: list[_Column], high: int, cell: int, limit: float
) -> tuple[NDArray[np.uint8], int, NDArray[np.intp]]:
    """Draws what is the same on each picture.

    Returns:
        The page ``(h, w, 3)``, the row of pixels at which neurons begin, and the column of pixels of each step on the
        axis of the loss.
    """
    longest = max(len(column.name) for column in columns) * _LETTER + 8
    upright = any(len(c.name) * _LETTER > (c.width + 1) * cell for c in columns)
    top = _MARGIN + _WORDS + (longest if upright else 20)
    width = max((columns[-1].first + columns[-1].width) * cell + 2 * _MARGIN, _NARROWEST)
    height = top + high * cell + 2 * _MARGIN + _LOSS + _NUMBERS
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    for column in columns:
        middle = _MARGIN + (column.first + column.width / 2) * cell if upright else _MARGIN + column.first * cell
        figure.text(
            middle / width,
            1 - (top - 5) / height,
            column.name,
            rotation=90 if upright else 0,
            fontsize=7,
            color=INK,
            ha="center" if upright else "left",
            va="bottom",
            parse_math=False,
        )
    for right, colour, words in ((_MARGIN + 118, HELPS, "■ helps"), (_MARGIN, HURTS, f"■ hurts (to {limit:.2g})")):
        figure.text(
            1 - right / width, 1 - (_MARGIN + 8) / height, words, fontsize=8, color=colour, va="center", ha="right"
        )
    ax = figure.add_axes((58 / width, _NUMBERS / height, 1 - (58 + _MARGIN) / width, _LOSS / height))
    step = allocation["step"].values + 1
    ax.plot(step, allocation["loss"].values, color=INK, lw=1)
    ax.set_xlabel("step", fontsize=8)
    ax.set_ylabel("loss", fontsize=8)
    dress(ax)
    ax.tick_params(labelsize=7)
    page = as_pixels(figure)
    places = ax.transData.transform(np.stack([step, np.zeros(len(step))], 1))[:, 0]
    return page, top, np.clip(np.rint(places), 0, page.shape[1] - 1).astype(np.intp)


def _draw_neurons(
    page: NDArray[np.uint8], columns: list[_Column], high: int, cell: int, top: int, values: FloatArray
) -> None:
    """Draws a square for each neuron; values are from -1 (helps most) to 1."""
    colours = HELP_TO_HURT(np.clip((values + 1) / 2, 0, 1), bytes=True)[:, :3]
    for column in columns:
        for place, neuron in enumerate(column.neurons):
            left, down = _MARGIN + (column.first + place // high) * cell, top + place % high * cell
            page[down : down + cell, left : left + cell] = 225  # a light grey, for a neuron that does nothing is white
            page[down : down + cell - 1, left : left + cell - 1] = colours[neuron]


def _marked(page: NDArray[np.uint8], words: str, first: int, last: int) -> NDArray[np.uint8]:
    """Writes the words above, and marks columns of pixels on the axis of the loss."""
    picture = Image.fromarray(page)
    pen = ImageDraw.Draw(picture)
    pen.text((_MARGIN, _MARGIN), words, fill=INK, font=ImageFont.load_default(14))
    bottom = page.shape[0] - _NUMBERS
    pen.rectangle((first, bottom - _LOSS, max(last, first + 1), bottom - 1), fill="#F3C9A9")
    marked = np.asarray(picture).copy()
    own = (slice(bottom - _LOSS, bottom), slice(first, max(last, first + 1) + 1))
    marked[own] = np.minimum(marked[own], page[own])  # the curve stays above the mark
    return marked
