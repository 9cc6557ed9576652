"""Draws how preferences develop while a network is trained: a filmstrip above curves on the same axis, and a movie.

Both take what `closedloop.analysis.development` returned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.analysis.developments import check_development, layer_table
from closedloop.errors import InvalidArgumentError, closest
from closedloop.figures.allocation import HELPS, HURTS
from closedloop.figures.style import EVOLVED, INK, NATURAL, as_pixels, dress
from closedloop.images.movies import in_colour
from closedloop.signatures import at_door

#: Layers beside each other, and units below each other, at most.
_BESIDE, _UNITS = 3, 8
#: Height and width in pixels below which a picture's pixels are shown as squares.
_SMALL = 64
#: Width of a picture on the page, in inches.
_CELL_IN = 0.62


@at_door
def plot_development(found: xr.Dataset, layers: Sequence[str] | None = None) -> Figure:
    """Draws a page: of each layer the filmstrip of its units, and on the same axis what became of them.

    Each row is a unit, each column a look; the number below a picture is the unit's drive: its re-tested response, less
    the mean over the fixed set of images, in standard deviations. Of several evolutions the first is shown. Below stand
    selectivity (a thin line for each unit, a thick one for the median), likeness to the look before (medians), and what
    the layer came to since the look before, blue where it helped.

    Args:
        found: See `closedloop.analysis.development`.
        layers: Names; None for all.

    Raises:
        InvalidArgumentError: It is another Dataset, or there is no such layer.
    """
    names = _layers(found, layers)
    across = min(len(names), _BESIDE)
    down = -(-len(names) // across)
    looks, units = found.sizes["look"], min(_UNITS, max(int((found["layer"] == n).sum()) for n in names))
    width, film = across * (looks * _CELL_IN + 0.9), units * _CELL_IN * 1.25
    figure = Figure(figsize=(width, down * (film + 4.2) + 0.5), dpi=130, layout="constrained")
    heading = f"{found.attrs['subject']}: what units want to see while it is trained, seed {found.attrs['seed']}"
    figure.suptitle(heading, fontsize=11, weight="bold", color=INK, x=0.02, ha="left", parse_math=False)
    grid = figure.add_gridspec(down, across)
    for place, name in enumerate(names):
        inner = grid[place // across, place % across].subgridspec(4, 1, height_ratios=[film, 1.2, 1.2, 1.2])
        strip = figure.add_subplot(inner[0])
        _draw_film(strip, found, name, units)
        for i, draw in enumerate((_draw_selectivity, _draw_likeness, _draw_shares)):
            ax = figure.add_subplot(inner[1 + i], sharex=strip)
            draw(ax, found, name, first=place % across == 0)
            ax.tick_params(labelbottom=i == 2)
            dress(ax)
            if i == 2:
                ax.set_xlabel("step of training", fontsize=9)
    return figure


def _layers(found: xr.Dataset, layers: Sequence[str] | None) -> list[str]:
    """Returns the layers that are drawn."""
    known = list(dict.fromkeys(check_development(found)["layer"].values.tolist()))
    for name in layers or ():
        if name not in known:
            raise InvalidArgumentError(f"layers: no layer {name!r}.{closest(name, known)}")
    return list(layers or known)


def _of(found: xr.Dataset, layer: str) -> NDArray[np.intp]:
    return np.flatnonzero(found["layer"].values == layer)


def _draw_film(ax: Axes, found: xr.Dataset, layer: str, units: int) -> None:
    """Draws pictures, a row for each unit, a column for each look."""
    own = _of(found, layer)[:units]
    image, drive = found["image"].isel(start=0).values, found["drive"].values
    smooth = "nearest" if image.shape[-1] < _SMALL else "lanczos"
    for row, unit in enumerate(own):
        for look in range(found.sizes["look"]):
            box = (look - 0.46, look + 0.46, row + 0.32, row - 0.45)
            ax.imshow(in_colour(image[look, unit]), extent=box, interpolation=smooth, aspect="auto")
            ax.text(look, row + 0.43, f"{drive[look, unit]:.1f}", ha="center", va="center", fontsize=6.5, color=INK)
    ax.set_xlim(-0.6, found.sizes["look"] - 0.4)
    ax.set_ylim(units - 0.45, -0.55)
    ax.set_yticks(range(len(own)), [_short(found, unit) for unit in own])
    ax.set_xticks(range(found.sizes["look"]), found["step"].values.tolist())
    ax.tick_params(length=0, labelbottom=False)
    ax.set_title(layer, fontsize=10, loc="left", parse_math=False)
    dress(ax)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _short(found: xr.Dataset, unit: int) -> str:
    """Returns what a unit is called within its layer."""
    name, layer = str(found["neuroid_id"].values[unit]), str(found["layer"].values[unit])
    return name.rpartition(f"{layer}.")[2] or name


def _draw_selectivity(ax: Axes, found: xr.Dataset, layer: str, first: bool) -> None:
    looks = np.arange(found.sizes["look"])
    ax.plot(looks, found["selectivity"].values[:, _of(found, layer)], color=NATURAL, lw=0.6, alpha=0.5)
    ax.plot(looks, layer_table(found, layer)["selectivity"].values, color=NATURAL, lw=1.8)
    ax.set_ylim(0, 1.02)
    if first:
        by_class = found.attrs["selectivity"] != "sparseness"
        ax.set_ylabel("variance by\nclass" if by_class else "sparseness", fontsize=9)


def _draw_likeness(ax: Axes, found: xr.Dataset, layer: str, first: bool) -> None:
    looks, table = np.arange(found.sizes["look"]), layer_table(found, layer)
    ax.plot(looks, table["image_likeness"].values, color=EVOLVED, lw=1.5, marker="o", ms=3, label="images")
    ax.plot(looks, table["image_agreement"].values, color=EVOLVED, lw=1, ls=":", label="images, same look")
    ax.plot(looks, table["tuning_likeness"].values, color=INK, lw=1.5, marker="o", ms=3, label="tuning")
    ax.axhline(0, color="#BBBBBB", lw=0.6)
    ax.set_ylim(
        min(-0.1, *(np.nanmin(table[n].values, initial=0) for n in ("image_likeness", "tuning_likeness"))), 1.02
    )
    if first:
        ax.set_ylabel("like the look\nbefore (r)", fontsize=9)
        ax.legend(frameon=False, fontsize=7, loc="lower right")


def _draw_shares(ax: Axes, found: xr.Dataset, layer: str, first: bool) -> None:
    looks, table = np.arange(found.sizes["look"]), layer_table(found, layer)
    shares = table["allocation"].values
    ax.bar(looks, shares, 0.6, color=[HELPS if value < 0 else HURTS for value in shares])
    ax.plot(looks, table["allocation_so_far"].values, color=INK, lw=1.2)
    ax.axhline(0, color=INK, lw=0.6)
    if first:
        ax.set_ylabel("change of the\nloss by it", fontsize=9)
    if np.isnan(shares).all():
        ax.text(0.5, 0.5, "no parameters that learn", transform=ax.transAxes, ha="center", fontsize=8, color=INK)


@at_door
def development_movie(found: xr.Dataset, layers: Sequence[str] | None = None, cell: int = 72) -> NDArray[np.uint8]:
    """Draws the same as a movie: what each unit wants to see, a picture for each look, above the course of the loss.

    Args:
        found: See `closedloop.analysis.development`.
        layers: Names; None for all.
        cell: Height and width of each picture, in pixels, about.

    Returns:
        ``(looks, 3, h, w)``, RGB; `closedloop.images.movies.encode_webp` makes a file of it.

    Raises:
        InvalidArgumentError: It is another Dataset, or there is no such layer.
    """
    names = _layers(found, layers)
    units = min(_UNITS, max(len(_of(found, name)) for name in names))
    dpi = 100
    size = ((units * cell * 1.08 + 90) / dpi, (len(names) * cell * 1.22 + 150) / dpi)
    frames = [_frame(found, names, units, look, size, dpi) for look in range(found.sizes["look"])]
    return np.stack(frames)


def _frame(
    found: xr.Dataset, names: Sequence[str], units: int, look: int, size_in: tuple[float, float], dpi: int
) -> NDArray[np.uint8]:
    """Draws one look."""
    figure = Figure(figsize=size_in, dpi=dpi, layout="constrained")
    grid = figure.add_gridspec(len(names) + 1, units, height_ratios=[*[1.0] * len(names), 0.9])
    image, drive = found["image"].isel(start=0).values, found["drive"].values
    smooth = "nearest" if image.shape[-1] < _SMALL else "lanczos"
    for row, name in enumerate(names):
        for column, unit in enumerate(_of(found, name)[:units]):
            ax = figure.add_subplot(grid[row, column])
            ax.imshow(in_colour(image[look, unit]), interpolation=smooth)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(
                f"{_short(found, unit)}: {drive[look, unit]:.1f}", fontsize=7, color=INK, pad=2, parse_math=False
            )
            if column == 0:
                ax.set_ylabel(name, fontsize=8, color=INK, parse_math=False)
    ax = figure.add_subplot(grid[len(names), :])
    step, loss = found["step"].values, found["loss"].values
    ax.plot(step, loss, color=INK, lw=1.2, marker="o", ms=2.5)
    ax.plot(step[look], loss[look], "o", color=EVOLVED, ms=7)
    ax.set_ylabel("loss", fontsize=8)
    ax.set_xlabel("step of training", fontsize=8)
    figure.suptitle(f"step {step[look]}, loss {loss[look]:.3g}", fontsize=10, color=INK, x=0.02, ha="left")
    dress(ax)
    ax.tick_params(labelsize=7)
    return np.ascontiguousarray(as_pixels(figure).transpose(2, 0, 1))
