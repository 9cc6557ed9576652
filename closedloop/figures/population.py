"""A population of images, and the plane in which its codes moved."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis import generation_scores
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import INK, caption, new_axes, one_thread
from closedloop.figures.tiles import draw_picture
from closedloop.pictures import Pictures


def plot_population(
    recording: xr.Dataset,
    ax: Axes | None = None,
    thread: str | None = None,
    generation: int | None = None,
    pictures: Pictures | None = None,
) -> Axes:
    """The images of one generation as a sheet, the best-scored first, each with its score.

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
    columns = int(np.ceil(np.sqrt(len(names) * 1.6)))
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
    """The images of one generation: `stimulus_id` and `score` over ``image``, best first; lost ones last.

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
