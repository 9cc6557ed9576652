"""What a run's folder holds, and what must be known before its first generation is written."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import STILL, FloatArray, Form, Units
from closedloop.presentations import Spikes
from closedloop.recording.places import root_of

if TYPE_CHECKING:
    import xarray as xr

#: Version of the layout of ordinary runs; what is older is copied into it before it goes on.
SCHEMA = 3
#: That of lean runs, which record of most images the response of one unit alone; a reader refuses a newer one.
NEWEST = 4
#: In the folder of a run: the rows, the states to go on from, and the file that says how many of them are committed.
DATA, STATES, POINTER = "data.zarr", "state", "COMMITTED.json"
#: What repeats the run, and the folders of evolved and of reference images.
EXPERIMENT, IMAGES, REFERENCES = "experiment.yaml", "images", "references"
#: Whose lock says that a process writes; the names of reference images, in their folder; the checksums of full chunks.
LOCK, NAMES, CHECKSUMS = "LOCK", "ids.json", "CHECKSUMS"
#: The file of a sweep's folder that lists its runs, a line of JSON each.
SWEEP = "sweep.jsonl"
#: By this file another process asks a run to end; see `closedloop.loop.ending`.
END = "END"
#: What a person was told while a run went on, a line of JSON each; see `closedloop.recording.notes`.
NOTICES = "NOTICES.jsonl"
#: What a run found, in a few numbers; see `closedloop.recording.summaries`.
SUMMARY = "SUMMARY.json"
#: The folder, in that of a run, with what an older version of closedloop had finished of it in another form.
EARLIER = "earlier"

#: Coordinates of each presentation: name -> (dtype, value of an unwritten row).
PRESENTATION: dict[str, tuple[str, Any]] = {
    "thread": ("str", ""),
    "generation": ("int32", -1),
    "kind": ("str", ""),
    "stimulus_id": ("str", ""),
    "repeat": ("int32", -1),
    "onset_s": ("float64", np.nan),
}
#: The coordinate that says how the code of an image was found, in runs whose optimizer has more than one way.
PROPOSED = "proposed_by"


#: The dimensions along which a recording grows: presentations; the spikes of a rig; its blocks.
PRESENTATIONS, SPIKE, BLOCK = "presentation", "spike", "block"
#: What a recording with spikes has beside its columns; `spike_start` and `spike_count` are of each presentation.
SPIKE_NAMES = ("spike", "block", "spike_start", "spike_count", "spike_time_s", "spike_unit", "unit_number")


@dataclass(frozen=True)
class Variable:
    """Type and shape of something that has a row for each presentation.

    Attributes:
        dtype: "float64", "uint8" …, or "str".
        fill: What stands in a row that was not written.
        dims: Dimensions beside that along which it grows.
        shape: Their lengths.
        along: Where it has a row for each spike or block instead: "spike" or "block".
    """

    dtype: str
    fill: Any
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    along: str = PRESENTATIONS


@dataclass(frozen=True)
class TimeBins:
    """The bins of responses with a time axis, in seconds from the onset.

    Attributes:
        start_s: Begin of each, ``(b,)``.
        stop_s: End of each, ``(b,)``.
    """

    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """One generation as it is recorded: a row for each presentation.

    Attributes:
        coords: The coordinates named in `PRESENTATION` and in the layout, each ``(n,)``.
        responses: ``(n, units[, time])``.
        codes: ``(n, latent)``, NaN where the image has no code or a shorter one.
        scores: ``(n,)``, NaN where there is none.
        images: Images to keep, by stimulus id: ``(3, h, w)``; grey ones ``(1, h, w)``; movies with their frames first.
        rate_hz: Frames per second of movies.
        variables: The further variables that the layout names, each ``(n, …)``.
        spikes: Those of all presentations, at a rig that gives them.
        bins: The time bins of the responses, where they are known.
        quality: What a rig says of each unit after this block, by name, each ``(units,)``.
        own: Of a lean layout, the column of the unit whose response is recorded of each presentation, ``(n,)``; -1 for
            those of which the responses of all units are.
    """

    coords: Mapping[str, NDArray[Any]]
    responses: FloatArray
    codes: FloatArray
    scores: FloatArray
    images: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    rate_hz: float | None = None
    variables: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    spikes: Spikes | None = None
    bins: TimeBins | None = None
    quality: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    own: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Layout:
    """What must be known before the first generation is written.

    Attributes:
        capacity: Presentations that the arrays can hold; unwritten ones cost no space.
        latent: Length of the longest code.
        units: What the subject records.
        coords: Further coordinates of each presentation: name -> (dtype, value of an unwritten row).
        scalars: What identifies the run (subject, seed …): scalar coordinates, kept by `xarray.concat`.
        evolutions: What is known of each evolution: name of the coordinate -> one text for each evolution. "evolution",
            the threads' names, is among them; empty for a run that evolves nothing.
        variables: What else is recorded of each presentation, by name: an image, a curve, a number that identifies
            nothing.
        lean: Whether the response of one unit alone is recorded of presentations that concern no other; see
            `closedloop.recording.lean`. The coordinate `own_neuroid` is then among `coords`.
    """

    capacity: int
    latent: int
    units: Units
    scalars: Mapping[str, str | int | float]
    coords: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    evolutions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    variables: Mapping[str, Variable] = field(default_factory=dict)
    lean: bool = False

    @property
    def schema(self) -> int:
        """Version of the layout of its store."""
        return NEWEST if self.lean else SCHEMA

    def __post_init__(self) -> None:
        """Raises InvalidArgumentError if a column of the units has a name that this recording needs."""
        dims = {dim for variable in self.variables.values() for dim in variable.dims}
        taken = {*self.coords, *self.scalars, *self.evolutions, *self.variables, *dims}
        if both := sorted(taken & set(self.units.coords)):
            raise InvalidArgumentError(
                f"units: their column {both[0]!r} has the name of something recorded; give it another name."
            )


def form_scalars(form: Form) -> dict[str, str | int | float]:
    """Returns the scalars that say in which form stimuli were shown; none for colour stills."""
    if form == STILL:
        return {}
    moving = {} if form.frames is None or form.rate_hz is None else {"frames": form.frames, "rate_hz": form.rate_hz}
    return {"channels": form.channels, **moving}


#: The scalar that says in how many bits every stimulus was shown; of older runs, which do not say it, only re-tests
#: and references were rounded.
IMAGE_BITS = "image_bits"


def were_rounded(recording: xr.Dataset) -> NDArray[np.bool_]:
    """Tells which presentations are of runs that showed all images in 8 bits, ``(presentation,)``."""
    bits = recording[IMAGE_BITS].values if IMAGE_BITS in recording.coords else np.nan
    return np.broadcast_to(np.asarray(bits) == 8, recording.sizes["presentation"])


def recorded_form(recording: xr.Dataset) -> Form:
    """Returns the form in which a single run's stimuli were shown; colour stills where its recording says nothing."""
    known = {n: recording[n].values.flat[0].item() for n in ("channels", "frames", "rate_hz") if n in recording.coords}
    return Form(**known) if known else STILL


def is_run(path: str | Path) -> bool:
    """Tells whether a folder is a run of closedloop, or a file a packed one."""
    try:
        return (root_of(path) / EXPERIMENT).is_file()
    except OSError:
        return False


def _committed(path: Path) -> bool:
    """Tells whether a run has a finished generation; False for a name that no folder can have."""
    try:
        return (path / POINTER).exists()
    except OSError:
        return False


#: What mends an error of the operating system.
_CURES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the largest size of a file that is allowed (ulimit -f)",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files",
    errno.ENOENT: "put back what was moved or removed from its folder",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EROFS: "make the disk writable",
}


@contextmanager
def writing(path: Path | None) -> Iterator[None]:
    """Turns the operating system's errors into one that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "mend that")
        safe = f"No generation was finished; {cure} and begin again, or choose another folder."
        if path is not None and _committed(path):
            safe = f"Every finished generation is safe; {cure}, then go on with: closedloop resume {path}"
        raise RecordingError(f"{path}: cannot write ({error.strerror or error}). {safe}") from error


#: The name under which reference images stand in the column `thread`.
REFERENCE = "reference"

#: The entry of the encoding of a recording from an export that names its file.
EXPORT = "export"


#: The dimension along which a recording names its evolutions, and the coordinate with the threads' names.
EVOLUTION = "evolution"
