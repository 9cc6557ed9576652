"""Record a subject's responses to a fixed set of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.checks import check_any_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.images.sets import ImageSet, as_image_set, folder_fingerprint, folder_images, read_image, read_images
from closedloop.interfaces import STILL, FloatArray, Form, State, Subject, form_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Handed, RunProtocol, nothing_more
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.recipes import recipe, version
from closedloop.recording.layout import IMAGE_BITS, REFERENCE, REFERENCES, Layout, Rows, form_scalars
from closedloop.recording.reader import open_recording
from closedloop.recording.references import keep_references, source
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, restore_generator
from closedloop.signatures import at_door

from .parameters import PARAMETERS, Parameters, pack_parameters, read_parameters, stored_parameters
from .stored import check_complete, stored_images, stored_settings, subject_of

#: Images that are shown, and committed, together.
BLOCK = 64


@settings
class PresentSettings(Timing):
    """The numbers of a run of recorded images."""

    repeats: int = option(default=1, least=1, help="Presentations of each image.")
    resolution: int = option(
        default=224, least=1, help="Height and width in pixels to which images of a folder are cropped and resized."
    )


@at_door
def present(
    subject: Subject,
    images: ImageSet | str | Path | NDArray[Any],
    *,
    parameters: Parameters = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows each image ``repeats`` times, in random order, in blocks of 64 images.

    Args:
        subject: The network or animal that is shown images.
        images: A folder, an array ``(n, 3, h, w)`` in [0, 1] (rounded to 8 bits), an `ImageSet`, or "bundled"; grey
            images and movies by the rule of `closedloop.images.forms`.
        parameters: What is known of each image (angle, position, size, category …), which become coordinates: a mapping
            from names of columns to one value for each image, in their order, a DataFrame, or a CSV file. With a
            column ``stimulus_id`` its rows may come in any order.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of images shown so far and of all.
        **numbers: ``repeats``, ``seed`` …; see `PresentSettings`.

    Returns:
        The recording: `responses` ``(presentation, neuroid)`` with `kind` "reference" and the images' names as
        `stimulus_id`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(PresentSettings, numbers)
    library = Library.of(images, chosen.resolution, form_of(subject))
    library = replace(library, coords=read_parameters(parameters, library.ids, subject.units))
    packed = pack_parameters(library.coords) if library.coords else b""
    experiment = {
        "closedloop": version(),
        "protocol": "present",
        "subject": recipe(subject),
        "images": source(images),
        **asdict(chosen),
        **({"parameters": list(library.coords)} if packed else {}),
        "fingerprints": fingerprints(subject=subject, images=library.fingerprint, parameters=packed),
    }
    own_copy = experiment["images"] == REFERENCES
    files = {PARAMETERS: packed} if packed else {}
    return record(
        Presentation(subject, library, chosen, progress, own_copy, files),
        experiment,
        save,
        exists,
    )


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a run of recorded images; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, PresentSettings, "subject", "images")
    subject = subject_of(run, content, handed)
    chosen = stored_settings(PresentSettings, content)
    stored = stored_images(run, content["images"])
    library = Library.of(content["images"] if stored is None else stored, chosen.resolution, form_of(subject))
    library = replace(library, coords=stored_parameters(run, content))
    check_fingerprints(run, content, fingerprints(subject=subject, images=library.fingerprint))
    return run_course(Presentation(subject, library, chosen, handed.progress), Recording.reopen(run))


#: What others must know of runs of recorded images.
PROTOCOL = RunProtocol("present", _resume, section=nothing_more, command="record")


@dataclass(frozen=True)
class Library:
    """Images by number, read when they are needed: a folder may hold more than memory.

    Attributes:
        ids: Name of each image.
        read: Numbers ``(n,)`` -> images ``(n, 3, h, w)`` float32 in [0, 1].
        thread: Stands in the column `thread`.
        kind: Stands in the column `kind`.
        latent: Length of the codes; 0 where images have none.
        codes: Numbers ``(n,)`` -> codes ``(n, latent)``.
        coords: Further coordinates of each image, by name: ``(images,)``, text or numbers.
        evolutions: How the images are made, where they are not given; see `closedloop.recording.layout.Layout`.
        fingerprint: SHA-256 of the images, so that a run never goes on with others of the same names; empty where
            codes make them.
        rate_hz: Frames per second, of movies in memory.
        scalars: What else identifies the run, by name; see `closedloop.recording.layout.Layout`.
        sources: Pictures of which the images are made, kept in the run's folder; None for none.
        threads: Of each image what stands in the column `thread`, where they differ.
        at_once: Whether all blocks count as one generation.
    """

    ids: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    thread: str = REFERENCE
    kind: str = "reference"
    latent: int = 0
    codes: Callable[[NDArray[np.int64]], FloatArray] = lambda which: np.empty((len(which), 0))
    coords: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    evolutions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fingerprint: str = ""
    rate_hz: float | None = None
    scalars: Mapping[str, str | int | float] = field(default_factory=dict)
    sources: ImageSet | None = None
    threads: tuple[str, ...] = ()
    at_once: bool = False

    @property
    def told(self) -> str:
        """SHA-256 of the images, or of the pictures that they are made of; empty where codes or settings make them."""
        return self.fingerprint if self.sources is None else self.sources.fingerprint

    @classmethod
    def of(cls, images: ImageSet | str | Path | NDArray[Any], resolution: int, form: Form = STILL) -> Library:
        """Returns a library of a folder, read lazily, or of images in memory, for a subject that is shown this form."""
        if isinstance(images, (str, Path)) and str(images) != "bundled":
            ids, paths = folder_images(images)
            look_at(paths)
            return cls(
                tuple(ids),
                lambda which: read_images([paths[i] for i in which], resolution, form),
                fingerprint=folder_fingerprint(images),
            )
        size = resolution
        if not isinstance(images, (str, Path)):
            array = images.images if isinstance(images, ImageSet) else check_any_images(images)
            if array.shape[-2] != array.shape[-1]:
                raise InvalidArgumentError(
                    f"images: expected square images (n, 3, h, h), got {array.shape}; crop them."
                )
            size = array.shape[-1]
        known = as_image_set(images, size, form)
        return cls(known.ids, lambda which: known.images[which], fingerprint=known.fingerprint, rate_hz=known.rate_hz)


def look_at(paths: Sequence[Path]) -> None:
    """Reads each image once, so that one that cannot be read is found before a subject is shown anything."""
    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it unpacks
        for _ in pool.map(lambda path: read_image(path, 1), paths):
            pass


class Presentation:
    """Images of a library under way, block by block: the course of `present` and of `landscape`.

    Args:
        subject: The network or animal that is shown images.
        library: The images.
        chosen: ``repeats``, ``seed`` and the timing.
        progress: Whether progress is shown, or who is told it; see `present`.
        own_copy: Whether the images are kept in the run's folder, since they have no other place.
        files: Further files of the run's folder, by name.
    """

    reason = ""

    def __init__(
        self,
        subject: Subject,
        library: Library,
        chosen: PresentSettings | Any,
        progress: Progress = None,
        own_copy: bool = False,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.subject: Subject = subject
        self._library = library
        self._settings = chosen
        self._progress = as_progress(progress, "recording")
        self._own_copy, self._files = own_copy, files or {}
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks)
        self._rng = named_generator(chosen.seed, "order")
        self._order = self._rng.permutation(len(library.ids))
        self._done = self._presentations = 0
        self._eight_bit = True

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        library, chosen = self._library, self._settings
        capacity = len(library.ids) * chosen.repeats * (1 + chosen.retries)
        scalars = {
            "subject": self.subject.name,
            **form_scalars(self._presenter.form),
            "seed": chosen.seed,
            "closedloop_version": version(),
            IMAGE_BITS: 8,
            **library.scalars,
        }
        coords = {name: _kind_of_column(column) for name, column in library.coords.items()}
        return Layout(capacity, library.latent, self.subject.units, scalars, coords, library.evolutions)

    def begin(self, recording: Recording) -> None:
        """Keeps what the run needs beside its data."""
        for name, data in self._files.items():
            recording.keep(name, data)
        if recording.path is not None and self._own_copy:
            everything = np.arange(len(self._library.ids))
            images = ImageSet(self._library.ids, self._library.read(everything), self._library.rate_hz)
            keep_references(recording, images)
        keep_references(recording, self._library.sources)
        begin_progress(self._progress, self._done, len(self._order))  # last, for what does not begin is not ended

    def show(self) -> Shown | None:
        """Shows the next images."""
        block = self._block
        if not len(block):
            return None
        images = self._library.read(block)
        images = quantize(images) if self._eight_bit else images
        repeats = np.full(len(block), self._settings.repeats)
        return self._presenter.show(images, repeats, self._rng, ids=[self._library.ids[i] for i in block])

    def learn(self, shown: Shown) -> Rows:
        """Returns the rows of the images that were shown, and goes on to the next."""
        block, library, n = self._block, self._library, len(shown.stimulus)
        which = block[shown.stimulus]
        soa_s = max(self._settings.soa_s, self._presenter.form.duration_s)
        coords = {
            "thread": np.array(library.threads)[which] if library.threads else np.full(n, library.thread),
            "generation": np.full(n, 0 if library.at_once else self._done // BLOCK, np.int32),
            "kind": np.full(n, library.kind),
            "stimulus_id": np.array(library.ids)[which],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": self._presentations * soa_s + np.arange(n) * soa_s,
            **{name: column[which] for name, column in library.coords.items()},
        }
        self._done += len(block)
        self._presentations += n
        return Rows(coords, shown.responses, library.codes(which), np.full(n, np.nan))

    @property
    def _block(self) -> NDArray[np.int64]:
        """Numbers of the images that are shown next."""
        return self._order[self._done : self._done + BLOCK]

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, self._done, len(self._order))

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {
            "done": self._done,
            "presentations": self._presentations,
            "names": _digest(self._library.ids),
            "order": generator_state(self._rng),
            "eight_bit": self._eight_bit,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It is that of other images, or of another subject.
        """
        if state["names"] != _digest(self._library.ids):
            raise InvalidArgumentError(
                "images: they are not those with which the run began; put the folder back as it was."
            )
        self._done, self._presentations = state["done"], state["presentations"]
        restore_generator(self._rng, state["order"])
        self._eight_bit = bool(state.get("eight_bit", False))  # landscapes of older versions were not rounded


def _digest(names: Sequence[str]) -> str:
    """Returns a short text that tells two lists of names apart."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _kind_of_column(column: NDArray[Any]) -> tuple[str, Any]:
    """Returns the type of a coordinate, and the value of a row that is not written."""
    if column.dtype.kind in "OU":
        return "str", ""
    return ("int64", -1) if column.dtype.kind == "i" else ("float64", np.nan)
