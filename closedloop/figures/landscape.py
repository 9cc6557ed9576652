"""Draws tuning landscapes: the response around a preferred image, in a plane of the sphere of codes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis import fit_kent, kent, landscape_responses
from closedloop.analysis.landscapes import PARAMETERS
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import COLOUR_MAP, caption, colour_bar, dress, new_axes
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door


@at_door
def plot_landscape(recording: xr.Dataset, ax: Axes | None = None, plane: str | None = None, unit: int = 0) -> Axes:
    """Draws a tuning landscape: mean responses on a grid of the sphere of codes, with peak and width of its Kent fit.

    Args:
        recording: Of `closedloop.protocols.landscape`.
        ax: Where to draw; None for a new figure.
        plane: Which plane; None for the first.
        unit: Column of the responses.

    Returns:
        The axes: longitude (x) against latitude (y) in degrees, (0, 0) the image that was evolved. The line is where
        the fitted function has half its height above its baseline; the cross is its peak.

    Raises:
        RecordingError: It is not the recording of a landscape.
        InvalidArgumentError: No such plane or unit.
    """
    planes = landscape_responses(recording, [unit])
    chosen = next(iter(planes)) if plane is None else plane
    if chosen not in planes:
        raise InvalidArgumentError(f"plane: expected one of {list(planes)}, got {plane!r}.")
    theta, phi, table = planes[chosen]
    ax = new_axes(ax, (5.4, 4.4))
    x, y, grid = on_grid(theta, phi, table[:, 0])
    image = ax.pcolormesh(x, y, np.ma.masked_invalid(grid), cmap=COLOUR_MAP, shading="nearest", rasterized=True)
    colour_bar(ax, image, "mean response")
    words = _draw_fit(ax, recording, chosen, unit, x, y)
    ax.set_xlabel("longitude on the sphere of codes (°)")
    ax.set_ylabel("latitude (°)")
    ax.set_aspect("equal")
    caption(ax, f"{chosen}: {words}; n = {len(theta)} images")
    return dress(ax, box=True)


def on_grid(
    theta_deg: FloatArray, phi_deg: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns points ``(n,)`` as a grid: longitudes ``(a,)``, latitudes ``(b,)``, values ``(b, a)``; NaN for none."""
    x, column = np.unique(np.round(theta_deg, 6), return_inverse=True)
    y, row = np.unique(np.round(phi_deg, 6), return_inverse=True)
    grid = np.full((len(y), len(x)), np.nan)
    grid[row, column] = values
    return x, y, grid


def _draw_fit(ax: Axes, recording: xr.Dataset, plane: str, unit: int, x: FloatArray, y: FloatArray) -> str:
    """Draws the fit's peak and half-height line; returns its numbers in words, or why there is no fit."""
    fit = fit_kent(recording, units=[unit]).sel(plane=plane).isel(neuroid=0)
    parameters = np.array([float(fit[name]) for name in PARAMETERS])
    if np.isnan(parameters).any():
        return f"no fit ({fit['reason'].item()})"
    fine_x, fine_y = np.linspace(x[0], x[-1], 121), np.linspace(y[0], y[-1], 121)
    grid_x, grid_y = np.meshgrid(fine_x, fine_y)
    height = kent(grid_x.ravel(), grid_y.ravel(), parameters).reshape(grid_x.shape)
    half = parameters[-1] + parameters[-2] / 2  # baseline + amplitude / 2
    if height.min() < half < height.max():
        ax.contour(grid_x, grid_y, height, [half], colors="white", linewidths=2)
    ax.plot(parameters[0], parameters[1], "X", ms=11, mew=1.5, color="#111111", mec="white", scalex=False, scaley=False)
    width = float(fit["width_deg"])
    wide = f"half width {width:.0f}°" if np.isfinite(width) else "wider than the sphere"
    return f"Kent fit R² = {float(fit['r_squared']):.2f}, {wide}"
