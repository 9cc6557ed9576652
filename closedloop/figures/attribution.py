"""Draws images beside what a response to them comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.checks import check_any_images
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import caption
from closedloop.gradients.attribution import FILTERS, Filter, attribution_pictures
from closedloop.images.eight_bit import to_bytes
from closedloop.signatures import at_door

#: What each display filter shows of an attribution.
FILTER_WORDS = {"raw": "signed, grey is 0", "gray": "mean of colours", "norm": "size", "normblur": "size, blurred"}


@at_door
def plot_attributions(
    images: NDArray[Any],
    attributions: xr.DataArray,
    filters: Sequence[Filter] = FILTERS,
    names: Sequence[str] | None = None,
    target: str = "",
) -> Figure:
    """Draws a row for each image: the image with its score, and its attribution through display filters.

    Args:
        images: ``(n, 3, h, w)``, RGB in [0, 1].
        attributions: Of these images; see `closedloop.gradients.attribution.attribute`.
        filters: See `closedloop.gradients.attribution.attribution_pictures`.
        names: Of the images.
        target: What was attributed, in words; default the objective's text.

    Raises:
        InvalidArgumentError: There is no image, no filter, or another number of attributions than of images.
    """
    images = check_any_images(images)
    if len(images) != len(attributions) or not len(images) or not filters:
        raise InvalidArgumentError(
            f"images, attributions: expected as many of one as of the other, at least one, got {len(images)} and "
            f"{len(attributions)}; and at least one filter, got {len(filters)}."
        )
    shown = [np.asarray(images), *(attribution_pictures(attributions, f) for f in filters)]
    rows, columns = len(images), len(shown)
    figure = Figure(figsize=(2.2 * columns, 2.45 * rows), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for i, row in enumerate(axes):
        for ax, pictures, name in zip(row, shown, ("", *filters), strict=True):
            ax.imshow(to_bytes(pictures[i]).transpose(1, 2, 0), interpolation="nearest")
            ax.axis("off")
            if i == 0 and name:
                caption(ax, f"{name}: {FILTER_WORDS[name]}")
        title = "" if names is None else f"{names[i]}\n"
        caption(row[0], f"{title}score {float(attributions['score'][i]):.4g}")
    words = f"{attributions['objective'].item()} of {attributions['subject'].item()}"
    figure.suptitle(
        f"{attributions['method'].item()} of {target or words}", fontsize=10, x=0.01, ha="left"
    ).set_parse_math(False)
    return figure
