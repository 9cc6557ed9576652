"""Draws a comparison of methods: best natural images beside what each method found, and responses over budgets."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from closedloop.analysis.contenders import METHOD_WORDS
from closedloop.errors import InvalidArgumentError
from closedloop.figures.style import EVOLVED, INK, NATURAL, dress, line_style, new_axes
from closedloop.figures.tiles import contrast_words, stretched
from closedloop.interfaces import FloatArray
from closedloop.recording.titles import result_title
from closedloop.signatures import at_door


@at_door
def plot_contenders(result: xr.Dataset, budget: str | None = None, seed: int | None = None, units: int = 12) -> Figure:
    """Draws a row for each unit: natural best, then the image of each contender, each with its response below.

    Images of low contrast are shown stretched, with the factor on them. The number in brackets is the response ÷ that
    of the best natural image; a failure is written out in its place.

    Args:
        result: What `closedloop.protocols.compare` returned.
        budget: Which; default the first.
        seed: Which; default the first.
        units: At most so many rows, the first ones.

    Raises:
        InvalidArgumentError: No such budget or seed.
    """
    part = _part(result, budget, seed).isel(unit=slice(units))
    names = [str(name) for name in part["contender"].values]
    figure, grid = _sheet(part.sizes["unit"], len(names) + 1)
    box = {"facecolor": "black", "alpha": 0.55, "pad": 1.2, "lw": 0}
    style: dict[str, Any] = {"fontsize": 5.5, "va": "top", "color": "white", "parse_math": False, "bbox": box}
    for i, axes in enumerate(grid):
        unit = part.isel(unit=i)
        _tile(axes[0], unit["natural_image"].values, f"{float(unit['natural_best']):.3g}", NATURAL)
        for ax, name in zip(axes[1:], names, strict=True):
            one = unit.sel(contender=name)
            image, factor = stretched(np.moveaxis(one["image"].values, 0, -1))
            _tile(ax, np.moveaxis(image, -1, 0), _number(one), EVOLVED if name == "evolved" else INK)
            if factor != 1:
                ax.text(0.03, 0.03, contrast_words(factor), transform=ax.transAxes, **{**style, "va": "bottom"})
        name = textwrap.fill(result_title(unit), 24)
        axes[0].text(0.03, 0.96, name, transform=axes[0].transAxes, **style)
    natural = f"best of {int(part['natural_n'])}\nnatural images"
    titles = [METHOD_WORDS.get(name, name).replace(" (", "\n(") for name in names]
    for axes, title in zip(grid[0], [natural, *titles], strict=True):
        axes.set_title(title, fontsize=8, color=INK)
    words = f"responses to the last image, 8 bits (÷ best natural); budget {part['budget'].item()}"
    words += f", seed {part['seed'].item()}"
    words = textwrap.fill(words, int(19 * figure.get_figwidth()))  # some 19 letters of this size in an inch
    figure.text(0.02, 0.06 / figure.get_figheight(), words, fontsize=7, color=INK)
    return figure


def _sheet(rows: int, columns: int) -> tuple[Figure, NDArray[Any]]:
    """Returns a figure and its axes ``(rows, columns)``: square tiles with room for two lines of words below each."""
    tile_in, words_in = 1.25, 0.36
    height_in = rows * (tile_in + words_in) + 0.85
    figure = Figure(figsize=(columns * tile_in * 1.06 + 0.3, height_in), dpi=150)
    # Half an inch for the titles above and for the sentence below; gaps are counted in tiles.
    margins = {"left": 0.02, "right": 0.995, "top": 1 - 0.5 / height_in, "bottom": 0.55 / height_in}
    gaps = {"wspace": 0.06, "hspace": words_in / tile_in}
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw={**margins, **gaps})


@at_door
def plot_budgets(result: xr.Dataset, ax: Axes | None = None, budget: str | None = None) -> Axes:
    """Draws the best response so far ÷ that of the best natural image over its cost: medians over units, quartiles.

    Args:
        result: What `closedloop.protocols.compare` returned.
        ax: Where to draw; default a new figure.
        budget: Which; default the one that cost most.
    """
    ax = new_axes(ax, (6.4, 4.0))
    by_cost = result["forward_equivalents"].median(("contender", "seed", "unit"))
    part = result.sel(budget=str(by_cost["budget"].values[by_cost.values.argmax()]) if budget is None else budget)
    names = [str(name) for name in part["contender"].values]
    others = [name for name in names if name != "evolved"]
    for name in names:
        one = part.sel(contender=name)
        share = (one["curve_response"].mean("seed") / one["natural_best"]).transpose("unit", "point").values
        cost = one["curve_cost"].median(("seed", "unit")).values
        usable = np.isfinite(share).all(1) & (one["natural_best"].values > 0)
        if not usable.any():
            continue
        low, middle, high = np.quantile(share[usable], [0.25, 0.5, 0.75], axis=0)
        style = line_style(0 if name == "evolved" else 1 + others.index(name))  # it has its colour everywhere
        ax.plot(cost, middle, label=name, lw=1.8, **style)
        ax.fill_between(cost, low, high, color=style["color"], alpha=0.12, lw=0)
    ax.axhline(1, color=INK, lw=1, ls=":", label="best natural image")
    both = str(result["count"].item()) == "forward_equivalents"
    ax.set_xlabel("forward-equivalents (backward = 2)" if both else "forward passes")
    ax.set_ylabel("best response so far ÷ best natural image")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.legend(frameon=False, fontsize=8)
    ax.set_title(f"median and quartiles over {result.sizes['unit']} units", fontsize=9, loc="left")
    return dress(ax)


def _part(result: xr.Dataset, budget: str | None, seed: int | None) -> xr.Dataset:
    """Returns the part of one budget and one seed; of the first where none was named."""
    chosen = {"budget": budget, "seed": seed}
    for dim, value in chosen.items():
        known = result[dim].values.tolist()
        if value is not None and value not in known:
            raise InvalidArgumentError(f"{dim}: expected one of {known}, got {value!r}.")
        chosen[dim] = known[0] if value is None else value
    return result.sel(budget=chosen["budget"], seed=chosen["seed"])


def _number(one: xr.Dataset) -> str:
    """Writes response and ratio, and below them the first words of what went wrong."""
    response, ratio, failure = float(one["response"]), float(one["ratio"]), str(one["failure"].item())
    words = f"{response:.3g}" + (f" (×{ratio:.2g})" if np.isfinite(ratio) else "")
    return words + (f"\n{failure.split(':')[0][:26]}" if failure else "")


def _tile(ax: Axes, image: NDArray[np.uint8] | FloatArray, words: str, colour: str) -> None:
    """Draws an image ``(3, h, w)`` in a frame of a colour, with words below."""
    ax.imshow(np.moveaxis(image, 0, -1), interpolation="lanczos")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(1.2)
    ax.set_xlabel(words, fontsize=7, color=colour, labelpad=2)
