"""Draws what was promised of images, and what fresh presentations of them, beside controls, say."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis.verifications import SYNTHESIZED, verification
from closedloop.figures.style import COLOUR_MAP, EVOLVED, INK, NATURAL, caption, colour_bar, dress, new_axes
from closedloop.signatures import at_door

#: Units that are drawn, each with its images.
MOST = 8
#: Units that a matrix shows.
MATRIX = 24


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


@at_door
def plot_verification_matrix(recording: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws how each unit answers the images that were made for all of them, as a share of what its own one reaches.

    Off the diagonal stands what the image of another unit does, which is a control.

    Args:
        recording: What `closedloop.protocols.verify` returned.
        ax: Where; None for axes of a new figure.
    """
    found = verification(recording)
    names = found["unit"].values.astype(str).tolist()[:MATRIX]
    matrix = found["matrix"].values[:MATRIX, :MATRIX]
    own = np.diag(matrix)
    share = matrix / np.where(own > 0, own, np.nan)
    side = max(2.6, 0.5 * len(names) + 1.2)
    ax = new_axes(ax, (side + 1.8, side))
    drawn = ax.imshow(share, cmap=COLOUR_MAP, vmin=min(0.0, np.nanmin(share, initial=0.0)), vmax=1)
    for (row, column), value in np.ndenumerate(share):
        if np.isfinite(value) and len(names) <= MOST:
            ax.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w" if value < 0.6 else INK
            )
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set_xlabel("unit", fontsize=9)
    ax.set_ylabel("image made for", fontsize=9)
    colour_bar(ax, drawn, "confirmed ÷ own image")
    caption(ax, f"{int(found['n'].min())} presentations of each")
    return dress(ax, box=True)
