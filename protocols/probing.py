"""What the protocols share that a session begins with: where stimuli stand, and how a run begins and goes on.

Each shows a fixed set of images that are made from its settings, as `present` does; they differ in what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from closedloop.checks import is_number
from closedloop.errors import InvalidArgumentError
from closedloop.images.patterns import Screen
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Subject, Wrapping, resolution_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Handed
from closedloop.loop.settings import Timing, option, settings
from closedloop.presentations import Screened, Sized
from closedloop.recipes import recipe, version
from closedloop.recording.layout import REFERENCES
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from closedloop.signatures import at_door

from .present import Library, Presentation
from .stored import check_complete, stored_images, stored_settings, subject_of

#: Units that the table of such a run shows, and units that have a figure.
ROWS, FIGURES = 24, 3


@settings
class ProbeSettings(Timing):
    """Where stimuli stand, and how often each is shown."""

    repeats: int = option(default=1, least=1, help="Presentations of each image.")
    resolution: int | None = option(
        default=None, least=8, shown="the subject's, or 224", help="Height and width of the images in pixels."
    )
    px_per_deg: float | None = option(
        default=None,
        unit="pixels per degree",
        shown="the subject's, if it knows its screen",
        help="Pixels of an image per degree of visual angle; where it is known all lengths are in degrees.",
    )
    x: float = option(
        default=0.0,
        help="Where stimuli stand, right of the middle of the image, in degrees where the screen is known "
        "(px_per_deg), else in pixels.",
    )
    y: float = option(default=0.0, help="Where they stand, above the middle of the image, likewise.")
    background: float = option(default=0.5, help="Grey level around stimuli, in [0, 1].")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.background <= 1:
            raise InvalidArgumentError(f"background: expected a grey level in [0, 1], got {self.background!r}.")

    @property
    def screen(self) -> Screen:
        """What an image fills; settings of which `on_screen` has filled in the resolution."""
        return Screen(resolution_of_none(self.resolution), self.px_per_deg)


def resolution_of_none(resolution: int | None) -> int:
    """Returns a resolution that was filled in.

    Raises:
        InvalidArgumentError: It was not.
    """
    if resolution is None:
        raise InvalidArgumentError("resolution: expected a whole number, got None.")
    return resolution


S = TypeVar("S", bound=ProbeSettings)
T = TypeVar("T", bound=Timing)


def on_screen(chosen: S, subject: Subject) -> S:
    """Returns settings with the resolution and the scale of a subject's screen, where they do not say their own.

    Raises:
        InvalidArgumentError: The place lies outside the image.
    """
    resolution = chosen.resolution or resolution_of(subject)
    found = replace(chosen, resolution=resolution, px_per_deg=chosen.px_per_deg or px_per_deg_of(subject, resolution))
    screen = found.screen
    row, column = screen.place(found.x, found.y)
    if not (-0.5 <= row <= screen.resolution - 0.5 and -0.5 <= column <= screen.resolution - 0.5):
        raise InvalidArgumentError(
            f"x, y: expected a place within the image, at most {screen.resolution / 2 / screen.scale:.4g}{screen.sign} "
            f"from its middle, got {found.x!r} and {found.y!r}."
        )
    return found


@at_door
def px_per_deg_of(subject: Subject, resolution: int | None = None) -> float | None:
    """Returns pixels per degree of what a subject is shown, whatever noise is around it; None where it does not say.

    Args:
        subject: The network or animal that is shown images.
        resolution: Height and width of the images in pixels; None for its own.
    """
    while not isinstance(subject, Screened) and isinstance(subject, Wrapping):
        subject = subject.subject
    width_deg = subject.width_deg if isinstance(subject, Sized) else None
    if resolution is not None and is_number(width_deg) and width_deg > 0:
        return float(resolution / width_deg)
    said = subject.px_per_deg if isinstance(subject, Screened) else None
    return float(said) if isinstance(said, (int, float, np.number)) and np.isfinite(said) and said > 0 else None


def within(name: str, low: float, high: float, screen: Screen) -> None:
    """Raises unless pixels from ``low`` to ``high`` lie within the image.

    Raises:
        InvalidArgumentError: They do not; the error says how far the image goes.
    """
    if low < -0.5 - 1e-6 or high > screen.resolution - 0.5 + 1e-6:
        raise InvalidArgumentError(
            f"{name}: expected what lies within the image, which goes {screen.resolution / 2 / screen.scale:.4g}"
            f"{screen.sign} from its middle to each side; make it smaller, or move x and y."
        )


def record_probe(
    name: str,
    subject: Subject,
    library: Library,
    chosen: Timing,
    said: Mapping[str, Any],
    save: str | Path | None,
    exists: str,
    progress: Progress,
) -> xr.Dataset:
    """Shows a library, or goes on with it.

    Args:
        name: Of the protocol.
        subject: The network or animal that is shown images.
        library: The images.
        chosen: The numbers of the run.
        said: Further entries of its file.
        save: Folder of the run; None keeps it in memory.
        exists: "fail", or "resume".
        progress: See `present`.
    """
    experiment = {
        "closedloop": version(),
        "protocol": name,
        "subject": recipe(subject),
        **({"images": REFERENCES} if library.sources is not None else {}),
        **said,
        **asdict(chosen),
        "fingerprints": fingerprints(subject=subject, images=library.told),
    }
    return record(Presentation(subject, library, chosen, progress), experiment, save, exists)


def resuming(
    made: type[T], library_of: Callable[[T, ImageSet | None, Mapping[str, Any], Subject], Library]
) -> Callable[[Path, Mapping[str, Any], Handed], xr.Dataset]:
    """Returns how runs go on whose images a function makes of settings, own pictures, the file and the subject."""

    def go_on(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
        if is_finished(run):
            return open_recording(run)
        check_complete(run, content, made, "subject")
        chosen = stored_settings(made, content)
        subject = subject_of(run, content, handed)
        sources = stored_images(run, content.get("images"))
        library = library_of(chosen, sources, content, subject)
        check_fingerprints(run, content, fingerprints(subject=subject, images=library.told))
        return run_course(Presentation(subject, library, chosen, handed.progress), Recording.reopen(run))

    return go_on
