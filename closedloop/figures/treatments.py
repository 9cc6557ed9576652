"""Draws what a treatment of a network did to its accuracy, and treatments beside each other."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis.treatments import NONE, TREATED, judged_treatments, verdict
from closedloop.figures.style import EVOLVED, INK, NATURAL, UNSURE, caption, dress, line_style, new_axes
from closedloop.readable import percent
from closedloop.signatures import at_door


@at_door
def plot_treatment(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws accuracy in each group of the test over the steps of training and treatment.

    Args:
        found: What `closedloop.protocols.treat` returned.
        ax: Where; None for axes of a new figure.
    """
    ax = new_axes(ax)
    step = found["step"].values
    for i, group in enumerate(found["group"].values):
        label = f"{group} ({int(found['group_size'][i])})"
        ax.plot(step, found["accuracy"].values[:, i], lw=1.4, label=label, **line_style(i))
    ax.plot(step, found["overall"].values, color=INK, lw=2.2, alpha=0.5, label="overall")
    begun = np.flatnonzero(found["phase"].values == TREATED)
    if len(begun):
        ax.axvline(step[begun[0]], color=INK, lw=0.8, ls=":")
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("step", fontsize=9)
    ax.set_ylabel("accuracy of the test", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    told = found.attrs
    caption(
        ax, f"treatment {told['treatment']} from the line on; {told['data']}, {told['subject']}, seed {told['seed']}"
    )
    return dress(ax)


@at_door
def plot_judgement(recording: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws accuracy in the worst group after each treatment: a dot for each seed, mean and Student's interval.

    Args:
        recording: A run of `closedloop.protocols.judge`.
        ax: Where; None for axes of a new figure.
    """
    found = judged_treatments(recording)
    names = [str(name) for name in found["treatment"].values]
    ax = new_axes(ax, (7.0, 1.2 + 0.42 * len(names)))
    for i, name in enumerate(names):
        one = found.isel(treatment=i)
        known = "worst_gain_low" in one
        word = verdict(float(one["worst_gain_low"]), float(one["worst_gain_high"])) if known and name != NONE else ""
        colour = {"helps": NATURAL, "hurts": EVOLVED}.get(word, UNSURE)
        seeds = one["worst_by_seed"].values
        ax.plot(seeds, np.full(len(seeds), i) + 0.18, "o", ms=3, color=colour, alpha=0.45, mew=0)
        low, high = float(one["worst_low"]), float(one["worst_high"])
        if np.isfinite([low, high]).all():
            ax.plot([low, high], [i, i], color=colour, lw=2)
        ax.plot(float(one["worst"]), i, "D", ms=5, color=colour)
        ax.text(1.01, i, word, transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=colour)
    ax.axvline(float(found["worst_before"]), color=INK, lw=0.8, ls=":")
    if NONE in names:
        ax.axvline(float(found["worst"].sel(treatment=NONE)), color=INK, lw=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("accuracy in the worst group (dotted: before; line: as many steps without treatment)", fontsize=8.5)
    told = found.attrs
    level = percent(told["level"])
    caption(ax, f"{told['data']}, {told['subject']}, {told['seeds']} seeds; mean, {level} t-interval over seeds")
    return dress(ax)
