"""Draws responses in time: peristimulus time histograms of a recording with spikes or with time bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes

from closedloop.analysis.tuning import psth
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import COLOUR_MAP, EVOLVED, INK, NATURAL, caption, dress, line_style, new_axes
from closedloop.recording.layout import REFERENCE
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door

#: Lines of kinds of presentations; re-tests are told by what was re-tested.
_KINDS = {
    "reference": {"color": NATURAL},
    "evolved": {"color": EVOLVED},
    "evolved, re-tested": {"color": EVOLVED, "ls": "--"},
    "reference, re-tested": {"color": NATURAL, "ls": "--"},
}


@at_door
def plot_psth(
    recording: xr.Dataset,
    unit: int = 0,
    ax: Axes | None = None,
    *,
    by: str = "kind",
    bins_s: Sequence[float] | None = None,
    window_s: Sequence[float] | None = None,
) -> Axes:
    """Draws the response of a unit over the time from the onset of an image: mean ± standard error of each group.

    Args:
        recording: A recording with spikes, or with a time axis.
        unit: Column of the responses.
        ax: Where to draw; None for a new figure.
        by: The coordinate of presentations that groups them: "kind" (of re-tests, those of references apart), "thread",
            "generation" (of evolved images alone, where there are some) … Of a number such as the generation more than
            eight values are joined to five parts, from the first to the last.
        bins_s: Of a recording with spikes, begin of the first bin, width of each in seconds and their number; None for
            40 bins of 10 ms from -0.1 s on, where responses have no time axis.
        window_s: Begin and end of a window that is shaded, such as the one in which spikes are counted.

    Raises:
        RecordingError: There is neither a time axis nor spikes.
        InvalidArgumentError: No such unit or coordinate.
    """
    units = recording.sizes.get("neuroid", 0)
    if not 0 <= unit < units:
        raise InvalidArgumentError(f"unit: expected a column from 0 to {units - 1}, got {unit!r}.")
    if bins_s is None and "time_bin" not in recording.dims:
        bins_s = (-0.1, 0.01, 40)  # from 100 ms before the onset, 10 ms each, to 300 ms
    spikes = bins_s is not None
    own = recording.isel(neuroid=[unit])
    evolved = own["kind"].values == "evolved" if by == "generation" and "kind" in own.coords else np.empty(0, bool)
    if evolved.any():  # the survey of references and the re-tests are no generations
        own = own.isel(presentation=evolved)
    whole, words = _in_parts(own, by)
    found = psth(whole, by, bins_s=bins_s).isel(neuroid=0)
    ax = new_axes(ax)
    edges = _edges(found)
    for number, name in enumerate(found[by].values):
        one = found.isel({by: number})
        mean, sem = one["mean"].values, np.nan_to_num(one["sem"].values)
        style = _style(by, str(name), number, len(found[by]), recording[by].dtype.kind)
        label = f"{words.get(str(name), str(name))}  (n = {int(one['n'].values.max())})"
        ax.stairs(mean, edges, lw=1.8, label=label, **style)
        ax.fill_between(
            edges,
            np.r_[mean - sem, (mean - sem)[-1]],
            np.r_[mean + sem, (mean + sem)[-1]],
            step="post",
            color=style["color"],
            alpha=0.2,
            lw=0,
        )
    if edges[0] < 0:
        ax.axvline(0, color=INK, lw=0.8, ls=":")
    if window_s is not None:
        ax.axvspan(1000 * window_s[0], 1000 * window_s[1], color=INK, alpha=0.06, lw=0, zorder=0)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(bottom=min(0.0, float(np.nanmin(found["mean"].values))))
    ax.set_xlabel("ms from the onset of the image" if found["unit_of_time"].item() == "ms" else "time bin")
    ax.set_ylabel("spikes per second" if spikes else "response")
    legend = ax.legend(frameon=False, fontsize=8.5, title=None if by == "kind" else by.replace("_", " "))
    legend.get_title().set(color=INK, fontsize=8.5)
    shown = "presentations of evolved images" if evolved.any() else "presentations"
    caption(ax, f"{recorded_title(recording, unit)}; band: ± s.e.m. over {shown}")
    return dress(ax)


def _in_parts(recording: xr.Dataset, by: str) -> tuple[xr.Dataset, dict[str, str]]:
    """Returns a recording whose many numbers of a coordinate are joined to few parts, and what these are called.

    Re-tests, which are of evolved images and of references, become two kinds.
    """
    if by == "kind" and {"kind", "thread"} <= recording.coords.keys():
        kind = recording["kind"].values.astype(object)
        again, natural = kind == "retest", recording["thread"].values == REFERENCE
        kind[again] = np.where(natural, "reference, re-tested", "evolved, re-tested")[again]
        return recording.assign_coords(kind=("presentation", kind)), {}
    if by not in recording.coords or recording[by].dims != ("presentation",) or recording[by].dtype.kind not in "if":
        return recording, {}
    values = recording[by].values
    known = np.unique(values[np.isfinite(values)])
    if len(known) <= 8:  # a line each; of more, numbers are joined to five parts
        return recording, {}
    parts = np.array_split(known, 5)
    first = np.array([part[0] for part in parts])
    place = np.clip(np.searchsorted(first, values, side="right") - 1, 0, None).astype(float)
    place[~np.isfinite(values)] = np.nan
    words = {str(float(i)): f"{part[0]:g} to {part[-1]:g}" for i, part in enumerate(parts)}
    return recording.assign_coords({by: ("presentation", place)}), words


def _edges(found: xr.Dataset) -> Any:
    """Returns the edges of the bins, in ms where these are known."""
    if found["unit_of_time"].item() != "ms":
        return np.arange(found.sizes["time_bin"] + 1) - 0.5
    return np.r_[found["time_bin_start"].values, found["time_bin_end"].values[-1:]]


def _style(by: str, name: str, number: int, count: int, kind: str) -> dict[str, Any]:
    """Returns colour and dashes of a group's line: by its kind, along a scale for numbers, else in their order."""
    if by == "kind" and name in _KINDS:
        return _KINDS[name]
    if kind in "if":
        return {"color": colormaps[COLOUR_MAP](0.9 * number / max(count - 1, 1))}
    return line_style(number)
