"""Draws what two models predict of images about which they disagree, and what the subject says."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from closedloop.analysis.controversies import PREDICTED, SYNTHESIZED, controversy
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, dress, off_by
from closedloop.figures.tiles import draw_picture
from closedloop.recording.pictures import Pictures
from closedloop.signatures import at_door


@at_door
def plot_controversy(recording: xr.Dataset) -> Figure:
    """Draws for each image both predictions and the confirmed response, in standard deviations over natural images.

    Ten images at most; those that the models disagree about come first.

    Args:
        recording: What `closedloop.protocols.controversial` returned.
    """
    found = controversy(recording)
    kept = np.flatnonzero(found["kind"].values == SYNTHESIZED).tolist()
    kept += [i for i in range(found.sizes["image"]) if i not in kept]
    found = found.isel(image=np.array(kept[:10], int))
    count = max(found.sizes["image"], 1)
    figure = Figure(figsize=(1.6 + 1.15 * max(count, 4), 4.6), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, count, height_ratios=[2.2, 1])
    ax = figure.add_subplot(grid[0, :])
    place = np.arange(found.sizes["image"])
    for name, colour, word in zip(PREDICTED, (NATURAL, "#009E73"), ("first", "second"), strict=True):
        ax.plot(place, found[name], "_", ms=22, mew=2.2, color=colour, label=f"predicted by the {word} model")
    mean = found["confirmed"].values
    ax.errorbar(
        place, mean, off_by(mean, found, "confirmed"), fmt="o", ms=5, color=EVOLVED, label="confirmed (95 %)", lw=1.4
    )
    ax.axhline(0, color=INK, lw=0.7, ls=(0, (4, 3)))
    ax.set_xlim(-0.5, count - 0.5)
    ax.set_xticks([])
    ax.set_ylabel("s.d. of natural images", fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    top = np.nanmax([found[n].values.max(initial=1) for n in (*PREDICTED, "confirmed")])
    ax.set_ylim(top=1.25 * top)
    n, seed = found["n"].values, recording["seed"].item()
    times = n.min() if len(n) else 0
    caption(ax, f"{recording['subject'].item()}: {times} fresh presentations of each; seed {seed}")
    dress(ax)
    pictures = Pictures(recording)
    for i, (name, thread) in enumerate(zip(found["stimulus_id"].values, found["thread"].values, strict=True)):
        tile = figure.add_subplot(grid[1, i])
        natural = thread not in ("first", "second")
        draw_picture(tile, pictures.reference(str(name)) if natural else pictures(str(name)))
        tile.set_title("natural" if natural else str(name), fontsize=8, color=INK, parse_math=False)
    return figure
