"""Show the user's categories of images: which of them a unit prefers, by how much, and how reliably."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.categories import CATEGORY, category_selectivity
from closedloop.checks import check_any_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.labelled import Labelled, read_labelled
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, read_images
from closedloop.interfaces import Subject, form_of, resolution_of
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.recording.lean import lost
from closedloop.recording.titles import recorded_titles, shared
from closedloop.signatures import at_door

from .present import Library, look_at
from .probing import FIGURES, ROWS, record_probe, resuming

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Stands in the columns `thread` and `kind`.
_KIND = "category"


@settings
class SelectivitySettings(Timing):
    """The numbers of a session of categories."""

    repeats: int = option(default=4, least=1, help="Presentations of each image.")
    resolution: int | None = option(
        default=None, least=1, shown="the subject's, or 224", help="Height and width of the images in pixels."
    )


@at_door
def selectivity(
    subject: Subject,
    images: str | Path | Labelled | ImageSet | Mapping[str, NDArray[Any]],
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows images of several categories, each several times, in random order.

    `closedloop.analysis.category_selectivity` says how well each unit tells each category from the others, d′, and how
    reliable its responses are, with intervals.

    Args:
        subject: The network or animal that is shown images.
        images: A folder with a folder of images for each category (or the other forms of
            `closedloop.images.labelled.read_labelled`), arrays ``(n, 3, h, w)`` in [0, 1] by category, or an `ImageSet`
            with names such as "faces/0001".
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``repeats``, ``resolution``, ``seed`` …; see `SelectivitySettings`.

    Returns:
        The recording, with `kind` "category" and the coordinate `category` on presentations.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(SelectivitySettings, numbers)
    chosen = replace(chosen, resolution=chosen.resolution or resolution_of(subject))
    if isinstance(images, (ImageSet, Mapping)):
        pictures = images if isinstance(images, ImageSet) else _joined(images)
        return record_probe("selectivity", subject, _kept(pictures), chosen, {}, save, exists, progress)
    named = images if isinstance(images, Labelled) else read_labelled(images)
    said = {"images": str(named.folder.resolve())}
    library = category_library(named, chosen.resolution or 0, subject)
    return record_probe("selectivity", subject, library, chosen, said, save, exists, progress)


def category_library(named: Labelled, resolution: int, subject: Subject) -> Library:
    """Returns a library of labelled images, read lazily.

    Raises:
        InvalidArgumentError: There are fewer than two categories, or a file cannot be read.
    """
    _check_categories(named.labels)
    paths, form = named.paths, form_of(subject)
    look_at(paths)
    digest = hashlib.sha256("\n".join(named.ids + named.labels).encode())
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Library(
        ids=named.ids,
        read=lambda which: read_images([paths[i] for i in which], resolution, form),
        thread=_KIND,
        kind=_KIND,
        coords={CATEGORY: np.array(named.labels, dtype=object)},
        fingerprint=digest.hexdigest(),
    )


def _joined(images: Mapping[str, NDArray[Any]]) -> ImageSet:
    """Returns arrays by category as one set, whose names say their category.

    Raises:
        InvalidArgumentError: They are none, or no square images of one size.
    """
    arrays = {str(name): check_any_images(array, f"images[{name!r}]") for name, array in images.items()}
    _check_categories([name for name, array in arrays.items() if len(array)])
    sides = {array.shape[-1] for array in arrays.values()} | {array.shape[-2] for array in arrays.values()}
    side = max(sides)
    fitted = [array if array.shape[-2:] == (side, side) else resize_images(array, side) for array in arrays.values()]
    if len({array.shape[1:] for array in fitted}) > 1:
        raise InvalidArgumentError("images: expected images of one form in all categories, got several.")
    ids = tuple(f"{name}/{i:04d}" for name, array in arrays.items() for i in range(len(array)))
    return ImageSet(ids, np.concatenate(fitted))


def _check_categories(labels: Any) -> None:
    """Raises unless there are two categories or more."""
    names = sorted(set(labels))
    if len(names) < 2:
        raise InvalidArgumentError(
            f"images: expected two categories or more, got {names}; put the images of each into a folder of its name."
        )


def _kept(pictures: ImageSet) -> Library:
    """Returns a library of images in memory, which the run keeps."""
    _check_categories([name.rpartition("/")[0] for name in pictures.ids])
    return Library(
        ids=pictures.ids,
        read=lambda which: pictures.images[which],
        thread=_KIND,
        kind=_KIND,
        coords={CATEGORY: np.array([name.rpartition("/")[0] for name in pictures.ids], dtype=object)},
        sources=pictures,
    )


def _library_again(
    chosen: SelectivitySettings, pictures: ImageSet | None, content: Mapping[str, Any], subject: Subject
) -> Library:
    if pictures is not None:
        return _kept(pictures)
    return category_library(read_labelled(content["images"]), chosen.resolution or 0, subject)


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what each unit prefers, and the responses of the first ones."""
    found = category_selectivity(recording)
    names = recorded_titles(recording)
    titles, note = shared(names)
    rows = [_row(found.isel(neuroid=i), title) for i, title in enumerate(titles[:ROWS])]
    said = [
        f"units {note}" if note else "",
        f"the first {ROWS} of {len(titles)} units" if len(titles) > ROWS else "",
    ]
    table = RunTable(
        "Selectivity for categories",
        ("unit", "prefers", "d′ [95 %]", "next", "reliability [95 %]"),
        rows,
        "; ".join(word for word in said if word),
    )
    counts = dict(zip(found[CATEGORY].values.tolist(), found["n"].values[:, 0].astype(int).tolist(), strict=True))
    lines = [
        f"d′ of the best of {len(counts)} categories against all other images.",
        "It was chosen for being highest: new images will give a little less.",
        "Images: " + ", ".join(f"{n} {name}" for name, n in list(counts.items())[:12]) + ".",
    ]
    if np.isnan(found["reliability"].values).all():
        answered = recording["stimulus_id"].values[~lost(recording)]
        again = len(answered) > len(np.unique(answered))
        why = "of each image all presentations were identical" if again else "images were shown once"
        lines.append(f"Reliability is not known: {why}.")
    strength = np.nan_to_num(found["d_prime"].max(CATEGORY).values, nan=-np.inf)
    figures = {
        f"selectivity-{unit}": RunFigure(
            partial(_draw, recording, int(unit)),
            f"Mean responses of {names[unit]} to each image by category, and d′ of each category against all others "
            "with its 95 % bootstrap interval over images.",
        )
        for unit in sorted(np.argsort(-strength, kind="stable")[:FIGURES].tolist())
    }
    question = f"Which categories drive {'; '.join(names[:2])}{'; …' if len(names) > 2 else ''}"
    return RunSummary([table], lines, figures, question)


def _row(one: xr.Dataset, title: str) -> list[str]:
    """Returns the cells of a unit."""
    order = np.argsort(-np.nan_to_num(one["d_prime"].values, nan=-np.inf), kind="stable")
    names = one[CATEGORY].values
    best, second = one.isel({CATEGORY: order[0]}), one.isel({CATEGORY: order[1]})
    if np.isnan(float(best["d_prime"])):
        return [title, "–", "–", "–", _with_interval(one, "reliability")]
    return [
        title,
        str(names[order[0]]),
        _with_interval(best, "d_prime"),
        f"{names[order[1]]} ({float(second['d_prime']):.2f})",
        _with_interval(one, "reliability"),
    ]


def _with_interval(one: xr.Dataset, name: str) -> str:
    value, low, high = (float(one[n]) for n in (name, f"{name}_low", f"{name}_high"))
    if np.isnan(value):
        return "–"
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _draw(recording: xr.Dataset, unit: int) -> Figure:
    from closedloop.figures import plot_selectivity

    return plot_selectivity(recording, unit=unit)


#: What others must know of runs of categories.
PROTOCOL = RunProtocol(
    "selectivity",
    resuming(SelectivitySettings, _library_again),
    _summary,
    command="selectivity",
    analyses={"category_selectivity": Analysis(category_selectivity, "unit", best="d_prime")},
)
