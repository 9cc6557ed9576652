"""Draws what one unit's image does to other units, and how reliably a unit answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from closedloop.analysis import cross_driving, noise_ceiling, split_half
from closedloop.analysis.summary import target_name
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures.style import COLOUR_MAP, INK, NATURAL, caption, colour_bar, dress, new_axes
from closedloop.interfaces import FloatArray
from closedloop.readable import with_error
from closedloop.recording.lean import all_units
from closedloop.seeds import named_generator
from closedloop.signatures import at_door


@at_door
def plot_cross_driving(recording: xr.Dataset | Mapping[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """Draws the response of each evolution's unit to the image evolved for every other, as a matrix of numbers.

    Args:
        recording: One recording with several threads, or several by name in which each records all the units.
        ax: Where to draw; None for a new figure.

    Returns:
        The axes: responding unit (x) by the unit that the image was evolved for (y). The colour is the response divided
        by that of the same unit to its own evolved image; the numbers are mean response ± standard error.

    Raises:
        RecordingError: There are fewer than two evolutions, or no response at all.
    """
    found = cross_driving(recording)
    labels = [str(label) for label in found["evolved_for"].values]
    if len(labels) < 2 or not np.isfinite(found["response"].values).any():
        raise RecordingError(f"recording: expected responses to images of two evolutions or more, got {labels}.")
    n = len(labels)
    # In 4.8 x 3.4 inches and more its caption and the name of its colours fit.
    ax = new_axes(ax, (max(1.9 + 1.05 * n, 4.8), max(1.4 + 0.8 * n, 3.4)))
    shown = found["normalized"].values
    highest = float(np.nanmax(shown, initial=1))
    image = ax.imshow(np.ma.masked_invalid(shown), cmap=COLOUR_MAP, vmin=0, vmax=highest)
    for i in range(n):
        for j in range(n):
            _write_cell(ax, i, j, found, highest)
    ax.set_xticks(range(n), labels=labels, rotation=0 if n <= 4 else 45)
    ax.set_yticks(range(n), labels=labels)
    ax.set_xlabel("responding unit of")
    ax.set_ylabel("image evolved for")
    colour_bar(ax, image, "÷ response to its own evolved image")
    counts = found["n"].values[np.isfinite(found["n"].values)]
    basis = ", ".join(dict.fromkeys(str(b) for b in found["basis"].values))
    caption(ax, f"mean response ± s.e.m., n = {_span(counts)} ({basis})")
    return dress(ax, box=True)


def _write_cell(ax: Axes, i: int, j: int, found: xr.Dataset, highest: float) -> None:
    """Writes the numbers of one cell; a dash in an open field where there is none."""
    mean, sem, share = (float(found[name].values[i, j]) for name in ("response", "sem", "normalized"))
    if np.isnan(mean):
        ax.text(j, i, "–", ha="center", va="center", color=INK)
        return
    on_map = "#f7f7f7" if share < 0.65 * highest else "#111111"  # the colours of small values are dark
    colour = INK if np.isnan(share) else on_map
    ax.text(j, i, with_error(mean, sem).replace(" ±", "\n±"), ha="center", va="center", fontsize=9, color=colour)


def _span(counts: FloatArray) -> str:
    """Writes the smallest and the largest of some counts, once where they are the same."""
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


@at_door
def plot_reliability(
    recording: xr.Dataset, ax: Axes | None = None, unit: int = 0, kind: str | None = None, seed: int = 0
) -> Axes:
    """Draws how well one half of the repeats predicts the other: each image's mean in two random halves.

    Args:
        recording: See `closedloop.open_recording`.
        ax: Where to draw; None for a new figure.
        unit: Column of the responses.
        kind: Which presentations: "reference", "retest" …; None for all images presented at least twice.
        seed: Seed of the split that is drawn, and of those that are averaged.

    Returns:
        The axes: mean response in one half (x) and in the other (y), a dot for each image. The words give the
        split-half correlation over 100 splits, the Spearman-Brown reliability of all repeats, and the noise ceiling.

    Raises:
        InvalidArgumentError: No such unit.
        RecordingError: The recording cannot tell: no repeats, or a subject that always answers the same.
    """
    if not 0 <= unit < recording.sizes["neuroid"]:
        raise InvalidArgumentError(f"unit: expected a column from 0 to {recording.sizes['neuroid'] - 1}, got {unit!r}.")
    own = recording.isel(neuroid=[unit])
    found, ceiling = split_half(own, kind=kind, seed=seed), noise_ceiling(own, kind=kind)
    if reason := str(found["reason"].values[0]):
        raise RecordingError(f"recording: {reason}.")
    halves = random_halves(own, kind, seed)
    ax = new_axes(ax, (4.4, 4.0))
    ax.plot(*halves.T, "o", ms=4.5, alpha=0.6, color=NATURAL, mec="none")
    low, high = float(np.nanmin(halves)), float(np.nanmax(halves))
    ax.axline((low, low), (high, high), color=INK, lw=0.8, ls=(0, (3, 3)), zorder=0)
    ax.set_aspect("equal", "datalim")
    ax.set_xlabel("mean response, one half of the repeats")
    ax.set_ylabel("mean response, other half")
    r, sd, reliability = (float(found[name].values[0]) for name in ("r", "r_sd", "reliability"))
    words = f"split-half r = {r:.2f} ± {sd:.2f} (s.d. of 100 splits)\nreliability of all repeats {reliability:.2f}"
    words += f"\nnoise ceiling {float(ceiling['ceiling'].values[0]):.2f}"
    ax.text(0.03, 0.97, words, transform=ax.transAxes, va="top", fontsize=8.5, linespacing=1.4)
    caption(ax, f"{target_name(recording, f'unit({unit})')}: n = {len(halves)} images, one split, seed {seed}")
    return dress(ax)


def random_halves(recording: xr.Dataset, kind: str | None, seed: int) -> FloatArray:
    """Returns mean responses ``(images, 2)`` of the first unit in two random halves of each image's repeats."""
    recording = all_units(recording)
    rows = np.arange(recording.sizes["presentation"])
    rows = rows if kind is None else rows[recording["kind"].values == kind]
    values = recording["responses"].isel(presentation=rows, neuroid=0).values.astype(float)
    values = values.mean(-1) if values.ndim == 2 else values
    known = ~np.isnan(values)
    values, names = values[known], recording["stimulus_id"].values[rows][known]
    rng = named_generator(seed, "halves")
    means = []
    for name in np.unique(names.astype(str)):
        own = rng.permutation(values[names == name])
        half = len(own) // 2
        if half:
            means.append((own[:half].mean(), own[half : 2 * half].mean()))
    return np.array(means, dtype=float).reshape(-1, 2)
