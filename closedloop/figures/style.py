"""Gives all figures what they have in common: colours, axes of their own, plain words.

matplotlib's global state is never touched.
Colours are those of Okabe & Ito (2008), distinct for colour-blind readers; more than eight lines differ by dashes too.
"""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from closedloop.analysis.spikes import counting_window
from closedloop.analysis.summary import Estimate, excites_one, fact_of, short_objective, thread_objectives
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.recording.layout import REFERENCE

#: Colour of what belongs to evolved images.
EVOLVED = "#D55E00"
#: Colour of what belongs to natural images.
NATURAL = "#0072B2"
#: Colour of what a model of the subject proposed.
TWIN = "#009E73"
#: Colour of what may be chance.
UNSURE = "#8A8A8A"
#: Colour of words and of the lines around axes.
INK = "#333333"
#: Colours of threads, in their order; then they begin again with other dashes.
THREAD_COLOURS = (EVOLVED, NATURAL, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#8C564B")
#: The map of values to colours: perceptually uniform, readable in grey and by colour-blind readers.
COLOUR_MAP = "viridis"


def new_axes(ax: Axes | None, size_in: tuple[float, float] = (6.0, 3.8)) -> Axes:
    """Returns the given axes, or those of a new figure that belongs to no window and no global list."""
    return Figure(figsize=size_in, dpi=150, layout="constrained").add_subplot() if ax is None else ax


def line_style(index: int) -> dict[str, Any]:
    """Returns colour and dashes of the line with this number; all of the first 32 differ."""
    rounds, place = divmod(index, len(THREAD_COLOURS))
    dashes = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
    return {"color": THREAD_COLOURS[place], "ls": dashes[rounds % len(dashes)]}


def dress(ax: Axes, box: bool = False) -> Axes:
    """Gives axes their look when all is drawn: one ink, names as they are written (``$`` is no formula).

    Args:
        ax: The axes, which are returned.
        box: Whether a line goes all around, as suits a map.
    """
    for side, spine in ax.spines.items():
        spine.set_visible(box or side in ("left", "bottom"))
        spine.set_color(INK)
    ax.tick_params(colors=INK, labelsize=9)
    for text in _texts(ax):
        text.set_parse_math(False)
        if text.get_color() in ("black", "k", "#000000"):
            text.set_color(INK)
    return ax


def in_lines(text: str, letters: int) -> dict[str, Any]:
    """Returns a text that matplotlib breaks where it is too long, as options of a `Text`; ``$`` is no formula.

    To measure a line it reads what stands between two ``$`` as one all the same: such a text is broken here.

    Args:
        text: What is said.
        letters: Of a line that is broken here.
    """
    formula = "$" in text
    return {"text": textwrap.fill(text, letters) if formula else text, "wrap": not formula, "parse_math": False}


def off_by(middle: NDArray[Any], found: xr.Dataset, name: str) -> list[list[float]]:
    """Returns how far the ends of an interval, `name` with _low and _high, lie from its middle; 0 where one is unknown.

    As lists: of an array with one number matplotlib 3.9 makes a number, of which numpy warns.
    """
    return [np.nan_to_num(np.abs(middle - found[f"{name}_{end}"].values)).tolist() for end in ("low", "high")]


def draw_diamond(
    ax: Axes, estimate: Estimate, place: float, colour: str, size: float = 8, label: str = "_", across: bool = False
) -> None:
    """Draws a re-tested mean with its standard error: a diamond that no bar cuts, neither here nor in the legend.

    Args:
        ax: Where.
        estimate: The mean.
        place: Where it stands along the other axis.
        colour: Of both.
        size: Of the diamond, in points.
        label: Its name in the legend; with "_" it has none there.
        across: Whether the mean is along x.
    """
    error = np.nan_to_num(estimate.sem) or None
    x, y = (estimate.mean, place) if across else (place, estimate.mean)
    bars: dict[str, Any] = {"xerr" if across else "yerr": error}
    look: dict[str, Any] = {"ms": size, "color": colour, "mec": "white", "mew": 1}
    ax.errorbar(x, y, **bars, fmt="D", capsize=size / 2, zorder=5, label="_re-tested", **look)
    if not label.startswith("_"):
        ax.plot([], [], "D", label=label, **look)  # the legend's


def legend_below(ax: Axes, columns: int | None = None) -> None:
    """Puts the legend below the axes, where it hides no data and no line crosses its words.

    Args:
        ax: Axes whose x axis has numbers and a name.
        columns: Of the legend; default what sentences of the usual length leave room for.
    """
    figure = whole_figure(ax)
    below = ax.transAxes + ScaledTranslation(0, -36 / 72, figure.dpi_scale_trans)  # under the axis' numbers and name
    ax.legend(
        frameon=False,
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=below,
        ncols=columns or (4 if figure.get_figwidth() >= 9 else 2),
        borderpad=0,
        columnspacing=1.4,
        handlelength=1.8,
        handletextpad=0.6,
    )


def _texts(ax: Axes) -> list[Text]:
    """Returns all words of axes but those at their ticks."""
    legend = ax.get_legend()
    own = [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]
    return own if legend is None else [*own, *legend.get_texts()]


def colour_bar(ax: Axes, drawn: ScalarMappable, label: str) -> None:
    """Draws a colour scale beside the axes, with its name."""
    bar = whole_figure(ax).colorbar(drawn, ax=ax, fraction=0.045, pad=0.03)
    bar.set_label(label, color=INK, fontsize=9)
    bar.ax.tick_params(colors=INK, labelsize=8.5)
    bar.outline.set_edgecolor(INK)


def as_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Returns a figure as it is drawn on a canvas of its own, ``(h, w, 3)`` RGB, 8 bits."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def whole_figure(ax: Axes) -> Figure:
    """Returns the figure that holds some axes.

    Raises:
        InvalidArgumentError: They belong to none.
    """
    figure: Figure | SubFigure | None = ax.figure
    while isinstance(figure, SubFigure):
        figure = figure.figure
    if figure is None:
        raise InvalidArgumentError("ax: expected axes of a figure, got axes that were removed from theirs.")
    return figure


def caption(ax: Axes, text: str) -> None:
    """Says above the axes, on the left, what is shown: n, seed, and what an interval is."""
    ax.set_title("", loc="left", fontsize=9, color=INK).set(**in_lines(text, 60))


def thread_names(recording: xr.Dataset) -> list[str]:
    """Returns the names of a recording's threads, in their order.

    Raises:
        RecordingError: It is not the recording of an evolution.
    """
    return [name for name, _ in thread_objectives(recording)]


def one_thread(recording: xr.Dataset, thread: str | None) -> str:
    """Returns the thread that was named, or the only one.

    Raises:
        RecordingError: There is no such thread, or there are several and none was named.
    """
    names = thread_names(recording)
    if thread is None and len(names) > 1:
        raise RecordingError(f"thread: the recording has several, name one of {names}.")
    if thread is not None and thread not in names:
        raise RecordingError(f"recording: no thread {thread!r}; it has {names}.")
    return names[0] if thread is None else thread


def part_of(recording: xr.Dataset, name: str, thread: str) -> str:
    """Returns the name of a thread's generator, optimizer or objective."""
    return fact_of(recording, name, thread)


def score_name(recording: xr.Dataset, objective: str) -> str:
    """Returns what the score is: a unit's response, at a rig their count and where they count, or the objective."""
    if not excites_one(objective):
        return f"score:  {short_objective(objective)}"
    if "spike_time_s" not in recording.variables or "time_bin" in recording.dims:
        return "response"
    window_s = counting_window(recording)
    when = "" if window_s is None else f", {1000 * window_s[0]:g} to {1000 * window_s[1]:g} ms"
    return f"response (spikes{when})"


def reference_count(recording: xr.Dataset) -> int:
    """Counts the different reference images that were shown."""
    own = recording["thread"].values == REFERENCE
    return len(set(recording["stimulus_id"].values[own].tolist()))
