"""Draws invariance: the response to an image at other places, sizes and rotations."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from closedloop.analysis.tolerances import AMOUNT, FACTOR, tolerance, tolerance_curves
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, dress
from closedloop.images.patterns import Screen
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door


@at_door
def plot_tolerance(recording: xr.Dataset, unit: int = 0) -> Figure:
    """Draws a unit's tolerance curves, one for each factor.

    Args:
        recording: Of `closedloop.protocols.invariance`.
        unit: Column of the responses.

    Returns:
        The figure: mean response ± standard error over presentations; the image as it is stands at 0 (dashed). The
        lower line is the response to grey, the upper one half way to that to the image, and the band is where the
        response stays above it.

    Raises:
        RecordingError: It is no recording of an invariance.
        InvalidArgumentError: No such unit.
    """
    shown, screen = tolerance_curves(recording), Screen.of_recording(recording)
    count = recording.sizes["neuroid"]
    if not 0 <= unit < count:
        raise InvalidArgumentError(f"unit: expected a column from 0 to {count - 1}, got {unit!r}.")
    found = tolerance(recording, units=[unit]).isel(neuroid=0)
    length = screen.unit.replace("deg", "°")
    words = {
        "x": f"to the right ({length})",
        "y": f"upwards ({length})",
        "size": "size (octaves)",
        "rotation": "rotation (°)",
    }
    figure = Figure(figsize=(3.1 * len(shown), 3.0), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, (name, curve) in zip(axes, shown.items(), strict=True):
        one, fit = curve.isel(neuroid=unit), found.sel({FACTOR: name})
        amount, mean = one[AMOUNT].values, one["mean"].values
        blank, peak = float(one["blank"]), float(mean[np.argmin(np.abs(amount))])
        below, above = float(fit["below"]), float(fit["above"])
        if peak > blank:
            ends = [below if np.isfinite(below) else amount[0], above if np.isfinite(above) else amount[-1]]
            ax.axvspan(*ends, color=EVOLVED, alpha=0.12, lw=0)
            ax.axhline((peak + blank) / 2, color=INK, lw=0.8, ls=(0, (1, 2)))
        ax.axhline(blank, color=INK, lw=0.8)
        ax.axvline(0, color=INK, lw=0.8, ls=(0, (3, 3)))
        ax.errorbar(amount, mean, yerr=np.nan_to_num(one["sem"].values), fmt="o-", ms=4, lw=1.4, color=NATURAL)
        ax.set_xlabel(words[name])
        value = float(fit["tolerance"])
        low, high = float(fit["tolerance_low"]), float(fit["tolerance_high"])
        interval = f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else ""
        caption(ax, f"above half: {value:.3g}{interval}" if np.isfinite(value) else "above half to an end")
        dress(ax)
    axes[0].set_ylabel("mean response ± s.e.m.")
    figure.suptitle(recorded_title(recording, unit), x=0.01, ha="left", fontsize=9, color=INK)
    return figure
