"""Draws units that were tested for answering to something else than the object: read from a run of `diagnose`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from closedloop.analysis.spurious import PASTED, spurious_units
from closedloop.figures.style import EVOLVED, INK
from closedloop.figures.tiles import draw_picture
from closedloop.readable import percent
from closedloop.recording.pictures import Pictures
from closedloop.signatures import at_door

#: What the pictures of a row are called in the run, and above their column.
_COLUMNS = (
    ("donor-0", "an error that\nit drove"),
    ("donor-1", "an error that\nit drove"),
    ("evolved", "what it wants,\nevolved"),
    ("ascended", "what it wants,\nascended"),
    ("into-0", "before"),
    ("pasted-0", "window\npasted"),
    ("into-1", "before"),
    ("pasted-1", "window\npasted"),
)


@at_door
def plot_spurious(recording: xr.Dataset) -> Figure:
    """Draws a row for each unit that was found to be spurious; where none was, for the first ones that were tested.

    Four units at most. What one wants to see was looked for where it is spurious alone; a column without a picture is
    left out.

    Args:
        recording: A run of `closedloop.protocols.diagnose`, from its folder, where the pictures lie.
    """
    found = spurious_units(recording)
    chosen = np.flatnonzero(found["spurious"].values)
    chosen = (chosen if len(chosen) else np.arange(found.sizes["suspect"]))[:4]
    pictures = Pictures(recording)
    rows = [found.isel(suspect=int(i)) for i in chosen]
    kept = [{name: pictures.kept(f"{_called(one)}-{name}") for name, _ in _COLUMNS} for one in rows]
    columns = [column for column in _COLUMNS if any(images[column[0]] is not None for images in kept)] or _COLUMNS
    size = (1.15 * len(columns) + 1.6, 1.35 * max(1, len(chosen)) + 0.6)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(max(1, len(chosen)), len(columns), squeeze=False)
    for row, one, images in zip(grid, rows, kept, strict=False):
        _draw_unit(row, recording, one, {name: images[name] for name, _ in columns})
    for ax, (_, title) in zip(grid[0], columns, strict=True):
        ax.set_title(title, fontsize=7.5, color=INK, parse_math=False)
    return figure


def _called(one: xr.Dataset) -> str:
    """Returns how the pictures of a unit begin."""
    return f"unit-{int(one['unit'])}-{int(one['speaks_for'])}"


def _draw_unit(row: np.ndarray, recording: xr.Dataset, one: xr.Dataset, images: Mapping[str, Any]) -> None:
    unit, speaks_for = int(one["unit"]), int(one["speaks_for"])
    for ax, (name, image) in zip(row, images.items(), strict=True):
        draw_picture(ax, image)
        if image is not None:
            ax.images[0].set_interpolation("nearest" if image.shape[0] <= 64 else "lanczos")
            if name.startswith(("donor", "pasted")):
                _outline(ax, recording, unit, speaks_for, int(name[-1]))
    share, control = float(one["turned"]), float(one["turned_control"])
    words = f"unit {unit}\n→ “{one['class_name'].item()}”\nturns {percent(share)}\ncontrol {percent(control)}"
    row[0].text(
        -0.12, 0.5, words, transform=row[0].transAxes, ha="right", va="center", fontsize=8, color=INK, parse_math=False
    )


def _outline(ax: Axes, recording: xr.Dataset, unit: int, speaks_for: int, number: int) -> None:
    """Draws the window around what was cut, or pasted."""
    own = (recording["suspect"].values == unit) & (recording["speaks_for"].values == speaks_for)
    rows = np.flatnonzero(own & (recording["kind"].values == PASTED))
    if number >= len(rows):
        return
    y, x, side = _window(recording, rows, number)
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, edgecolor=EVOLVED, lw=1.2))


def _window(recording: xr.Dataset, rows: np.ndarray, number: int) -> tuple[int, int, int]:
    """Returns the window of a donor, by its number: donors are taken in turn."""
    names = ("window_y", "window_x", "window_side", "nth_donor")
    y, x, side, nth = (recording[name].values[rows] for name in names)
    own = np.flatnonzero(nth == number)
    first = int(own[0]) if len(own) else 0
    return int(y[first]), int(x[first]), int(side[first])
