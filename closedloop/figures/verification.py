"""Draws what was promised of images, and what fresh presentations of them, beside controls, say."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis.verifications import SYNTHESIZED, verification
from closedloop.checks import at_door
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, dress, new_axes

#: Units that are drawn, each with its images.
MOST = 8


@at_door
def plot_verification(recording: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws for each unit the confirmed response to its image and to the controls, and what a twin promised.

    Args:
        recording: What `closedloop.protocols.verify` returned.
        ax: Where; None for axes of a new figure.
    """
    found = verification(recording)
    targets = list(dict.fromkeys(found["target"].values.tolist()))[:MOST]
    found = found.isel(image=np.flatnonzero(np.isin(found["target"].values.astype(str), targets)))
    count = found.sizes["image"]
    ax = new_axes(ax, (7.0, 1.3 + 0.28 * count))
    place = np.arange(count) + 0.6 * np.array([targets.index(t) for t in found["target"].values])
    made = found["role"].values == SYNTHESIZED
    low, high, mean = (found[n].values for n in ("confirmed_low", "confirmed_high", "confirmed"))
    for chosen, colour, label in (
        (made, EVOLVED, "confirmed, made for the unit"),
        (~made, NATURAL, "confirmed, control"),
    ):
        ax.hlines(place[chosen], low[chosen], high[chosen], color=colour, lw=2, alpha=0.6)
        ax.plot(mean[chosen], place[chosen], "o", color=colour, ms=5, label=label)
    predicted = found["predicted"].values
    if np.isfinite(predicted).any():
        ax.plot(predicted, place, "|", color=INK, ms=11, mew=1.6, label="predicted by the twin")
    several = len(targets) > 1
    words = [
        f"{role}  {target}" if several else str(role)
        for role, target in zip(found["role"].values, found["target"].values, strict=True)
    ]
    ax.set_yticks(place, words, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel(f"response{'' if several else f' of {targets[0]}'}", fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    n = found["n"].values
    times = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    caption(ax, f"{times} fresh presentations of each image; lines: 95 %")
    return dress(ax)
