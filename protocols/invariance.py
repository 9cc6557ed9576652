"""Show an image at several places, sizes and rotations: how far it can be changed before the response falls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.preferred import evolved_picture
from closedloop.analysis.tolerances import AMOUNT, BASE, BLANK, FACTOR, INVARIANCE, tolerance
from closedloop.errors import InvalidArgumentError
from closedloop.images.patterns import Screen, placed
from closedloop.images.sets import ImageSet, as_image_set, read_image
from closedloop.interfaces import Subject
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import option, read_settings, settings
from closedloop.recording.titles import recorded_titles, shared
from closedloop.signatures import at_door

from .present import Library
from .probing import FIGURES, ROWS, ProbeSettings, on_screen, record_probe, resuming

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What factors are called, and in what they are measured; lengths have the unit of the screen.
WORDS = {"x": "to the right", "y": "upwards", "size": "size", "rotation": "rotation"}


@settings
class InvarianceSettings(ProbeSettings):
    """The numbers of an invariance."""

    size: float | None = option(
        default=None,
        unit="a length",
        shown="the whole image",
        help="Width of the image as it is, in degrees where the screen is known (px_per_deg), else in pixels.",
    )
    steps: int = option(default=4, least=1, help="Steps to each side, of place and of size.")
    shift: float | None = option(
        default=None, unit="a length", shown="half the width", help="The largest shift, along each axis."
    )
    octaves: float = option(default=1.5, unit="octaves", help="The largest change of the size, up and down.")
    rotations: int = option(default=12, least=2, help="Rotations, evenly over a full turn.")


@at_door
def invariance(
    subject: Subject,
    image: NDArray[Any] | str | Path | ImageSet | xr.Dataset,
    *,
    thread: str | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows an image as it is, moved, resized and turned, one change at a time, and a grey image.

    By default four steps to each side along both axes and in size, and twelve rotations: 37 images.
    `closedloop.analysis.tolerance` says how far it can be changed before the response falls to half.

    Args:
        subject: The network or animal that is shown images.
        image: A picture ``(3, h, h)`` in [0, 1], the file of one, an `ImageSet` of one; or the recording of an
            evolution, whose evolved image is taken.
        thread: Which evolution of the recording; needed where there are several.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``size``, ``x``, ``y``, ``steps``, ``shift``, ``octaves``, ``rotations``, ``repeats``, ``seed`` …;
            see `InvarianceSettings`.

    Returns:
        The recording, with `kind` and `thread` "invariance" and the coordinates `factor` ("base", "x", "y", "size",
        "rotation", "blank") and `amount` (degrees of visual angle or pixels, octaves, degrees counterclockwise).

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = on_screen(read_settings(InvarianceSettings, numbers), subject)
    picture = _picture(image, thread, chosen.screen.resolution)
    library = invariance_library(chosen, picture)
    return record_probe("invariance", subject, library, chosen, {}, save, exists, progress)


def _picture(image: Any, thread: str | None, resolution: int) -> ImageSet:
    """Returns the picture as a set of one, with 8-bit values.

    Raises:
        InvalidArgumentError: It is none, or there are several.
    """
    if isinstance(image, xr.Dataset):
        name, found = evolved_picture(image, thread)
        return ImageSet((name,), as_image_set(found[None], found.shape[-1], name="image").images)
    if thread is not None:
        raise InvalidArgumentError("thread: expected none beside an image; it names the evolution of a recording.")
    if isinstance(image, (str, Path)):
        return ImageSet((Path(image).stem,), read_image(image, resolution)[None].astype(np.float32) / np.float32(255))
    if isinstance(image, ImageSet):
        several, side = image.images, image.images.shape[-1]
    else:
        several = np.asarray(image)
        several = several[None] if several.ndim == 3 else several
        side = several.shape[-1] if several.ndim == 4 else resolution
    made = as_image_set(image if isinstance(image, ImageSet) else several, side, name="image")
    if len(made) != 1 or made.images.ndim != 4:
        raise InvalidArgumentError(f"image: expected one still picture (3, h, h), got shape {made.images.shape}.")
    return made


def invariance_library(chosen: InvarianceSettings, picture: ImageSet) -> Library:
    """Makes the changed images when they are shown.

    Raises:
        InvalidArgumentError: The smallest would be below two pixels.
    """
    screen = chosen.screen
    width = screen.resolution if chosen.size is None else chosen.size * screen.scale
    if width * 2**-chosen.octaves < 2:
        raise InvalidArgumentError(
            f"octaves: expected the smallest image to be 2 pixels wide or more, got {width * 2**-chosen.octaves:.2g}; "
            "change the size less."
        )
    reach = (width / screen.scale / 2) if chosen.shift is None else chosen.shift
    sides = np.concatenate([np.arange(-chosen.steps, 0), np.arange(1, chosen.steps + 1)]) / chosen.steps
    turns = 360 * np.arange(1, chosen.rotations) / chosen.rotations
    turns = np.sort(np.where(turns > 180, turns - 360, turns))
    amounts = {"x": reach * sides, "y": reach * sides, "size": chosen.octaves * sides, "rotation": turns}
    factor = np.array([BASE, *(name for name, values in amounts.items() for _ in values), BLANK], dtype=object)
    amount = np.concatenate([[0.0], *amounts.values(), [np.nan]])
    content = picture.images[0]

    def one(n: int) -> NDArray[np.float32]:
        if factor[n] == BLANK:
            return np.full((3, screen.resolution, screen.resolution), chosen.background, np.float32)
        by = {name: float(amount[n]) if factor[n] == name else 0.0 for name in amounts}
        row, column = screen.place(chosen.x + by["x"], chosen.y + by["y"])
        size, turn = width * 2.0 ** by["size"], by["rotation"]
        return placed(content, row, column, size, turn, screen.resolution, chosen.background)[0]

    ids = [f"{name}-{value:+.4g}" if name in amounts else name for name, value in zip(factor, amount, strict=True)]
    return Library(
        ids=tuple(ids),
        read=lambda which: np.stack([one(int(n)) for n in which]),
        thread=INVARIANCE,
        kind=INVARIANCE,
        coords={FACTOR: factor, AMOUNT: amount},
        scalars=screen.scalars(),
        sources=picture,
    )


def _library_again(
    chosen: InvarianceSettings, pictures: ImageSet | None, content: Mapping[str, Any], subject: Subject
) -> Library:
    if pictures is None:
        raise InvalidArgumentError("image: expected the run to keep its picture, and it does not.")
    return invariance_library(chosen, pictures)


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns the tolerances of each unit, and the curves of the first ones."""
    found, screen = tolerance(recording), Screen.of_recording(recording)
    names = recorded_titles(recording)
    titles, note = shared(names)
    units = {"x": screen.sign, "y": screen.sign, "size": " oct", "rotation": "°"}
    known = found[FACTOR].values.tolist()
    rows = []
    for i, title in enumerate(titles[:ROWS]):
        one = found.isel(neuroid=i)
        rows.append([title, *(_cell(one.sel({FACTOR: name}), units[name]) for name in known)])
    said = [
        f"units {note}" if note else "",
        f"the first {ROWS} of {len(titles)} units" if len(titles) > ROWS else "",
    ]
    table = RunTable(
        "Range over which the response stays above half",
        ("unit", *(WORDS[name] for name in known)),
        rows,
        "; ".join(word for word in said if word),
    )
    lines = ["Responses above that to grey. oct: octaves; < and >: above half up to that end."]
    first = np.argsort(np.isnan(found["tolerance"].values).sum(0), kind="stable")[:FIGURES]
    figures = {
        f"invariance-{unit}": RunFigure(
            partial(_draw, recording, int(unit)),
            f"Mean responses of {names[unit]} ± standard error to the image at other places, sizes and rotations; the "
            "band is where the response stays above half.",
        )
        for unit in sorted(first.tolist())
    }
    question = f"How far an image can be changed for {'; '.join(names[:2])}{'; …' if len(names) > 2 else ''}"
    return RunSummary([table], lines, figures, question)


def _cell(one: xr.Dataset, sign: str) -> str:
    """Returns a tolerance with its interval; what is known of it where it is larger than what was shown."""
    value, low, high = (float(one[n]) for n in ("tolerance", "tolerance_low", "tolerance_high"))
    if np.isfinite(value):
        interval = f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else ""
        return f"{value:.3g}{sign}{interval}"
    if "not above" in str(one["reason"].item()):
        return "–"
    ends = [f"{float(one[n]):.2g}" if np.isfinite(one[n]) else "" for n in ("below", "above")]
    return f"{ends[0] or '<'} to {ends[1] or '>'}"


def _draw(recording: xr.Dataset, unit: int) -> Figure:
    from closedloop.figures import plot_tolerance

    return plot_tolerance(recording, unit=unit)


#: What others must know of invariances.
PROTOCOL = RunProtocol(
    "invariance",
    resuming(InvarianceSettings, _library_again),
    _summary,
    command="invariance",
    analyses={"tolerance": Analysis(tolerance, "unit")},
)
