"""Draws what many units want to see, as a map: units that prefer alike stand side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.analysis.summary import ThreadSummary, summarize
from closedloop.errors import RecordingError
from closedloop.figures.style import INK
from closedloop.figures.tiles import draw_picture
from closedloop.interfaces import FloatArray
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import shared
from closedloop.signatures import at_door

#: Side, in pixels, of the small copies by which images are compared: what an eye sees of them across a room.
_SIDE = 3
#: Inches: a tile, what lies between two, its caption, the margin, and the heading.
_TILE, _GAP, _CAPTION, _MARGIN, _HEAD = 1.2, 0.05, 0.17, 0.3, 0.5


@at_door
def plot_unit_map(run: xr.Dataset | str | Path, columns: int | None = None) -> Figure:
    """Draws the evolved image of every thread of a run, units with similar preference next to each other.

    The images' small copies (3 × 3 pixels: colours above all, and where they lie) are compared. They begin in the order
    of `preference_order`, row by row, back and forth; then images change places wherever that brings those that are
    alike together, first across the map and at last among neighbours, in all directions.

    Args:
        run: The run's folder, or its recording.
        columns: Images in a row; None for about as many as rows, with as few gaps at the end as may be.

    Raises:
        RecordingError: There is no run, or it holds no evolved image.
    """
    recording = run if isinstance(run, xr.Dataset) else open_recording(run)
    found = [s for s in summarize(recording) if s.images]
    if not found:
        raise RecordingError("run: no thread has an evolved image yet.")
    names = [s.evolved.stimulus_id or _best(recording, s.thread) for s in found]
    images = Pictures(recording).several(names)
    across = columns or _columns(len(found))
    cells = preference_map([_small(image) for image in images], across)
    down = -(-len(found) // across)
    titles, note = shared([s.target for s in found])
    ratios = np.array([s.ratio for s in found])
    size = 13 if across > 4 else 7.5  # points; a heading is not to outweigh a few images
    heading = textwrap.fill(_heading(recording, len(found), note, ratios), max(24, int(156 / size * across)))
    head = 0.3 + (_HEAD - 0.3 + 0.2 * heading.count("\n")) * size / 13
    width = 2 * _MARGIN + across * (_TILE + _GAP) - _GAP
    height = 2 * _MARGIN + head + down * (_TILE + _CAPTION + _GAP) - _GAP
    figure = Figure(figsize=(width, height), dpi=150)
    figure.set_layout_engine("none")  # every place is stated; a style may ask for another engine
    head_text = figure.text(_MARGIN / width, 1 - _MARGIN / height, heading, fontsize=size, color=INK, va="top")
    head_text.set_linespacing(1.3)
    head_text.set_parse_math(False)
    for place, number in enumerate(cells):
        row, column = divmod(place, across)
        left = _MARGIN + column * (_TILE + _GAP)
        top = _MARGIN + head + row * (_TILE + _CAPTION + _GAP) + _CAPTION
        ax = figure.add_axes((left / width, 1 - (top + _TILE) / height, _TILE / width, _TILE / height))
        draw_picture(ax, images[number])
        name, answer = _label(titles[number], found[number])
        ax.set_title(name, fontsize=5.5, color=INK, pad=1.5, loc="left", parse_math=False)
        ax.set_title(answer, fontsize=5.5, color=INK, pad=1.5, loc="right", parse_math=False)
    return figure


def _columns(count: int) -> int:
    """Returns how many of so many images stand in a row: a few more than rows, and the last row as full as may be."""
    middle = math.ceil(math.sqrt(count * 1.3))
    return min(range(max(1, middle - 2), middle + 3), key=lambda across: (-count % across, abs(across - middle)))


def _heading(recording: xr.Dataset, count: int, note: str, ratios: FloatArray) -> str:
    known = ratios[np.isfinite(ratios)]
    median = f"; median evolved ÷ best natural {np.median(known):.2f}" if len(known) else ""
    return f"What {count} units {note} of {recording['subject'].item()} want to see{median}".replace("  ", " ")


def _label(title: str, summary: ThreadSummary) -> tuple[str, str]:
    """Returns the name of a unit, and its response with how many times the best photograph's it is."""
    if not summary.evolved.n:
        return (title if len(title) <= 24 else title[:23] + "…"), ""
    ratio = f" (× {summary.ratio:.2g})" if np.isfinite(summary.ratio) else ""
    return (title if len(title) <= 14 else title[:13] + "…"), f"{summary.evolved.mean:.3g}{ratio}"


def _best(recording: xr.Dataset, thread: str) -> str:
    """Returns the best-scored image so far of a thread that was not re-tested."""
    own = (recording["thread"].values == thread) & (recording["kind"].values == "evolved")
    score = np.where(own, recording["score"].values, np.nan)
    place = int(np.argmax(np.where(np.isnan(score), -np.inf, score)))
    return str(recording["stimulus_id"].values[place])


def _small(image: NDArray[np.uint8] | None) -> FloatArray | None:
    """Returns a small copy ``(3 * 3 * 3,)``, its colours enhanced, of a picture, or of the middle frame of a movie."""
    if image is None:
        return None
    frame = (image[len(image) // 2] if image.ndim == 4 else image).astype(float) / 255
    rows, columns = (np.linspace(0, side, _SIDE + 1).astype(int)[:-1] for side in frame.shape[:2])
    fine = np.add.reduceat(np.add.reduceat(frame, rows, axis=0), columns, axis=1)
    fine *= _SIDE**2 / (frame.shape[0] * frame.shape[1])
    grey = fine.mean(-1, keepdims=True)
    # Most pictures differ most by light and dark, so colours count four times as much.
    return np.asarray((grey + 4.0 * (fine - grey)).ravel())


def preference_map(images: list[FloatArray | None], across: int) -> list[int]:
    """Returns which image stands in each place of a map, row by row, so that neighbours are alike.

    Images of close places count by a bell-shaped weight; two change places where the sum of weighted distances falls,
    and the bell grows narrower (a discrete form of Kohonen's map: Fried et al. 2015, "IsoMatch").

    Args:
        images: Small copies ``(n,)``; those that are missing come last.
        across: Places in a row.
    """
    order = preference_order(images)
    fold = [
        i
        for row in range(0, len(order), across)
        for i in _turned(range(row, min(row + across, len(order))), row // across)
    ]
    cells = [order[i] for i in fold]
    known = np.array([place for place, number in enumerate(cells) if images[number] is not None], int)
    if not 3 <= len(known) <= 1000:  # of more images this takes too long; they stand in one long row, folded
        return cells
    spots = np.stack(np.divmod(known, across), axis=1).astype(float)
    apart = ((spots[:, None] - spots) ** 2).sum(-1)
    table = _unlike([image for number in cells if (image := images[number]) is not None])
    own = np.arange(len(known))
    for reach in (4.0, 2.8, 2.0, 1.4, 1.0, 0.7):  # in tiles; the last ones put the nearest right
        own = own[_swapped(table[np.ix_(own, own)], np.exp(-apart / (2 * reach**2)))]
    numbers = [cells[place] for place in known[own].tolist()]
    for place, number in zip(known.tolist(), numbers, strict=True):
        cells[place] = number
    return cells


def _turned(row: range, number: int) -> list[int]:
    """Returns a row of numbers, every second one backwards."""
    return list(row if number % 2 == 0 else reversed(row))


def _swapped(unlike: FloatArray, near: FloatArray, rounds: int = 8) -> NDArray[np.intp]:
    """Returns the order of things ``(n,)`` in places ``(n,)`` after each changed places as long as that helped.

    Args:
        unlike: Distances of the things ``(n, n)``, in the order in which they stand.
        near: How near places are ``(n, n)``, which distances are multiplied by.
        rounds: Times that each is asked, at most.
    """
    order = np.arange(len(unlike))
    for _ in range(rounds):
        moved = False
        for a in range(len(order)):
            # What a sum over all others gains when `a` and each `b` change places; they themselves stay as far apart.
            change = ((near[a] - near) * (unlike - unlike[a])).sum(1)
            change -= (near[a, a] - near[:, a]) * unlike[:, a] - (near[a] - np.diag(near)) * unlike[a]
            b = int(np.argmin(change))
            if change[b] < -1e-9:
                pair, other = [a, b], [b, a]
                unlike[pair], order[pair] = unlike[other], order[other]
                unlike[:, pair] = unlike[:, other]
                moved = True
        if not moved:
            break
    return order


def _unlike(images: Sequence[FloatArray]) -> FloatArray:
    """Returns the squared distances of small copies ``(n, n)``."""
    table = np.stack(images)
    return np.asarray(((table[:, None] - table) ** 2).mean(-1))


def preference_order(images: list[FloatArray | None]) -> list[int]:
    """Returns the order of images ``(n,)`` in which neighbours are most alike; those that are missing come last."""
    known = [i for i, image in enumerate(images) if image is not None]
    missing = [i for i in range(len(images)) if i not in set(known)]
    if len(known) < 3:
        return known + missing
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering

    table = _unlike([image for image in images if image is not None])
    distances = table[np.triu_indices(len(table), 1)]
    tree = optimal_leaf_ordering(linkage(distances, "average"), distances)
    return [known[i] for i in leaves_list(tree)] + missing
