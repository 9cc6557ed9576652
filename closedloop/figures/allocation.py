"""Draws who helped and who hurt while a network was trained: the figures of Lan, Liu, Zhou & Yosinski (2019).

What helps, a share below 0, is blue; what hurts is orange. All take what ``LossChangeAllocation.dataset()`` or
`closedloop.analysis.read_allocation` returned.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from closedloop.analysis.allocation import (
    PARTS,
    definition,
    extreme_parameters,
    layer_allocations,
    of_allocation,
    oscillation,
    step_shares,
)
from closedloop.analysis.synchrony import learning_peaks, peak_synchrony
from closedloop.errors import InvalidArgumentError, closest
from closedloop.figures.style import EVOLVED, INK, NATURAL, caption, colour_bar, dress, in_lines, line_style, new_axes
from closedloop.interfaces import FloatArray
from closedloop.readable import percent

#: Colours of what helps, what hurts, and what does nothing.
HELPS, HURTS, NOTHING = NATURAL, EVOLVED, "#BBBBBB"
#: From what helps to what hurts.
HELP_TO_HURT = LinearSegmentedColormap.from_list("help-to-hurt", [HELPS, "white", HURTS])
#: Layers whose courses are named.
NAMED = 10
#: Percentile of the sizes of shares at which the colours of a heat map end.
BRIGHTEST = 99


@of_allocation
def plot_allocation(allocation: xr.Dataset) -> Figure:
    """Draws a page: the loss and what is missed of it, layers, shares in each step, neurons, and peaks of learning."""
    figure = Figure(figsize=(12, 11), dpi=130, layout="constrained")
    told = dict.fromkeys(("subject", "of", "rule", "seed"), "unknown") | allocation.attrs
    heading = (
        f"Loss change allocation: {told['subject']}, loss of {told['of']}, rule {told['rule']}, seed {told['seed']}"
    )
    figure.suptitle(heading, fontsize=11, weight="bold", color=INK, x=0.02, ha="left", parse_math=False)
    if said := definition(allocation):
        words = figure.supxlabel("", fontsize=8.5, color=INK, x=0.02, ha="left")
        words.set(**in_lines(f"The loss: {said}.", 160))
    grid = figure.add_gridspec(3, 2)
    inner = grid[0, 0].subgridspec(2, 1, height_ratios=[3, 1])
    loss = figure.add_subplot(inner[0])
    residual = figure.add_subplot(inner[1], sharex=loss)
    plot_reconstruction(allocation, loss, residual)
    plot_layer_totals(allocation, figure.add_subplot(grid[0, 1]))
    plot_cumulative(allocation, figure.add_subplot(grid[1, 0]))
    plot_step_shares(allocation, figure.add_subplot(grid[1, 1]))
    plot_neurons(allocation, ax=figure.add_subplot(grid[2, 0]))
    plot_peaks(allocation, figure.add_subplot(grid[2, 1]))
    return figure


@of_allocation
def plot_reconstruction(allocation: xr.Dataset, ax: Axes | None = None, residual: Axes | None = None) -> Axes:
    """Draws the loss after each step beside what the shares make of it; on further axes what a step misses."""
    if ax is None:
        figure = Figure(figsize=(6, 4.5), dpi=150, layout="constrained")
        ax, residual = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    step, missed = allocation["step"].values, allocation["residual"].values
    ax.plot(step, allocation["loss"].values, color=INK, lw=2.4, alpha=0.5, label="true")
    ax.plot(step, allocation["reconstructed"].values, color=EVOLVED, lw=1, ls="--", label="reconstructed")
    ax.set_ylabel(f"loss ({allocation.attrs['of']})", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    share = missed.sum() / (allocation["change"].sum().item() or np.nan)
    caption(ax, f"missed in all: {missed.sum():.2g} ({percent(abs(share), 2)} of the change)")
    if residual is not None:
        residual.plot(step, missed, color=INK, lw=0.8)
        residual.axhline(0, color=NOTHING, lw=0.6)
        residual.set_ylabel("residual", fontsize=9)
        dress(residual).set_xlabel("step", fontsize=9)
    else:
        ax.set_xlabel("step", fontsize=9)
    return dress(ax)


@of_allocation
def plot_layer_totals(allocation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws what each layer came to over all steps, and how much of it kernels, biases and normalization."""
    ax = new_axes(ax)
    layers = layer_allocations(allocation)
    names, place = _names(layers), np.arange(layers.sizes["layer"])
    values = np.stack([layers[part].values for part in PARTS])
    there = values != 0
    width = 0.8 / np.maximum(there.sum(0), 1)  # what a layer has shares its row
    shift = (np.cumsum(there, 0) - 1 - (there.sum(0) - 1) / 2) * width
    for i, colour in enumerate((NATURAL, "#E69F00", "#CC79A7")):
        if (own := there[i]).any():
            ax.barh((place + shift[i])[own], values[i, own], 0.9 * width[own], color=colour, label=PARTS[i])
    ax.plot(layers["total"].values, place, "D", color=INK, ms=4, label="all")
    ax.axvline(0, color=INK, lw=0.6)
    ax.set_yticks(place, names)
    ax.invert_yaxis()
    ax.set_xlabel("change of the loss, in all (below 0 helps)", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    hurting = int((layers["total"].values > 0).sum())
    caption(ax, f"{hurting} of {len(names)} layers hurt, net")
    return dress(ax)


@of_allocation
def plot_cumulative(allocation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws what each layer came to up to each step; of many layers those are named that came to most."""
    ax = new_axes(ax)
    step, names = allocation["step"].values, _names(allocation)
    sums = allocation["by_layer"].cumsum("step").values
    named = np.argsort(-np.abs(sums[-1]), kind="stable")[:NAMED]
    for i in range(len(names)):
        own = np.flatnonzero(named == i)
        look = line_style(int(own[0])) if len(own) else {"color": NOTHING, "ls": "-"}
        ax.plot(step, sums[:, i], lw=1.3 if len(own) else 0.8, zorder=2 if len(own) else 1, **look)
    _name_ends(ax, step[-1], {names[i]: (sums[-1, i], line_style(n)["color"]) for n, i in enumerate(named)}, sums)
    ax.axhline(0, color=INK, lw=0.6)
    ax.set_xlabel("step", fontsize=9)
    ax.set_ylabel("change of the loss up to here", fontsize=9)
    others = len(names) - len(named)
    caption(ax, "layers, cumulative" + (f"; grey: {others} that came to less" if others else ""))
    return dress(ax)


def _name_ends(ax: Axes, last: float, ends: dict[str, tuple[float, str]], sums: FloatArray) -> None:
    """Writes names beside the ends of lines, a line of text apart at least.

    Args:
        ax: Where.
        last: Where lines end.
        ends: By name, how high a line ends, and its colour.
        sums: All heights, which make the axis.
    """
    low, high = min(float(sums.min()), 0.0), max(float(sums.max()), 0.0)
    gap = 0.062 * ((high - low) or 1.0)
    order = sorted(ends, key=lambda name: ends[name][0])
    places = [ends[name][0] for name in order]
    for i in range(1, len(places)):  # from below to above
        places[i] = max(places[i], places[i - 1] + gap)
    if (over := (places[-1] if places else high) - max(high, low + gap * (len(places) - 1))) > 0:
        places[-1:] = [places[-1] - over]
        for i in range(len(places) - 2, -1, -1):  # and back, where there is no more room above
            places[i] = min(places[i], places[i + 1] - gap)
    for name, place in zip(order, places, strict=True):
        where = ax.get_yaxis_transform()
        ax.text(1.01, place, name, color=ends[name][1], fontsize=7, va="center", transform=where, parse_math=False)
    ax.set_xlim(right=last)


@of_allocation
def plot_step_shares(allocation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws which part of the parameters helps, does nothing, and hurts in each step."""
    ax = new_axes(ax)
    shares = step_shares(allocation)
    step = shares["step"].values
    parts = [shares[name].values for name in ("helping", "nothing", "hurting")]
    ax.stackplot(step, *parts, colors=(HELPS, NOTHING, HURTS), labels=("help", "do nothing", "hurt"), lw=0)
    ax.axhline(0.5, color="white", lw=0.8, ls=":")
    ax.set_ylim(0, 1)
    ax.set_xlabel("step", fontsize=9)
    ax.set_ylabel("share of parameters", fontsize=9)
    ax.legend(frameon=True, fontsize=8, loc="lower right")
    means = {name: float(shares[name].mean()) for name in ("helping", "hurting", "helping_of_moving")}
    all_steps = f"help {percent(means['helping'], 1)}, hurt {percent(means['hurting'], 1)}"
    caption(ax, f"{all_steps}; of those that move {percent(means['helping_of_moving'], 1)} help")
    return dress(ax)


@of_allocation
def plot_parameter_shares(allocation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draws in which part of the steps each parameter helps: how many do in which part.

    Raises:
        InvalidArgumentError: Parameters are not known: ``dataset(parameters=True)`` has them.
    """
    if "steps_helped" not in allocation:
        raise InvalidArgumentError("allocation: expected counts of each parameter; say dataset(parameters=True).")
    ax = new_axes(ax)
    helped, hurt = allocation["steps_helped"].values, allocation["steps_hurt"].values
    moving = helped + hurt > 0
    share = helped[moving] / (helped + hurt)[moving]
    ax.hist(share, bins=41, range=(0, 1), color=HELPS)
    ax.axvline(0.5, color=INK, lw=0.8, ls=":")
    ax.set_xlabel("share of its steps in which a parameter helps", fontsize=9)
    ax.set_ylabel("parameters", fontsize=9)
    still = int((~moving).sum())
    caption(ax, f"{moving.sum():,} parameters, mean {percent(share.mean(), 1)}; {still:,} more never do anything")
    return dress(ax)


@of_allocation
def plot_neurons(allocation: xr.Dataset, layer: str | None = None, ax: Axes | None = None) -> Axes:
    """Draws the share of each neuron in each step as a heat map, whose colours end at the 99th percentile.

    Args:
        allocation: See `closedloop.analysis.allocation_dataset`.
        layer: One layer; None for all, below each other.
        ax: Where to draw; None for a new figure.

    Raises:
        InvalidArgumentError: There is no such layer.
    """
    names = _names(allocation)
    if layer is not None and layer not in names:
        raise InvalidArgumentError(f"layer: no layer {layer!r}.{closest(layer, names)}")
    ax = new_axes(ax)
    owner = allocation["neuron_layer"].values
    rows = np.arange(len(owner)) if layer is None else np.flatnonzero(owner == layer)
    values = allocation["by_neuron"].values[:, rows].T
    limit = float(np.percentile(np.abs(values), BRIGHTEST)) or float(np.abs(values).max()) or 1.0
    extent = (-0.5, values.shape[1] - 0.5, len(rows) - 0.5, -0.5)
    drawn = ax.imshow(
        values, cmap=HELP_TO_HURT, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest", extent=extent
    )
    if layer is None:
        first = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
        ax.hlines(first[1:] - 0.5, *extent[:2], color=INK, lw=0.4)
        ax.set_yticks((first + np.append(first[1:], len(owner)) - 1) / 2, owner[first])
    else:
        ax.set_ylabel(f"neurons of {layer}", fontsize=9)
    ax.set_xlabel("step", fontsize=9)
    colour_bar(ax, drawn, "helps  ←  change of the loss  →  hurts")
    caption(ax, f"{len(rows):,} neurons; colours end at the {BRIGHTEST}th percentile, {limit:.2g}")
    dress(ax, box=True)
    if layer is None:
        ax.tick_params(axis="y", labelsize=6.5, length=0)
    return ax


@of_allocation
def plot_parameters(allocation: xr.Dataset, count: int = 5, seed: int = 0, ax: Axes | None = None) -> Axes:
    """Draws cumulative shares of parameters that helped most, that hurt most, and of random ones.

    Args:
        allocation: Of a run in which every parameter was recorded.
        count: Of each sort.
        seed: Of those drawn at random.
        ax: Where to draw; None for a new figure.
    """
    ax = new_axes(ax)
    found = extreme_parameters(allocation, count, seed)
    colours = {"best": HELPS, "worst": HURTS, "random": "#888888"}
    for sort, colour in colours.items():
        for i in range(found.sizes["parameter"]):
            course = found["course"].sel(sort=sort).values[i]
            ax.plot(found["step"].values, course, color=colour, lw=0.9, label=sort if i == 0 else None)
    # What hurts is often far less than what helps: beyond the worst ones the axis is logarithmic.
    edge = float(np.abs(found["course"].sel(sort="worst")).max())
    if 0 < edge < np.abs(found["course"].values).max() / 3:
        ax.set_yscale("symlog", linthresh=edge, linscale=1.5)
        ax.axhline(-edge, color=NOTHING, lw=0.6, ls=":")
    ax.axhline(0, color=INK, lw=0.6)
    ax.set_xlabel("step", fontsize=9)
    ax.set_ylabel("change of the loss up to here", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    changes = float(oscillation(allocation, "parameter")["sign_changes"].mean())
    caption(
        ax,
        f"{found.sizes['parameter']} parameters of each sort; from step to step {percent(changes)} of signs change",
    )
    return dress(ax)


@of_allocation
def plot_peaks(allocation: xr.Dataset, ax: Axes | None = None, width: int = 2) -> Axes:
    """Draws each layer's peaks of learning, those in the same step as another layer's darker, with the test.

    Args:
        allocation: See `closedloop.analysis.allocation_dataset`.
        ax: Where to draw; None for a new figure.
        width: See `closedloop.analysis.learning_peaks`.
    """
    ax = new_axes(ax)
    marks = learning_peaks(allocation["by_layer"], width).values
    together = marks.sum(1) > 1
    for colour, rows in ((NOTHING, ~together), (INK, together)):
        step, layer = np.nonzero(marks & rows[:, None])
        ax.plot(allocation["step"].values[step], layer, "|", color=colour, ms=7)
    names = _names(allocation)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("step", fontsize=9)
    words = "too few peaks of learning"
    if (marks.sum(0) > 0).sum() > 1:
        test = peak_synchrony(allocation["by_layer"], width)
        words = f"peaks coincide {float(test['ratio']):.2f} times as often as by chance, p = {float(test['p']):.2g}"
    caption(ax, words)
    return dress(ax)


def _names(allocation: xr.Dataset) -> list[str]:
    return [str(name) for name in allocation["layer"].values]
