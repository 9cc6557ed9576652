"""Show each unit's evolved image to all units anew: which image drives which unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from closedloop.analysis.preferred import evolved_picture
from closedloop.analysis.runs import concat, evolutions
from closedloop.analysis.similarity import Recordings, cross_driving
from closedloop.analysis.summary import CROSS, excites_one
from closedloop.checks import units_of
from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import Generator, Subject, resolution_of
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.objectives import parse_objective
from closedloop.readable import with_error
from closedloop.recording.layout import EVOLUTION
from closedloop.signatures import at_door

from .present import Library
from .probing import record_probe, resuming

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Evolutions of which a figure is drawn, and rows of a table.
_DRAWN, _ROWS = 16, 24


@settings
class CrossUnitsSettings(Timing):
    """The numbers of a session of other units' images."""

    repeats: int = option(default=10, least=1, help="Fresh presentations of each image.")
    resolution: int | None = option(
        default=None, least=1, shown="the subject's, or 224", help="Height and width of the images in pixels."
    )


@at_door
def cross_units(
    subject: Subject,
    recordings: Recordings,
    *,
    generators: Mapping[str, Generator] | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows the image that was evolved for each unit to all units, in fresh presentations.

    `closedloop.analysis.cross_driving` makes the matrix of it: the response of unit j to the image evolved for unit i.

    Args:
        subject: The network or animal, which records the units of all evolutions.
        recordings: Evolutions that each excited a single unit: one recording with several threads, or several
            recordings, in a list or by name.
        generators: By thread, where a generator was a Python object that has no name.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``repeats``, ``resolution``, ``seed`` …; see `CrossUnitsSettings`.

    Returns:
        The recording, with `kind` "cross" and the evolution that an image comes from as `thread`.

    Raises:
        InvalidArgumentError: There are fewer than two evolutions, one excited several units, or the subject does not
            record a unit; nothing is written.
        RecordingError: A recording holds no evolution, or the folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(CrossUnitsSettings, numbers)
    chosen = replace(chosen, resolution=chosen.resolution or resolution_of(subject))
    whole = recordings if isinstance(recordings, xr.Dataset) else concat(recordings)
    ids, columns = units_of(subject).neuroid_id, {}
    pictures = []
    for label, part, name, objective in evolutions(whole):
        columns[label] = _column(label, part, objective, ids)
        picture = evolved_picture(part, name, generators)[1]
        pictures.append(resize_images(picture[None], chosen.resolution or 0))
    if len(columns) < 2:
        raise InvalidArgumentError(f"recordings: expected two evolutions or more, got {list(columns)}.")
    kept = as_image_set(np.concatenate(pictures), chosen.resolution or 0)
    library = cross_library(ImageSet(tuple(columns), kept.images), list(columns.values()))
    said = {"columns": list(columns.values())}
    return record_probe("cross_units", subject, library, chosen, said, save, exists, progress)


def _column(label: str, part: xr.Dataset, objective: str, ids: Sequence[str]) -> int:
    """Returns the subject's column of the unit that an evolution excited.

    Raises:
        InvalidArgumentError: It excited several, or the subject does not record it.
    """
    if not excites_one(objective):
        raise InvalidArgumentError(
            f"recordings: expected evolutions that excite a single unit each, but {label!r} maximized {objective!r}."
        )
    (column,) = parse_objective(objective).columns or ()
    unit = str(part["neuroid_id"].values[column])
    if unit not in ids:
        raise InvalidArgumentError(
            f"subject: expected one that records {unit!r}, for which {label!r} was evolved; it records {len(ids)} "
            f"units such as {ids[0]!r}."
        )
    return list(ids).index(unit)


def cross_library(pictures: ImageSet, columns: Sequence[int]) -> Library:
    """Returns the images of evolutions, one each, that excited these columns, to be shown anew."""
    names = np.array(pictures.ids, dtype=object)
    return Library(
        ids=pictures.ids,
        read=lambda which: pictures.images[which],
        thread="",
        kind=CROSS,
        coords={"evolved_for": names},
        evolutions={EVOLUTION: list(pictures.ids), "objective": [f"unit({column})" for column in columns]},
        sources=pictures,
        threads=pictures.ids,
        at_once=True,
    )


def _library_again(
    chosen: CrossUnitsSettings, pictures: ImageSet | None, content: Mapping[str, Any], subject: Subject
) -> Library:
    if pictures is None:
        raise InvalidArgumentError("recordings: expected the run to keep its pictures, and it does not.")
    return cross_library(pictures, content["columns"])


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns of each evolution how its image drives its own unit and the others, and the matrix."""
    found = cross_driving(recording)
    labels = [str(label) for label in found["evolved_for"].values]
    response, sem, share = (found[name].values for name in ("response", "sem", "normalized"))
    rows = []
    for i, label in enumerate(labels[:_ROWS]):
        others = np.where(np.arange(len(labels)) == i, np.nan, share[i])
        best = int(np.nanargmax(others)) if np.isfinite(others).any() else -1
        own = with_error(response[i, i], sem[i, i])
        tail = [f"{labels[best]} ({others[best]:.2f})", f"{np.nanmedian(others):.2f}"] if best >= 0 else ["–", "–"]
        rows.append([label, own, *tail])
    table = RunTable(
        "Images that were evolved for each unit, shown to all",
        ("evolved for", "its own unit", "drives most of the others", "median"),
        rows,
        "others: as a share of their response to their own image"
        + (f"; the first {_ROWS} of {len(labels)}" if len(labels) > _ROWS else ""),
    )
    itself = np.diag(share)
    beaten = [labels[j] for j in range(len(labels)) if np.isfinite(itself[j]) and np.nanmax(share[:, j]) > 1]
    lines = [f"All numbers are of fresh presentations, {int(np.nanmax(found['n'].values))} of each image."]
    if beaten:
        lines.append(f"Driven more by another unit's image than by their own: {', '.join(beaten[:8])}.")
    figures = {}
    if len(labels) <= _DRAWN:
        figures["cross-units"] = RunFigure(
            lambda: _draw(recording), "Response of each unit to the image that was evolved for each other."
        )
    return RunSummary([table], lines, figures, f"What the images of {len(labels)} units do to the others")


def _draw(recording: xr.Dataset) -> Figure:
    from closedloop.figures import plot_cross_driving
    from closedloop.figures.style import whole_figure

    return whole_figure(plot_cross_driving(recording))


#: What others must know of runs of other units' images.
PROTOCOL = RunProtocol(
    "cross_units",
    resuming(CrossUnitsSettings, _library_again),
    _summary,
    _summary,
    command="",
    analyses={"cross_driving": Analysis(cross_driving, "runs")},
)
