"""Draws what the classes of a network are surest of."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.checks import check_whole, make_images
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures.style import INK, dress, line_style, new_axes
from closedloop.images.eight_bit import to_bytes
from closedloop.interfaces import Generator
from closedloop.readable import percent
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door


@at_door
def best_elites(found: xr.Dataset, count: int) -> NDArray[np.int64]:
    """Returns the places of the classes whose elites have the highest re-tested probability, best first.

    No image is taken twice, though it may be the elite of several classes.

    Args:
        found: See `closedloop.analysis.class_elites`. Where no elite was re-tested its first probability counts.
        count: At most so many.
    """
    check_whole("count", count, 0)
    probability = found["retested"].values
    if np.isnan(probability).all():
        probability = found["probability"].values
    chosen: dict[str, int] = {}
    for i in np.argsort(-np.nan_to_num(probability, nan=-1.0), kind="stable"):
        name = str(found["stimulus_id"].values[i])
        if name and len(chosen) < count:
            chosen.setdefault(name, int(i))
    return np.array(list(chosen.values()), dtype=np.int64)


@at_door
def plot_elites(found: xr.Dataset, generator: Generator, count: int = 24, columns: int = 8) -> Figure:
    """Draws the images that classes are surest of, best first, each with its class and its re-tested probability.

    Args:
        found: See `closedloop.analysis.class_elites`.
        generator: What made its images.
        count: How many images at most; an image that is the elite of several classes is shown once.
        columns: Images in a row.

    Raises:
        RecordingError: No class has an elite.
        InvalidArgumentError: The generator is not that of the recording, or a number is below 1.
    """
    columns = min(check_whole("columns", columns, 1), check_whole("count", count, 1))
    which = best_elites(found, count)
    if not len(which):
        raise RecordingError("recording: no class has an elite, for every presentation was lost.")
    codes = found["code"].values[which]
    if codes.shape[1] != generator.space.dim:
        raise InvalidArgumentError(
            f"generator: expected the one of the recording, with codes of length {codes.shape[1]}, got "
            f"{generator.name!r} with {generator.space.dim}."
        )
    pictures = to_bytes(make_images(generator, codes)).transpose(0, 2, 3, 1)
    rows = -(-len(which) // columns)
    figure = Figure(figsize=(1.45 * columns, 1.72 * rows), dpi=150, layout="constrained")
    for ax in (axes := figure.subplots(rows, columns, squeeze=False).ravel()):
        ax.axis("off")
    for ax, i, picture in zip(axes, which, pictures, strict=False):
        ax.imshow(picture, interpolation="nearest")
        ax.set_title(f"{_class(found, i)}\n{_percent(found, i)}", fontsize=7, color=INK, parse_math=False)
    return figure


def _class(found: xr.Dataset, i: int) -> str:
    """Returns what a person calls a class, at most 20 letters."""
    label = str(found["label"].values[i]) if "label" in found.coords else ""
    name = label or recorded_title(found, i)
    return name if len(name) <= 20 else name[:19] + "…"


def _percent(found: xr.Dataset, i: int) -> str:
    """Writes the re-tested probability of a class; where it was not re-tested the one that chose the elite."""
    value, words = found["retested"].values[i], ""
    if np.isnan(value):
        value, words = found["probability"].values[i], ", not re-tested"
    return f"{percent(value, 2)}{words}" if value < 0.9999 else f"> 99.99 %{words}"


@at_door
def plot_elites_course(found: xr.Dataset | dict[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """Draws the median probability over classes by the number of images shown.

    Args:
        found: See `closedloop.analysis.class_elites`; several by name are drawn together.
        ax: Where to draw; None for a new figure.
    """
    ax = new_axes(ax)
    several = found if isinstance(found, dict) else {"": found}
    for number, (name, one) in enumerate(several.items()):
        ax.plot(one["images"], one["median_probability"], label=name or None, **line_style(number))
    ax.set(xlabel="images shown", ylabel="probability of the class, median over classes", ylim=(-0.02, 1.02))
    if isinstance(found, dict):
        ax.legend(frameon=False)
    return dress(ax)
