"""Map receptive fields: small stimuli at many places, and a Gaussian through the responses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.fields import FIELD, field_box, fit_field
from closedloop.errors import InvalidArgumentError
from closedloop.images.patterns import Screen, patch, squares
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import Subject
from closedloop.loop.experiment import Experiment, parse_experiment
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import option, read_settings, settings
from closedloop.objectives import parse_objective
from closedloop.readable import with_error
from closedloop.recipes import BUNDLED
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import recorded_titles, shared
from closedloop.signatures import at_door

from .present import Library
from .probing import FIGURES, ROWS, ProbeSettings, on_screen, px_per_deg_of, record_probe, resuming, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name of the protocol, and of the function.
MAP_FIELD = "map_field"


@settings
class MapFieldSettings(ProbeSettings):
    """The numbers of a receptive field's mapping."""

    stimuli: str = option(
        default="noise",
        choices=("noise", "patches"),
        help="What is shown: bright and dark squares one by one (sparse noise), or pictures in small round patches, "
        "which drive units that answer to no square.",
    )
    steps: int | None = option(
        default=None, least=3, shown="10 squares, 7 patches", help="Places along each side of the mapped area."
    )
    extent: float | None = option(
        default=None,
        unit="a length",
        shown="the whole image",
        help="Width of the mapped area, in degrees where the screen is known (px_per_deg), else in pixels.",
    )
    sizes: int = option(default=3, least=1, help="Sizes of patches, each half as large as the one before.")
    largest: float | None = option(
        default=None,
        unit="a length",
        shown="half the mapped area",
        help="Size of the largest patch, four standard deviations of its window.",
    )
    pictures: int = option(default=4, least=1, help="Of the bundled photographs, those that are shown in patches.")
    contrast: float = option(default=1.0, unit="a contrast", help="Of squares; 1 is black and white.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast > 1:
            raise InvalidArgumentError(f"contrast: expected a contrast above 0 and at most 1, got {self.contrast!r}.")


@at_door
def map_field(
    subject: Subject,
    images: ImageSet | str | Path | NDArray[Any] | None = None,
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Maps receptive fields by sparse noise, or by pictures in patches of several sizes at many places.

    Sparse noise (Jones & Palmer 1987, *Journal of Neurophysiology*) is one square an image, bright or dark, on a grid
    of 10 × 10 places: 200 images. Patches are pictures seen through a Gaussian window, at 7 × 7 places in three sizes:
    588 images. `closedloop.analysis.fit_field` fits the field, and `closedloop.analysis.field_box` is where
    `closedloop.generators.Placed` can have evolved images.

    Args:
        subject: The network or animal that is shown images.
        images: Pictures in the patches: a folder, an array ``(n, 3, h, w)`` in [0, 1], or an `ImageSet`; None for some
            of the bundled photographs.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``stimuli``, ``steps``, ``extent``, ``x``, ``y``, ``repeats``, ``seed`` …; see `MapFieldSettings`.

    Returns:
        The recording, with `kind` and `thread` "field" and the coordinates `stimulus_y_px`, `stimulus_x_px` (row and
        column of the middle), `stimulus_sd_px` and `shown` on presentations.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = on_screen(read_settings(MapFieldSettings, numbers), subject)
    pictures = None
    if chosen.stimuli == "patches":
        whole = as_image_set(BUNDLED if images is None else images, chosen.screen.resolution)
        pictures = _some(whole, chosen.pictures) if images is None else whole
        if pictures.images.ndim != 4:
            raise InvalidArgumentError("images: expected still pictures for patches, got movies.")
    elif images is not None:
        raise InvalidArgumentError("images: expected none with stimuli='noise'; stimuli='patches' shows pictures.")
    library = field_library(chosen, pictures)
    return record_probe(MAP_FIELD, subject, library, chosen, {}, save, exists, progress)


def at_field(experiment: Experiment, run: str | Path, subject: Subject) -> Experiment:
    """Returns an experiment whose generators are placed in the mapped fields of the units that they are evolved for.

    Args:
        experiment: See `closedloop.loop.experiment`; each thread excites one unit.
        run: Folder of a field's mapping.
        subject: Whose units are named by the objectives.

    Raises:
        InvalidArgumentError: A thread excites several units, or one without a field; or images are not as large to the
            eye as those of the mapping were. The error names it.
        RecordingError: It is no run of a field's mapping.
    """
    found = fit_field(open_recording(run))
    check_width(found, run, subject)
    names, content = found["neuroid_id"].values.tolist(), experiment.model_dump(exclude_unset=True)
    for part, thread in zip(experiment.threads, content["threads"], strict=True):
        columns = parse_objective(part.objective, subject.units).columns
        units = {subject.units.neuroid_id[c] for c in (range(len(subject.units)) if columns is None else columns)}
        if len(units) != 1 or not units <= set(names):
            raise InvalidArgumentError(
                f"at_field: expected a thread that excites one unit of those in {run} ({', '.join(names[:3])} …), got "
                f"{part.objective!r} of {sorted(units)}; map the field of that unit, or place the generator yourself: "
                "--generator '{name: placed, box: [y0, x0, y1, x1], generator: native}'."
            )
        box = field_box(found, names.index(units.pop()))
        placed = {"box": list(box), "resolution": int(found["resolution_px"]), "generator": thread["generator"]}
        thread["generator"] = {"name": "placed", **placed}
    return parse_experiment(content, "at_field")


def check_width(found: xr.Dataset, run: str | Path, subject: Subject) -> None:
    """Raises where images are known to be of another width to the eye than those by which fields were mapped.

    Args:
        found: What `closedloop.analysis.fit_field` returned.
        run: The mapping's folder, for the error.
        subject: Who is to be shown images.

    Raises:
        InvalidArgumentError: They are: the field is elsewhere in such an image.
    """
    mapped = Screen.of_recording(found)
    scale = px_per_deg_of(subject, mapped.resolution)
    # For one field the widths of images may differ by 1 %.
    if scale is None or mapped.px_per_deg is None or np.isclose(scale, mapped.px_per_deg, rtol=0.01):
        return
    then, now = (mapped.resolution / known for known in (mapped.px_per_deg, scale))
    raise InvalidArgumentError(
        f"at_field: the fields in {run} were mapped in images {then:.4g}° wide, and {subject.name!r} shows them "
        f"{now:.4g}° wide; show them as in the mapping (size_deg of a rig), or map the fields again."
    )


def _some(images: ImageSet, count: int) -> ImageSet:
    """Returns so many of some images, evenly over all."""
    which = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return ImageSet(tuple(images.ids[i] for i in which), images.images[which])


def field_library(chosen: MapFieldSettings, pictures: ImageSet | None) -> Library:
    """Makes the images of a mapping when they are shown.

    Raises:
        InvalidArgumentError: The mapped area reaches beyond the image, or its squares are smaller than a pixel.
    """
    screen = chosen.screen
    # So many places along each side where nothing was said.
    steps = chosen.steps or {"noise": 10, "patches": 7}[chosen.stimuli]
    width = screen.resolution if chosen.extent is None else chosen.extent * screen.scale
    row, column = screen.place(chosen.x, chosen.y)
    for middle in (row, column):
        within("extent", middle - width / 2, middle + width / 2, screen)
    if width / steps < 1:
        raise InvalidArgumentError(f"steps: expected at most {int(width)}, one for each pixel, got {steps}.")
    # Edges of the places, in pixels from the upper left corner of the image.
    edges = [np.linspace(m + 0.5 - width / 2, m + 0.5 + width / 2, steps + 1) for m in (row, column)]
    return _noise(chosen, edges) if pictures is None else _patches(chosen, pictures, edges, width)


def _noise(chosen: MapFieldSettings, edges: list[NDArray[np.float64]]) -> Library:
    """Makes a square an image, all of the same whole number of pixels; where they do not add up they overlap by one."""
    resolution, n = chosen.screen.resolution, len(edges[0]) - 1
    side = min(round(float(edges[0][1] - edges[0][0])) or 1, resolution)
    rows, columns = (np.round(np.linspace(e[0], e[-1] - side, n)).astype(int).clip(0, resolution - side) for e in edges)
    bright, i, j = (index.ravel() for index in np.indices((2, n, n)))
    box = np.stack([rows[i], columns[j], rows[i] + side, columns[j] + side])
    reach = chosen.contrast * min(chosen.background, 1 - chosen.background)
    level = chosen.background + np.where(bright == 0, reach, -reach)
    words = np.array(["bright", "dark"], dtype=object)[bright]
    coords = {
        "stimulus_y_px": (box[0] + box[2] - 1) / 2,
        "stimulus_x_px": (box[1] + box[3] - 1) / 2,
        "stimulus_sd_px": np.full(len(i), side / np.sqrt(12)),  # of a square, along each side
        "shown": words,
    }
    return Library(
        ids=tuple(f"{word}-{a:02d}-{b:02d}" for word, a, b in zip(words, i, j, strict=True)),
        read=lambda which: squares(box[:, which], level[which], resolution, chosen.background),
        thread=FIELD,
        kind=FIELD,
        coords=coords,
        scalars=chosen.screen.scalars(),
    )


def _patches(chosen: MapFieldSettings, pictures: ImageSet, edges: list[NDArray[np.float64]], width: float) -> Library:
    """Makes a patch an image: each picture in each size at each place."""
    screen = chosen.screen
    rows, columns = ((e[1:] + e[:-1]) / 2 - 0.5 for e in edges)
    largest = width / 2 if chosen.largest is None else chosen.largest * screen.scale
    sd = largest / 4 / 2.0 ** np.arange(chosen.sizes)
    if sd[-1] < 0.5:
        raise InvalidArgumentError(
            f"sizes: expected patches of at least 2 pixels, got {4 * sd[-1]:.2g} for the smallest; take fewer sizes."
        )
    k, s, i, j = (v.ravel() for v in np.indices((len(pictures), chosen.sizes, len(rows), len(columns))))

    def read(which: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn = [
            patch(pictures.images[k[n]], rows[i[n]], columns[j[n]], sd[s[n]], screen.resolution, chosen.background)
            for n in which
        ]
        return np.stack(drawn)

    names = np.array(pictures.ids, dtype=object)
    coords = {"stimulus_y_px": rows[i], "stimulus_x_px": columns[j], "stimulus_sd_px": sd[s], "shown": names[k]}
    return Library(
        ids=tuple(f"{names[p]}-{q}-{a:02d}-{b:02d}" for p, q, a, b in zip(k, s, i, j, strict=True)),
        read=read,
        thread=FIELD,
        kind=FIELD,
        coords=coords,
        scalars=screen.scalars(),
        sources=pictures,
    )


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns where each unit's field is, and the maps of the first ones."""
    found = fit_field(recording, units=list(range(min(recording.sizes["neuroid"], ROWS))))
    screen = Screen.of_recording(recording)
    titles, note = shared(recorded_titles(recording))
    rows = [_row(found.isel(neuroid=i), title, screen) for i, title in enumerate(titles[:ROWS])]
    hidden = len(titles) - len(rows)
    what = f"in {'degrees' if screen.unit == 'deg' else 'pixels'}, right of and above the middle of the image"
    said = [f"units {note}" if note else "", what, f"the first {ROWS} of {len(titles)} units" if hidden > 0 else ""]
    table = RunTable(
        "Receptive fields",
        ("unit", "x", "y", "sigma", "aspect", "R²", "p"),
        rows,
        "; ".join(word for word in said if word),
    )
    none = [str(reason) for reason in found["reason"].values if reason]
    lines = ["Errors are standard errors of the fit (HC3); p is by 499 shuffles of the places."]
    if none:
        lines.append(f"{len(none)} of these {len(rows)} units have no field here, such as: {none[0]}.")
    first = np.argsort(found["reason"].values != "", kind="stable")[:FIGURES]
    figures = {
        f"field-{unit}": RunFigure(
            partial(_draw, recording, int(unit)),
            f"Mean responses of {recorded_titles(recording)[unit]} by the place of the stimulus; the ellipses are one "
            "and two standard deviations of the fitted field.",
        )
        for unit in sorted(first.tolist())
    }
    named = recorded_titles(recording)
    question = f"Where the receptive field of {'; '.join(named[:2])}{'; …' if len(named) > 2 else ''} is"
    return RunSummary([table], lines, figures, question)


def _row(one: xr.Dataset, title: str, screen: Screen) -> list[str]:
    """Returns the cells of a unit."""
    p = float(one["p"])
    tail = ["" if np.isnan(p) else f"{p:.3f}"]
    if one["reason"].item():
        return [title, "–", "–", "–", "–", "–", *tail]
    y, x, size = (float(one[n]) for n in ("y_px", "x_px", "sigma_px"))
    errors = [float(one[f"{n}_se"]) / screen.scale for n in ("x_px", "y_px", "sigma_px")]
    values = [screen.right(x), screen.up(y), size / screen.scale]
    cells = [with_error(v, e) for v, e in zip(values, errors, strict=True)]
    return [title, *cells, f"{float(one['aspect']):.2f}", f"{float(one['r_squared']):.2f}", *tail]


def _draw(recording: xr.Dataset, unit: int) -> Figure:
    from closedloop.figures import plot_field

    return plot_field(recording, unit=unit)


def _library_again(chosen: MapFieldSettings, pictures: ImageSet | None, content: Any, subject: Subject) -> Library:
    return field_library(chosen, pictures)


#: What others must know of mapped fields.
PROTOCOL = RunProtocol(
    MAP_FIELD,
    resuming(MapFieldSettings, _library_again),
    _summary,
    command="map-field",
    analyses={"fit_field": Analysis(fit_field, "unit")},
)
