"""Draws receptive fields: responses by the place of the stimulus, and the Gaussian through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from closedloop.analysis.fields import POLARITIES, combined, field_responses, fit_field
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import COLOUR_MAP, INK, caption, colour_bar, dress
from closedloop.images.patterns import Screen
from closedloop.interfaces import FloatArray
from closedloop.readable import with_error
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door


@at_door
def plot_field(recording: xr.Dataset, unit: int = 0) -> Figure:
    """Draws the mean response of a unit at each place, a panel for bright and dark squares or for each size of patches.

    Args:
        recording: Of `closedloop.protocols.map_field`.
        unit: Column of the responses.

    Returns:
        The figure; the axes go right and up, in degrees or pixels. Patches show responses to all pictures as they are
        averaged for the fit, see `closedloop.analysis.fit_field`. The ellipses are one and two standard deviations of
        the fitted field.

    Raises:
        RecordingError: It is none of a field's mapping.
        InvalidArgumentError: No such unit.
    """
    table, places, shown = field_responses(recording)
    if not 0 <= unit < table.shape[1]:
        raise InvalidArgumentError(f"unit: expected a column from 0 to {table.shape[1] - 1}, got {unit!r}.")
    screen, fit = Screen.of_recording(recording), fit_field(recording, units=[unit]).isel(neuroid=0)
    panels = _panels(table[:, unit], places, shown, screen)
    figure = Figure(figsize=(1.1 + 3.0 * len(panels), 3.6), dpi=150, layout="constrained")
    finite = np.array([values for _, values in panels])
    finite = finite[np.isfinite(finite)]  # none where all presentations were lost
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    drawn, axes = None, []
    rows, columns = np.unique(places[0]), np.unique(places[1])
    for i, (name, values) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), i + 1)
        drawn = ax.pcolormesh(
            screen.right(columns),
            screen.up(rows),
            np.ma.masked_invalid(values),
            cmap=COLOUR_MAP,
            vmin=low,
            vmax=high,
            shading="nearest",
            rasterized=True,
        )
        _ellipses(ax, fit, screen)
        ax.set_aspect("equal")
        ax.set_xlabel(f"right of the middle ({screen.unit.replace('deg', '°')})")
        if i == 0:
            ax.set_ylabel(f"above the middle ({screen.unit.replace('deg', '°')})")
        caption(ax, name)
        axes.append(dress(ax, box=True))
    if drawn is not None:
        colour_bar(axes[-1], drawn, "mean response" if panels[0][0].endswith("squares") else "response, from its mean")
    figure.suptitle(
        f"{recorded_title(recording, unit)}: {_words(fit, screen)}", x=0.01, ha="left", fontsize=9, color=INK
    )
    return figure


def _panels(y: FloatArray, places: FloatArray, shown: NDArray[Any], screen: Screen) -> list[tuple[str, FloatArray]]:
    """Returns what is drawn: a name, and values ``(rows, columns)``."""
    kinds = np.unique(shown.astype(str))
    if set(kinds) <= set(POLARITIES):
        return [(f"{kind} squares", _grid(y[shown == kind], places[:, shown == kind], places)) for kind in kinds]
    value, at, size = combined(y, places, shown)
    return [
        (
            f"patches of {4 * at[2, size == s][0] / screen.scale:.3g}{screen.sign}",
            _grid(value[size == s], at[:, size == s], places),
        )
        for s in np.unique(size)
    ]


def _grid(values: FloatArray, at: FloatArray, places: FloatArray) -> FloatArray:
    """Returns values at places as ``(rows, columns)``, NaN where there is none."""
    rows, columns = np.unique(places[0]), np.unique(places[1])
    grid = np.full((len(rows), len(columns)), np.nan)
    grid[np.searchsorted(rows, at[0]), np.searchsorted(columns, at[1])] = values
    return grid


def _ellipses(ax: Axes, fit: xr.Dataset, screen: Screen) -> None:
    """Draws the fitted field; nothing where there is none."""
    if fit["reason"].item():
        return
    size, aspect = float(fit["sigma_px"]) / screen.scale, float(fit["aspect"]) ** 0.5
    middle = screen.right(float(fit["x_px"])), screen.up(float(fit["y_px"]))
    for sigmas in (1, 2):
        ax.add_patch(
            Ellipse(
                middle,
                2 * sigmas * size * aspect,
                2 * sigmas * size / aspect,
                angle=float(fit["angle_deg"]),
                fill=False,
                lw=1.6,
                ls="-" if sigmas == 1 else (0, (3, 2)),
                color="white",
            )
        )
    ax.plot(*middle, "+", ms=7, mew=1.6, color="white", scalex=False, scaley=False)


def _words(fit: xr.Dataset, screen: Screen) -> str:
    """Returns the fit's numbers, or why there is none."""
    if reason := fit["reason"].item():
        return f"no field ({reason})"
    values = [(screen.right(float(fit["x_px"])), "x_px"), (screen.up(float(fit["y_px"])), "y_px")]
    at = ", ".join(with_error(v, float(fit[n + "_se"]) / screen.scale) for v, n in values)
    size, error = (float(fit[n]) / screen.scale for n in ("sigma_px", "sigma_px_se"))
    return f"centre ({at}){screen.sign}, σ = {with_error(size, error)}{screen.sign}, R² = {float(fit['r_squared']):.2f}"
