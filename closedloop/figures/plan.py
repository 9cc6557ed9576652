"""Draws the probability of success by the length of a session."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import INK, caption, dress, legend_below, line_style, new_axes
from closedloop.signatures import at_door


@at_door
def plot_plan(planned: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws power by evolved presentations, a line for each number of re-tests and repeats, with intervals as bands.

    Args:
        planned: See `closedloop.analysis.plan`.
        ax: Where to draw; None for a new figure.
    """
    if "cheapest" not in planned or "power" not in planned:
        raise InvalidArgumentError(f"planned: expected a result of plan(), got {sorted(map(str, planned.variables))}.")
    ax = new_axes(ax)
    number = 0
    for i, repeats in enumerate(planned["repeats"].values):
        for j, retests in enumerate(planned["retest_repeats"].values):
            one = planned.isel(repeats=i, retest_repeats=j)
            words = f"{retests} re-tests" + (f", each image {repeats} times" if planned.sizes["repeats"] > 1 else "")
            (line,) = ax.plot(one["images"], one["power"], label=words, **line_style(number))
            ax.fill_between(one["images"], one["low"], one["high"], color=line.get_color(), alpha=0.15, linewidth=0)
            number += 1
    ax.axhline(float(planned["wanted"]), color=INK, linewidth=0.8, linestyle=":", label="wanted")
    if (planned["high"] > planned["low"]).any():
        caption(ax, "bands: 95 % intervals, of resamples of the pilot")
    place = planned["cheapest"].values
    if (place >= 0).all():
        best = planned.isel(dict(zip(planned["axis"].values.tolist(), place.tolist(), strict=True)))
        ax.plot(best["images"], best["power"], "o", color=INK, markersize=7, fillstyle="none")
    ax.set(xlabel="evolved presentations", ylabel="probability of success", ylim=(-0.02, 1.02))
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    legend_below(ax, columns=4)
    return dress(ax)
