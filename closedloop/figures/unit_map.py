"""Draws what many units want to see, as a map: units that prefer alike stand side by side."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from closedloop.analysis.summary import ThreadSummary, summarize
from closedloop.checks import at_door
from closedloop.errors import RecordingError
from closedloop.figures.style import INK
from closedloop.figures.tiles import draw_picture
from closedloop.interfaces import FloatArray
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import shared

#: Side, in pixels, of the small copies by which images are compared.
_SIDE = 16


@at_door
def plot_unit_map(run: str | Path, columns: int | None = None) -> Figure:
    """Draws the evolved image of every thread of a run, units with similar preference next to each other.

    The images' small copies (16 × 16 pixels) are clustered by their correlation (average linkage), and the leaves of
    the tree are put into the order in which neighbours are most alike (Bar-Joseph et al. 2001). They fill the map row
    by row, back and forth, so that each stands beside those that are like it.

    Args:
        run: The run's folder.
        columns: Images in a row; None for about as many as rows, with as few gaps at the end as may be.

    Raises:
        RecordingError: There is no run, or it holds no evolved image.
    """
    recording = open_recording(run)
    found = [s for s in summarize(recording) if s.images]
    if not found:
        raise RecordingError(f"{run}: no thread has an evolved image yet.")
    names = [s.evolved.stimulus_id or _best(recording, s.thread) for s in found]
    images = Pictures(recording).several(names)
    order = preference_order([_small(image) for image in images])
    across = columns or _columns(len(found))
    down = -(-len(found) // across)
    figure = Figure(figsize=(1.15 * across + 0.3, 1.42 * down + 0.7), dpi=150, layout="constrained")
    titles, note = shared([s.target for s in found])
    ratios = np.array([s.ratio for s in found])
    heading = textwrap.fill(_heading(recording, len(found), note, ratios), max(24, 13 * across))
    figure.suptitle(heading, fontsize=10, color=INK, parse_math=False)
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for place, number in enumerate(order):
        row, column = divmod(place, across)
        ax = axes[row, column if row % 2 == 0 else across - 1 - column]
        draw_picture(ax, images[number])
        ax.set_title(_label(titles[number], found[number]), fontsize=6.5, color=INK, pad=2, parse_math=False)
    return figure


def _columns(count: int) -> int:
    """Returns how many of so many images stand in a row: a few more than rows, and the last row as full as may be."""
    middle = math.ceil(math.sqrt(count * 1.3))
    return min(range(max(1, middle - 2), middle + 3), key=lambda across: (-count % across, abs(across - middle)))


def _heading(recording: xr.Dataset, count: int, note: str, ratios: FloatArray) -> str:
    known = ratios[np.isfinite(ratios)]
    median = f"; median evolved ÷ best natural {np.median(known):.2f}" if len(known) else ""
    return f"What {count} units {note} of {recording['subject'].item()} want to see{median}".replace("  ", " ")


def _label(title: str, summary: ThreadSummary) -> str:
    """Returns the name of a unit and its response, in two short lines."""
    name = title if len(title) <= 24 else title[:23] + "…"
    ratio = f" (× {summary.ratio:.2g})" if np.isfinite(summary.ratio) else ""
    return f"{name}\n{summary.evolved.mean:.3g}{ratio}" if summary.evolved.n else name


def _best(recording: xr.Dataset, thread: str) -> str:
    """Returns the best-scored image so far of a thread that was not re-tested."""
    own = (recording["thread"].values == thread) & (recording["kind"].values == "evolved")
    score = np.where(own, recording["score"].values, np.nan)
    place = int(np.argmax(np.where(np.isnan(score), -np.inf, score)))
    return str(recording["stimulus_id"].values[place])


def _small(image: NDArray[np.uint8] | None) -> FloatArray | None:
    """Returns a small copy ``(16 * 16 * 3,)`` of a picture, or of the middle frame of a movie."""
    if image is None:
        return None
    frame = (image[len(image) // 2] if image.ndim == 4 else image).astype(float)
    rows, columns = (np.linspace(0, side, _SIDE + 1).astype(int)[:-1] for side in frame.shape[:2])
    fine = np.add.reduceat(np.add.reduceat(frame, rows, axis=0), columns, axis=1)
    return np.asarray(fine.ravel())


def preference_order(images: list[FloatArray | None]) -> list[int]:
    """Returns the order of images ``(n,)`` in which neighbours are most alike; those that are missing come last."""
    known = [i for i, image in enumerate(images) if image is not None]
    missing = [i for i in range(len(images)) if i not in set(known)]
    if len(known) < 3:
        return known + missing
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import pdist

    table = np.stack([image for image in images if image is not None])
    table = table - table.mean(1, keepdims=True)
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    distances = pdist(table, "sqeuclidean") / 2  # 1 - correlation
    tree = optimal_leaf_ordering(linkage(distances, "average"), distances)
    return [known[i] for i in leaves_list(tree)] + missing
