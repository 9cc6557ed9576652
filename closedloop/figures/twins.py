"""Draws how well a twin predicts images that it has not seen."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import INK, NATURAL, caption, dress, line_style, new_axes
from closedloop.signatures import at_door

#: Units whose learning curves are drawn one by one.
MOST = 8


@at_door
def plot_twin(table: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws held-out correlation over the number of images that a twin was fitted to, and the noise ceiling.

    Up to eight units have a line each, with the 95 % interval over images at its end and the ceiling as a tick beside
    it; of more units the median is drawn, and the middle half of the units as a band.

    Args:
        table: The `table` of a `closedloop.subjects.Twin`.
        ax: Where; None for axes of a new figure.

    Raises:
        InvalidArgumentError: It is another table.
    """
    if not isinstance(table, xr.Dataset) or not {"curve", "ceiling", "low"} <= set(table.data_vars):
        raise InvalidArgumentError(f"table: expected the table of a twin, got {type(table).__name__}; give twin.table.")
    ax = new_axes(ax)
    size, curve = table["size"].values, table["curve"].values
    units = table.sizes["neuroid"]
    if units <= MOST:
        for i in range(units):
            one, style = table.isel(neuroid=i), line_style(i)
            ax.plot(size, curve[:, i], marker="o", ms=3.5, lw=1.5, label=str(one["neuroid_id"].item()), **style)
            ax.plot([size[-1]] * 2, [float(one["low"]), float(one["high"])], color=style["color"], lw=3, alpha=0.35)
            if np.isfinite(float(one["ceiling"])):
                ax.plot([size[-1] * 1.06], [float(one["ceiling"])], marker="_", ms=12, mew=2, color=style["color"])
        ax.legend(frameon=False, fontsize=8)
        told = "bars: 95 % over images; –: noise ceiling"
    else:
        low, middle, high = np.nanquantile(curve, [0.25, 0.5, 0.75], axis=1)
        ax.fill_between(size, low, high, color=NATURAL, alpha=0.25, lw=0)
        ax.plot(size, middle, color=NATURAL, marker="o", ms=3.5, lw=1.8, label="median")
        ceilings = table["ceiling"].values
        if np.isfinite(ceilings).any():
            ax.axhline(float(np.nanmedian(ceilings)), color=INK, lw=1, ls=":", label="median noise ceiling")
        ax.legend(frameon=False, fontsize=8)
        told = f"median and middle half of {units} units"
    ax.axhline(0, color=INK, lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks(size, [f"{n:,}" for n in size])
    ax.minorticks_off()
    ax.set_ylim(min(-0.1, float(np.nanmin(curve, initial=0)) - 0.05), 1.02)
    ax.set_xlabel("images that the twin was fitted to", fontsize=9)
    ax.set_ylabel("correlation with held-out images", fontsize=9)
    caption(ax, f"twin of {table.attrs['subject']}; {told}; seed {table.attrs['seed']}")
    return dress(ax)
