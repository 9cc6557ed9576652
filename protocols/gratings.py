"""Show gratings of all orientations, spatial frequencies and phases: what a neuron of early vision is tuned to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.gratings import GRATING, fit_gratings
from closedloop.errors import InvalidArgumentError
from closedloop.images.patterns import Screen, grating
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Subject
from closedloop.loop.parts import RunPart
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Analysis, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import option, read_settings, settings
from closedloop.readable import with_error
from closedloop.recording.titles import recorded_titles, shared
from closedloop.signatures import at_door

from .present import Library
from .probing import FIGURES, ROWS, ProbeSettings, on_screen, record_probe, resuming

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The unit of a spatial frequency, for help.
_CYCLES = "in cycles per degree where the screen is known (px_per_deg), else per image"


@settings
class GratingSettings(ProbeSettings):
    """The numbers of a session of gratings."""

    orientations: int = option(default=12, least=4, help="Orientations, evenly over 180 degrees.")
    frequencies: int = option(default=6, least=3, help="Spatial frequencies, evenly in octaves.")
    phases: int = option(default=4, least=3, help="Phases, evenly over a cycle.")
    lowest: float | None = option(
        default=None, unit="a frequency", shown="a cycle in 64 pixels", help=f"The lowest spatial frequency, {_CYCLES}."
    )
    highest: float | None = option(
        default=None, unit="a frequency", shown="a cycle in 4 pixels", help=f"The highest spatial frequency, {_CYCLES}."
    )
    size: float | None = option(
        default=None,
        unit="a length",
        shown="the whole image",
        help="Width of the grating, four standard deviations of its Gaussian window, in degrees where the screen is "
        "known (px_per_deg), else in pixels.",
    )
    contrast: float = option(default=1.0, unit="a contrast", help="Of the gratings; 1 is from black to white.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast > 1:
            raise InvalidArgumentError(f"contrast: expected a contrast above 0 and at most 1, got {self.contrast!r}.")


@at_door
def gratings(
    subject: Subject,
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows sinusoidal gratings: 12 orientations × 6 spatial frequencies × 4 phases, and a grey image.

    `closedloop.analysis.fit_gratings` fits the preferred orientation and frequency, and tells simple from complex cells
    by F1 ÷ F0.

    Args:
        subject: The network or animal that is shown images.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``orientations``, ``lowest``, ``highest``, ``x``, ``y``, ``size``, ``repeats``, ``seed`` …; see
            `GratingSettings`.

    Returns:
        The recording, with `kind` and `thread` "grating" and the coordinates `grating_orientation_deg` (of the stripes,
        counterclockwise from horizontal), `grating_cycles_per_image` and `grating_phase_deg` (0 is the middle of a
        bright stripe) on presentations, NaN for the grey image.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = on_screen(read_settings(GratingSettings, numbers), subject)
    return record_probe("gratings", subject, grating_library(chosen), chosen, {}, save, exists, progress)


def grating_library(chosen: GratingSettings) -> Library:
    """Makes gratings when they are shown.

    Raises:
        InvalidArgumentError: The frequencies are not those that an image can hold.
    """
    screen = chosen.screen
    side = screen.resolution
    per_image = 1.0 if screen.px_per_deg is None else side / screen.px_per_deg  # degrees that an image is wide
    lowest = side / 64 if chosen.lowest is None else chosen.lowest * per_image
    highest = side / 4 if chosen.highest is None else chosen.highest * per_image
    if not 0 < lowest < highest <= side / 2:
        raise InvalidArgumentError(
            f"lowest, highest: expected a lower and a higher frequency of at most {side / 2 / per_image:.4g} (a cycle "
            f"in 2 pixels), got {lowest / per_image:.4g} and {highest / per_image:.4g}."
        )
    cycles = np.geomspace(lowest, highest, chosen.frequencies)
    shape = (chosen.orientations, chosen.frequencies, chosen.phases)
    i, j, k = (v.ravel() for v in np.indices(shape))
    blank = [np.nan]
    angle = np.concatenate([180 * i / chosen.orientations, blank])
    cycle = np.concatenate([cycles[j], blank])
    phase = np.concatenate([360 * k / chosen.phases, blank])
    row, column = screen.place(chosen.x, chosen.y)
    sd = None if chosen.size is None else chosen.size * screen.scale / 4

    def read(which: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn = grating(
            np.nan_to_num(angle[which]),
            np.nan_to_num(cycle[which]) / side,
            np.nan_to_num(phase[which]),
            row,
            column,
            side,
            contrast=chosen.contrast,
            background=chosen.background,
            sd=sd,
        )
        drawn[np.isnan(angle[which])] = chosen.background
        return drawn

    return Library(
        ids=(*(f"grating-{a:02d}-{b:02d}-{c:02d}" for a, b, c in zip(i, j, k, strict=True)), "blank"),
        read=read,
        thread=GRATING,
        kind=GRATING,
        coords={"grating_orientation_deg": angle, "grating_cycles_per_image": cycle, "grating_phase_deg": phase},
        scalars=screen.scalars(),
    )


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what each unit prefers, and the curves of the first ones."""
    found = fit_gratings(recording, units=list(range(min(recording.sizes["neuroid"], ROWS))))
    screen = Screen.of_recording(recording)
    names = recorded_titles(recording)
    titles, note = shared(names)
    rows = [_row(found.isel(neuroid=i), title, screen) for i, title in enumerate(titles[:ROWS])]
    unit = "image" if screen.px_per_deg is None else "degree"
    said = [f"units {note}" if note else "", f"the first {ROWS} of {len(titles)} units" if len(titles) > ROWS else ""]
    table = RunTable(
        "Tuning to gratings",
        ("unit", "orientation", "half width", f"cycles per {unit}", "octaves", "F1/F0", "R²"),
        rows,
        "; ".join(word for word in said if word),
    )
    lines = ["Angles of stripes, counterclockwise from horizontal; ± standard error (HC3)."]
    without = [str(reason) for reason in found["reason"].values if reason]
    if without:
        lines.append(f"{len(without)} of these {len(rows)} units lack something, such as: {without[0]}.")
    kinds = found["cell"].values.tolist()
    lines.append(f"Simple (F1/F0 above 1): {kinds.count('simple')}; complex: {kinds.count('complex')}.")
    first = np.argsort(found["reason"].values != "", kind="stable")[:FIGURES]
    figures = {
        f"gratings-{unit}": RunFigure(
            partial(_draw, recording, int(unit)),
            f"Tuning of {names[unit]} to gratings: all of them, and the curves through the best one with the fit.",
        )
        for unit in sorted(first.tolist())
    }
    question = f"Which gratings drive {'; '.join(names[:2])}{'; …' if len(names) > 2 else ''}"
    return RunSummary([table], lines, figures, question)


def _row(one: xr.Dataset, title: str, screen: Screen) -> list[str]:
    """Returns the cells of a unit."""
    frequency = "preferred_cycles_per_image" if screen.px_per_deg is None else "preferred_cycles_per_deg"

    def cell(name: str, sign: str = "") -> str:
        value = float(one[name])
        return with_error(value, float(one[f"{name}_se"])) + ("" if np.isnan(value) else sign)

    ratio, r_squared = float(one["f1_f0"]), float(one["r_squared"])
    return [
        title,
        cell("preferred_orientation_deg", "°"),
        cell("half_width_deg", "°"),
        cell(frequency),
        cell("bandwidth_octaves"),
        "–" if np.isnan(ratio) else f"{ratio:.2f}",
        "–" if np.isnan(r_squared) else f"{r_squared:.2f}",
    ]


def _draw(recording: xr.Dataset, unit: int) -> Figure:
    from closedloop.figures import plot_gratings

    return plot_gratings(recording, unit=unit)


def _library_again(chosen: GratingSettings, pictures: ImageSet | None, content: Any, subject: Subject) -> Library:
    return grating_library(chosen)


#: What others must know of runs of gratings.
PROTOCOL = RunProtocol(
    "gratings",
    resuming(GratingSettings, _library_again),
    _summary,
    command="gratings",
    analyses={"fit_gratings": Analysis(fit_gratings, "unit")},
)
