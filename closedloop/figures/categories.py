"""Draws selectivity for categories: each image's response, and d′ with intervals."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from closedloop.analysis.categories import CATEGORY, category_selectivity
from closedloop.analysis.units import means, select
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, dress
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door


@at_door
def plot_selectivity(recording: xr.Dataset, unit: int = 0) -> Figure:
    """Draws a unit's mean response to each image by category, and d′ of each category against all other images.

    Args:
        recording: Of `closedloop.protocols.selectivity`.
        unit: Column of the responses.

    Returns:
        The figure: categories by falling d′ (at most 24); dots are images, bars means ± standard error over images;
        beside them d′ with its 95 % bootstrap interval over images.

    Raises:
        RecordingError: Images have no category, or all have the same.
        InvalidArgumentError: No such unit.
    """
    found = category_selectivity(recording)
    if not 0 <= unit < recording.sizes["neuroid"]:
        raise InvalidArgumentError(f"unit: expected a column from 0 to {recording.sizes['neuroid'] - 1}, got {unit!r}.")
    one = found.isel(neuroid=unit)
    chosen = select(recording, None)
    first = chosen.rows[np.searchsorted(chosen.index, np.arange(len(chosen.names)))]
    label, y = recording[CATEGORY].values[first].astype(str), means(recording.isel(neuroid=[unit]), chosen)[:, 0]
    order = np.argsort(-np.nan_to_num(one["d_prime"].values, nan=-np.inf), kind="stable")[:24]
    names = [str(one[CATEGORY].values[i]) for i in order]
    figure = Figure(figsize=(8.6, 1.2 + 0.34 * len(names)), dpi=150, layout="constrained")
    responses, distances = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    for place, (i, name) in enumerate(zip(order, names, strict=True)):
        own = y[label == name]
        across = np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else np.zeros(1)
        responses.plot(own, place + across, "o", ms=3.5, alpha=0.55, color=NATURAL, mec="none")
        point = one.isel({CATEGORY: i})
        responses.errorbar(
            float(point["mean"]), place, xerr=np.nan_to_num(float(point["sem"])), fmt="|", ms=13, mew=2, color=EVOLVED
        )
        d, low, high = (float(point[n]) for n in ("d_prime", "d_prime_low", "d_prime_high"))
        if np.isfinite(d):
            distances.plot([low, high], [place, place], lw=2, color=EVOLVED, solid_capstyle="butt")
            distances.plot(d, place, "o", ms=5, color=EVOLVED)
    distances.axvline(0, color=INK, lw=0.8, ls=(0, (3, 3)), zorder=0)
    responses.set_yticks(range(len(names)), labels=names)
    responses.invert_yaxis()
    responses.set_xlabel("mean response to an image")
    distances.set_xlabel("d′ against all other images")
    caption(responses, f"{recorded_title(recording, unit)}: {len(y)} images; mean ± s.e.m.")
    caption(distances, "95 % over images")
    dress(responses)
    dress(distances)
    return figure
