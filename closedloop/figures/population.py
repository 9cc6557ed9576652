"""Draws a population of images, and the plane in which its codes moved."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis import code_geometry, generation_scores
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures.style import COLOUR_MAP, INK, caption, colour_bar, dress, new_axes, one_thread
from closedloop.figures.tiles import draw_picture
from closedloop.readable import percent
from closedloop.recording.pictures import Pictures
from closedloop.signatures import at_door


@at_door
def plot_population(
    recording: xr.Dataset,
    ax: Axes | None = None,
    thread: str | None = None,
    generation: int | None = None,
    pictures: Pictures | None = None,
) -> Axes:
    """Draws the images of one generation as a sheet, the best-scored first, each with its score.

    Args:
        recording: See `closedloop.open_recording`.
        ax: Where to draw; None for a new figure.
        thread: Which evolution; None where there is only one.
        generation: Which generation; None for the last one.
        pictures: Where the images come from; None for the run's folder, or made again from their codes.

    Returns:
        The axes; each image has axes of its own inside.

    Raises:
        RecordingError: No such thread, or it has no evolved image yet.
        InvalidArgumentError: No such generation.
    """
    thread = one_thread(recording, thread)
    table = population(recording, thread, generation)
    names = [str(name) for name in table["stimulus_id"].values]
    columns = int(np.ceil(np.sqrt(len(names) * 1.6)))  # a sheet some 1.6 times as wide as high
    rows = -(-len(names) // columns)
    ax = new_axes(ax, (0.85 * columns, 1.05 * rows + 0.3))
    ax.set_axis_off()
    found = (Pictures(recording) if pictures is None else pictures).several(names)
    for place, (image, score) in enumerate(zip(found, table["score"].values, strict=True)):
        row, column = divmod(place, columns)
        cell = ax.inset_axes(
            (column / columns, 1 - (row + 0.82) / rows, 0.94 / columns, 0.8 / rows), label=names[place]
        )
        draw_picture(cell, image)
        cell.set_title("lost" if np.isnan(score) else f"{score:.3g}", y=-0.24, fontsize=7.5, color=INK, pad=0)
    number = int(table["generation"])
    caption(ax, f"generation {number}: {len(names)} images, best first; seed {recording['seed'].item()}")
    return ax


def population(recording: xr.Dataset, thread: str, generation: int | None = None) -> xr.Dataset:
    """Returns the images of one generation: `stimulus_id` and `score` over ``image``, best first; lost ones last.

    Raises:
        RecordingError: The thread has no evolved image.
        InvalidArgumentError: No such generation.
    """
    numbers = generation_scores(recording, thread)["generation"].values
    number = int(numbers[-1]) if generation is None else generation
    if number not in numbers:
        raise InvalidArgumentError(
            f"generation: expected one of {numbers[0]} to {numbers[-1]} of thread {thread!r}, got {generation!r}."
        )
    own = (recording["thread"].values == thread) & (recording["kind"].values == "evolved")
    rows = np.flatnonzero(own & (recording["generation"].values == number))
    names, first = np.unique(recording["stimulus_id"].values[rows].astype(str), return_index=True)
    score = recording["score"].values[rows[first]]
    order = np.argsort(-score, kind="stable")
    return xr.Dataset(
        {"stimulus_id": ("image", names[order]), "score": ("image", score[order])}, coords={"generation": number}
    )


@at_door
def plot_code_plane(recording: xr.Dataset, ax: Axes | None = None, thread: str | None = None) -> Axes:
    """Draws the codes of an evolution in the plane of their first two principal axes, and the path of their mean.

    Args:
        recording: See `closedloop.open_recording`.
        ax: Where to draw; None for a new figure.
        thread: Which evolution; None where there is only one.

    Returns:
        The axes: first (x) and second (y) principal axis of all evolved codes, in units of the code. Each dot is a
        code, coloured by its generation; the line is the mean code of each generation.

    Raises:
        RecordingError: No such thread, no evolved image yet, or codes that do not span a plane.
    """
    thread = one_thread(recording, thread)
    geometry = code_geometry(recording, thread, axes=2)
    path = geometry["path"].values
    if np.isnan(path).any():
        raise RecordingError(f"recording: the codes of thread {thread!r} span no plane: {geometry['reason'].item()}.")
    own = np.flatnonzero((recording["thread"].values == thread) & (recording["kind"].values == "evolved"))
    codes = np.nan_to_num(recording["latent_code"].isel(presentation=own).values)
    # Each code's distance from the centre along the two axes: (x - m) Wᵀ.
    places = (codes - np.nan_to_num(geometry["center"].values)) @ np.nan_to_num(geometry["components"].values).T
    ax = new_axes(ax, (5.2, 4.0))
    dots = ax.scatter(
        places[:, 0],
        places[:, 1],
        c=recording["generation"].values[own],
        s=7,
        cmap=COLOUR_MAP,
        alpha=0.6,
        lw=0,
        rasterized=True,
    )
    ax.plot(*path.T, color=INK, lw=1.2)
    for place, word in ((path[0], "start"), (path[-1], "end")):
        ax.plot(*place, "o", ms=6, color=INK)
        ax.annotate(word, place, (6, 6), textcoords="offset points", fontsize=9)
    first, second = (percent(share) for share in geometry["share"].values)
    ax.set_xlabel(f"first principal axis of the codes ({first} of variance)")
    ax.set_ylabel(f"second ({second})")
    colour_bar(ax, dots, "generation")
    growth = float(geometry["norm_growth"])
    caption(ax, f"{len(own)} codes, seed {recording['seed'].item()}; length of the codes × {growth:.2g}")
    return dress(ax)
