"""Draws a session at a rig as it went: lost trials, the references, and the quality of the units, block by block."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.analysis.days import at_a_rig, reference_days, sittings
from closedloop.analysis.units import pieces, select
from closedloop.errors import RecordingError
from closedloop.figures.style import INK, NATURAL, caption, dress, line_style
from closedloop.interfaces import FloatArray
from closedloop.loop.protocol import RunFigure, RunSummary, RunTable
from closedloop.presentations import STATUSES, lost_words
from closedloop.readable import percent
from closedloop.recording.titles import recorded_titles, shared
from closedloop.signatures import at_door

#: Units whose quality has a line and a name each; of more the median and the middle half are drawn.
NAMED = 8
#: Presentations that a point of lost trials and of references stands for, at least.
LEAST = 40
#: Colours of what became of lost trials, in the order of `STATUSES`.
_LOST = dict(zip(STATUSES[1:], ("#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F"), strict=True))


@at_door
def plot_sittings(recording: xr.Dataset) -> Figure:
    """Draws what a person at a rig wants to know of a session afterwards, over its presentations.

    Args:
        recording: See `closedloop.open_recording`; made at a rig.

    Returns:
        The figure. Above: the share of trials that were lost, by what became of them. In the middle, where there are
        references: what units answer to them, over what they answered at first, the sum over all units. Below, where
        the rig says it: the signal to noise of each unit after each block. Dotted lines stand between days.

    Raises:
        RecordingError: It was not made at a rig.
    """
    if not at_a_rig(recording):
        raise RecordingError("recording: expected one that was made at a rig, which says what became of each trial.")
    drawn = [_draw_lost]
    if (recording["kind"].values == "reference").any():
        drawn.append(_draw_references)
    if "unit_snr" in recording and np.isfinite(recording["unit_snr"].values).any():
        drawn.append(_draw_quality)
    figure = Figure(figsize=(8.0, 0.7 + 1.75 * len(drawn)), dpi=150, layout="constrained")
    axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for ax, draw in zip(axes, drawn, strict=True):
        draw(ax, recording)
        dress(ax)
    _draw_days(axes, recording)
    axes[-1].set_xlabel("presentations", fontsize=9)
    axes[-1].set_xlim(0, recording.sizes["presentation"])
    return figure


def _draw_lost(ax: Axes, recording: xr.Dataset) -> None:
    status = recording["status"].values.astype(str)
    edges = _spans(recording)
    shares = {s: np.add.reduceat(status == s, edges[:-1]) / np.diff(edges) for s in _LOST if (status == s).any()}
    base = np.zeros(len(edges) - 1)
    for name, share in shares.items():
        ax.stairs(
            100 * (base + share),
            edges,
            baseline=100 * base,
            fill=True,
            color=_LOST[name],
            label=name.replace("_", " "),
            lw=0,
        )
        base = base + share
    ax.set_ylim(0, max(5.0, 115 * base.max()))
    ax.set_ylabel("lost trials (%)", fontsize=9)
    if shares:
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption(ax, f"{percent(np.mean(status != 'ok'), 1)} of {len(status):,} presentations gave no response")


def _spans(recording: xr.Dataset) -> NDArray[np.intp]:
    """Returns the first presentations of spans of whole blocks of one day, of `LEAST` presentations or more each."""
    block, day = recording["block_number"].values, recording["day"].values
    edges, last = [0], len(block)
    for start in np.flatnonzero(np.diff(block) != 0) + 1:
        new_day = day[start] != day[start - 1]
        if start - edges[-1] >= LEAST or new_day:
            edges.append(int(start))
    if len(edges) > 1 and last - edges[-1] < LEAST and day[edges[-1]] == day[edges[-1] - 1]:
        edges.pop()
    return np.array([*edges, last])


def _draw_references(ax: Axes, recording: xr.Dataset) -> None:
    """Draws Σ now ÷ Σ at first over the references of each span, with its standard error by the delta method."""
    chosen = select(recording, "reference")
    order = np.argsort(chosen.rows, kind="stable")
    rows, image = chosen.rows[order], chosen.index[order]
    total = np.concatenate([v for _, v in pieces(recording, rows)], axis=1).sum(axis=1)
    first = np.full(len(chosen.names), np.nan)
    again = np.zeros(len(rows), bool)
    for i, number in enumerate(image.tolist()):
        if np.isnan(first[number]):
            first[number] = total[i]
        else:
            again[i] = True
    edges = _spans(recording)
    span = np.searchsorted(edges, rows, side="right") - 1
    middle, gain, error = [], [], []
    for number in np.unique(span):
        own = (span == number) & again & ~np.isnan(total)
        x, y = first[image[own]], total[own]
        if own.sum() < 3 or not x.sum() > 0:
            continue
        ratio = y.sum() / x.sum()
        middle.append(rows[own].mean())
        gain.append(ratio)
        error.append(np.sqrt(((y - ratio * x) ** 2).sum() * len(x) / (len(x) - 1)) / x.sum())
    ax.axhline(1, color=INK, lw=0.8, ls=":")
    ax.errorbar(middle, gain, error, fmt="o", ms=3.5, lw=1, capsize=0, color=NATURAL)
    ax.set_ylabel("references ÷ first", fontsize=9)
    caption(ax, f"what all units answer to {len(chosen.names)} references, ÷ what they answered at first; ± s.e.m.")


def _draw_quality(ax: Axes, recording: xr.Dataset) -> None:
    """Draws the signal to noise that the rig says of each unit after each block, at the end of the block."""
    snr = recording["unit_snr"].values
    block = recording["block_number"].values
    ends = np.searchsorted(block, np.arange(len(snr)), side="right")
    titles, note = shared(recorded_titles(recording))
    if len(titles) <= NAMED:
        for i, title in enumerate(titles):
            ax.plot(ends, snr[:, i], lw=1.4, label=title, **line_style(i))
        ax.legend(
            frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), title=note or None, title_fontsize=8
        )
    else:
        low, middle, high = _quartiles(snr)
        ax.fill_between(ends, low, high, color=NATURAL, alpha=0.2, lw=0)
        ax.plot(ends, middle, lw=1.6, color=NATURAL)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("signal ÷ noise", fontsize=9)
    more = "" if len(titles) <= NAMED else f", median and middle half of {len(titles)} units"
    caption(ax, f"as the rig says after each block{more}")


def _quartiles(snr: FloatArray) -> FloatArray:
    """Returns quartiles over units ``(3, blocks)``; NaN where nothing was said."""
    found = np.full((3, len(snr)), np.nan)
    known = np.isfinite(snr).any(axis=1)
    found[:, known] = np.nanquantile(snr[known], (0.25, 0.5, 0.75), axis=1)
    return found


def _draw_days(axes: NDArray[np.object_], recording: xr.Dataset) -> None:
    """Draws a line between days, with the dates above, where there are several."""
    day = recording["day"].values.astype(str)
    starts = np.r_[0, np.flatnonzero(day[1:] != day[:-1]) + 1]
    if len(starts) < 2:
        return
    for ax in axes:
        for start in starts[1:]:
            ax.axvline(start, color=INK, lw=1, ls=":")
    for start in starts:
        axes[0].annotate(
            day[start],
            (start, 1),
            (3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=INK,
        )


def rig_summary(recording: xr.Dataset) -> RunSummary:
    """Returns what became of the trials on each day, and the figure of it; nothing for another recording."""
    if not at_a_rig(recording) or not recording.sizes["presentation"]:
        return RunSummary()
    found = sittings(recording)
    linked = (recording["kind"].values == "reference").any() and found.sizes["day"] > 1
    links = reference_days(recording) if linked else None
    rows = []
    for i, day in enumerate(found["day"].values):
        one = found.isel(day=i)
        why = lost_words(np.repeat(one["status"].values.astype(str), one["count"].values))
        lost = percent(float(one["lost"]), 1) + (f": {why}" if why else "")
        row = [str(day), f"{int(one['presentations']):,}", lost]
        rows.append([*row, *([] if links is None else [_link(links.isel(day=i), i)])])
    columns = ["day", "presentations", "lost", *([] if links is None else ["references"])]
    caption_ = "references: responses ÷ those of the first day, and their correlation over images; medians over units"
    again = int(found["again"].sum())
    lines = [f"{again} presentations were shown a second time, for the rig had died while it showed them."] * bool(
        again
    )
    figure = RunFigure(
        lambda: plot_sittings(recording),
        "The session at the rig: lost trials, what the references say of drift, and the quality of units.",
    )
    table = RunTable("At the rig", columns, rows, "" if links is None else caption_)
    return RunSummary([table], lines, {"rig": figure})


def _link(one: xr.Dataset, number: int) -> str:
    """Says how the units answered the references on a day."""
    ratio, correlation = (one[name].values for name in ("ratio", "correlation"))
    if number == 0 or not np.isfinite(ratio).any():
        return "–"
    r = f", r = {np.nanmedian(correlation):.2f}" if np.isfinite(correlation).any() else ""
    return f"{np.nanmedian(ratio):.2f}{r}"
