"""Chooses the images of a recording that are worth a look, and writes them as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.files import complete
from closedloop.images.eight_bit import to_bytes
from closedloop.images.forms import recoloured
from closedloop.images.movies import encode_image
from closedloop.images.nearest import middle_frames
from closedloop.recording.layout import REFERENCE, recorded_form
from closedloop.recording.render import render


class Best(NamedTuple):
    """The best image of a thread in one generation.

    Attributes:
        thread: The thread.
        generation: The generation.
        row: Number of its first presentation.
        score: Its score; NaN where all were lost.
    """

    thread: str
    generation: int
    row: int
    score: float


def best_of_generations(recording: xr.Dataset) -> list[Best]:
    """Returns the best-scored evolved image of each thread and generation, ordered by thread, then generation."""
    thread, generation = recording["thread"].values, recording["generation"].values
    score = recording["score"].values
    rows = np.flatnonzero((recording["kind"].values == "evolved") & (thread != REFERENCE))
    best: dict[tuple[str, int], Best] = {}
    for row in rows.tolist():
        key = (str(thread[row]), int(generation[row]))
        if key not in best or score[row] > best[key].score or np.isnan(best[key].score):
            best[key] = Best(*key, row, float(score[row]))
    names = list(dict.fromkeys(name for name, _ in best))
    return [best[key] for name in names for key in sorted(k for k in best if k[0] == name)]


def write(recording: xr.Dataset, out: Path, *, which: str = "best", resize: int | None = None, **sources: Any) -> None:
    """Writes images as PNG files, movies as animated WebP without loss, named by `stimulus_id` and score.

    Args:
        recording: Whose images.
        out: The folder; must not exist.
        which: "best": of each generation, and the re-tested ones; "all": every image, references included.
        resize: Height and width of the files in pixels, a whole multiple enlarges without smoothing; None as shown.
        **sources: ``generators`` and ``references`` of `closedloop.render`.

    Raises:
        InvalidArgumentError: `which` is something else, or there is no image to write.
        RecordingError: The folder exists, or cannot be written.
    """
    rows = _rows(recording, which)
    facts = {name: recording[name].values for name in ("thread", "stimulus_id", "score")}
    rate_hz = recorded_form(recording).rate_hz
    with complete(out) as temporary:
        temporary.mkdir()
        taken: set[str] = set()
        for part in blocks(rows):
            for row, image in zip(part, enlarge(render(recording, part, **sources), resize), strict=True):
                ending, data = encode_image(image, rate_hz)
                (temporary / file_name(_stem(facts, int(row)), taken, ending)).write_bytes(data)


def blocks(rows: NDArray[np.int64], size: int = 64) -> Iterator[NDArray[np.int64]]:
    """Yields rows in parts of at most `size`, so that no more images than these are held in memory at once."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _rows(recording: xr.Dataset, which: str) -> NDArray[np.int64]:
    """Returns the first presentation of each image to write."""
    if which not in ("best", "all"):
        raise InvalidArgumentError(f"which: expected 'best' or 'all', got {which!r}.")
    ids = recording["stimulus_id"].values
    first = np.unique(ids.astype(str), return_index=True)[1]
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[first] = True
    if which == "best":
        wanted = recording["kind"].values == "retest"
        wanted[[best.row for best in best_of_generations(recording)]] = True
        chosen &= np.isin(ids, ids[wanted])
    if not chosen.any():
        raise InvalidArgumentError("which: no evolved or re-tested image in this recording; ask for 'all'.")
    return np.flatnonzero(chosen)


def _stem(facts: Mapping[str, NDArray[Any]], row: int) -> str:
    """Joins thread, name and score of an image."""
    thread, name, score = (facts[key][row] for key in ("thread", "stimulus_id", "score"))
    parts = [] if str(name).startswith(str(thread)) else [thread]
    return "-".join(str(part) for part in (*parts, name, *([] if np.isnan(score) else [f"{score:.4g}"])))


def file_name(stem: str, taken: set[str], ending: str = ".png") -> str:
    """Returns a file's name that no other has, and takes it: the text, with a number where two texts look the same.

    Args:
        stem: The text; what is no letter, digit or one of ``-_.+`` becomes ``_``, and 100 letters are kept.
        taken: Names that are taken, in small letters; the new one is added.
        ending: Of the file, with its dot.
    """
    flat = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in stem)[:100]
    numbered = chain([flat], (f"{flat}-{i}" for i in count(2)))
    name = next(name for name in numbered if name.lower() not in taken)  # some disks do not tell A from a
    taken.add(name.lower())
    return f"{name}{ending}"


def enlarge(images: NDArray[np.float32], size: int | None) -> NDArray[np.float32]:
    """Returns images ``(…, h, w)`` enlarged by the largest whole number that keeps within `size`, or by 1."""
    factor = 1 if size is None or not len(images) else max(1, size // images.shape[-1])
    return images if factor == 1 else images.repeat(factor, axis=-2).repeat(factor, axis=-1)


def frames(recording: xr.Dataset, size: int = 256, **sources: Any) -> NDArray[np.uint8]:
    """Returns frames ``(generations, h, w, 3)``: the best image of each generation, threads side by side.

    A thread that has ended keeps its last image. Of a movie its middle frame stands for it. Height and width are even,
    as video wants them.

    Raises:
        RecordingError: There is no evolution in the recording.
    """
    best = best_of_generations(recording)
    if not best:
        raise RecordingError("recording: expected an evolution, but no image in it is evolved.")
    generations = sorted({b.generation for b in best})
    columns = []
    for name in dict.fromkeys(b.thread for b in best):
        rows = _rows_until([b for b in best if b.thread == name], generations)
        parts = [render(recording, part, **sources) for part in blocks(rows)]
        columns.append(np.concatenate([to_bytes(enlarge(_colour_stills(part), size)) for part in parts]))
    sheet = np.concatenate(columns, axis=3)
    sheet = np.pad(sheet, ((0, 0), (0, 0), (0, sheet.shape[2] % 2), (0, sheet.shape[3] % 2)), mode="edge")
    return np.ascontiguousarray(sheet.transpose(0, 2, 3, 1))


def _rows_until(own: list[Best], generations: list[int]) -> NDArray[np.int64]:
    """Returns for each generation the row of a thread's best image of it, or of the last one before it.

    Before the thread's first generation its first image stands.
    """
    places = np.searchsorted([b.generation for b in own], generations, side="right") - 1
    return np.array([b.row for b in own])[np.maximum(places, 0)]


def _colour_stills(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns images ``(n, 3, h, w)``: the middle frames of movies, and grey repeated for the three colours."""
    stills: NDArray[np.float32] = recoloured(middle_frames(images), 3)
    return stills
