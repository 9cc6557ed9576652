"""Record a subject's responses to a fixed set of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.checks import check_any_images, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.images.sets import ImageSet, as_image_set, folder_images, read_images
from closedloop.interfaces import STILL, FloatArray, Form, State, Stateful, Subject, form_of
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.settings import Settings
from closedloop.recipes import plain, recipe, version
from closedloop.recording.layout import REFERENCE, REFERENCES, Layout, Rows, form_scalars
from closedloop.recording.references import source, write_references
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, restore_generator

from .parameters import PARAMETERS, Parameters, pack_parameters, read_parameters

#: Images that are shown, and committed, together.
BLOCK = 64
#: What is stored of the arguments, besides subject and images.
PRESENT_SETTINGS = ("repeats", "resolution", "retries", "timeout_s", "soa_s", "seed")


def present(
    subject: Subject,
    images: ImageSet | str | Path | NDArray[Any],
    *,
    repeats: int = 1,
    resolution: int = 224,
    retries: int = 2,
    timeout_s: float | None = None,
    soa_s: float = 0.2,
    seed: int = 0,
    parameters: Parameters = None,
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Shows each image ``repeats`` times, in random order, in blocks of 64 images.

    Args:
        subject: Who looks.
        images: A folder, an array ``(n, 3, h, w)`` in [0, 1] (rounded to 8 bits), an `ImageSet`, or "bundled"; grey
            images and movies by the rule of `closedloop.images.forms`.
        repeats: Presentations of each image.
        resolution: Height and width to which images of a folder are cropped and resized.
        retries: How often a lost presentation is shown again.
        timeout_s: Seconds that the subject may take for one block; None waits for ever.
        soa_s: Nominal seconds from one presentation to the next.
        seed: Seed of the order.
        parameters: What is known of each image (angle, position, size, category …), which become coordinates: a mapping
            from names of columns to one value for each image, in their order, a DataFrame, or a CSV file. With a
            column ``stimulus_id`` its rows may come in any order.
        save: Folder of the run; None keeps it in memory.
        progress: Called after each block with the number of images shown so far and of all.

    Returns:
        The recording: `responses` ``(presentation, neuroid)`` with `kind` "reference" and the images' names as
        `stimulus_id`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    Settings(repeats=repeats, retries=retries, timeout_s=timeout_s, soa_s=soa_s, seed=seed)  # checks them
    resolution = check_whole("resolution", resolution, 1)
    settings = dict(zip(PRESENT_SETTINGS, (repeats, resolution, retries, timeout_s, soa_s, seed), strict=True))
    library = Library.of(images, resolution, form_of(subject))
    library = replace(library, coords=read_parameters(parameters, library.ids, subject.units))
    experiment = {
        "closedloop": version(), "protocol": "present", "subject": recipe(subject), "images": source(images),
        **settings,
        **({"parameters": list(library.coords)} if library.coords else {}),
    }  # fmt: skip
    recording = Recording.create(save, layout(subject, library, settings), plain(experiment))
    try:
        if library.coords:
            recording.keep(PARAMETERS, pack_parameters(library.coords))
        if recording.path is not None and experiment["images"] == REFERENCES:
            write_references(
                recording.path, ImageSet(library.ids, library.read(np.arange(len(library.ids))), library.rate_hz)
            )
    except BaseException:
        recording.close()
        raise
    return go_on(subject, library, recording, settings, progress)


def go_on(
    subject: Subject,
    library: Library,
    recording: Recording,
    settings: dict[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Shows what has not been shown yet; a new recording begins at the beginning."""
    order_rng = named_generator(settings["seed"], "order")
    order = order_rng.permutation(len(library.ids))
    progressed: dict[str, Any] = {"done": 0, "presentations": 0, "names": _digest(library.ids)}
    presenter = Presenter(subject, settings["retries"], settings["timeout_s"])

    def snapshot() -> State:
        saved = subject.state() if isinstance(subject, Stateful) else None
        return {**progressed, "order": generator_state(order_rng), "subject": saved}

    try:
        recording.check_units(subject.units)
        state = recording.state()
        if state is None:
            recording.use(layout(subject, library, settings))
        else:
            _restore(state, progressed, order_rng, subject)
        while (done := progressed["done"]) < len(order):
            block = order[done : done + BLOCK]
            shown = presenter.show(library.read(block), np.full(len(block), settings["repeats"]), order_rng)
            recording.check(shown.responses)
            first = progressed["presentations"]
            rows = _rows(shown, library, block, done // BLOCK, first, max(settings["soa_s"], presenter.form.duration_s))
            progressed["done"] += len(block)
            progressed["presentations"] += len(shown.stimulus)
            recording.append(rows, snapshot())
            if progress is not None:
                progress(progressed["done"], len(order))
        recording.finish(snapshot())
        return recording.dataset()
    finally:
        recording.close()


def _restore(state: State, progressed: dict[str, Any], order: np.random.Generator, subject: Subject) -> None:
    """Goes back to a saved state.

    Raises:
        InvalidArgumentError: It is that of other images, or of another subject.
    """
    if state["names"] != progressed["names"]:
        raise InvalidArgumentError(
            "images: they are not those with which the run began; put the folder back as it was."
        )
    progressed.update(done=state["done"], presentations=state["presentations"])
    restore_generator(order, state["order"])
    if isinstance(subject, Stateful):
        if state["subject"] is None:
            raise InvalidArgumentError("subject: the run's subject had no state; hand over the same subject.")
        subject.restore(state["subject"])


def _digest(names: Sequence[str]) -> str:
    """Short text that tells two lists of names apart."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


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
        rate_hz: Frames per second, of movies in memory.
    """

    ids: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    thread: str = REFERENCE
    kind: str = "reference"
    latent: int = 0
    codes: Callable[[NDArray[np.int64]], FloatArray] = lambda which: np.empty((len(which), 0))
    coords: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    evolutions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rate_hz: float | None = None

    @classmethod
    def of(cls, images: ImageSet | str | Path | NDArray[Any], resolution: int, form: Form = STILL) -> Library:
        """A library of a folder, read lazily, or of images in memory, for a subject that is shown this form."""
        if isinstance(images, (str, Path)) and str(images) != "bundled":
            ids, paths = folder_images(images)
            return cls(tuple(ids), lambda which: read_images([paths[i] for i in which], resolution, form))
        size = resolution
        if not isinstance(images, (str, Path)):
            array = images.images if isinstance(images, ImageSet) else check_any_images(images)
            if array.shape[-2] != array.shape[-1]:
                raise InvalidArgumentError(
                    f"images: expected square images (n, 3, h, h), got {array.shape}; crop them."
                )
            size = array.shape[-1]
        known = as_image_set(images, size, form)
        return cls(known.ids, lambda which: known.images[which], rate_hz=known.rate_hz)


def layout(subject: Subject, library: Library, settings: dict[str, Any]) -> Layout:
    """The shape of the recording: room for every presentation that may come."""
    capacity = len(library.ids) * settings["repeats"] * (1 + settings["retries"])
    scalars = {
        "subject": subject.name,
        **form_scalars(form_of(subject)),
        "seed": settings["seed"],
        "closedloop_version": version(),
    }
    coords = {name: _kind_of_column(column) for name, column in library.coords.items()}
    return Layout(capacity, library.latent, subject.units, scalars, coords, library.evolutions)


def _rows(shown: Shown, library: Library, block: NDArray[np.int64], index: int, first: int, soa_s: float) -> Rows:
    n = len(shown.stimulus)
    which = block[shown.stimulus]
    coords = {
        "thread": np.full(n, library.thread),
        "generation": np.full(n, index, np.int32),
        "kind": np.full(n, library.kind),
        "stimulus_id": np.array(library.ids)[which],
        "repeat": shown.repeat.astype(np.int32),
        "onset_s": (first + np.arange(n)) * soa_s,
        **{name: column[which] for name, column in library.coords.items()},
    }
    return Rows(coords, shown.responses, library.codes(which), np.full(n, np.nan))


def _kind_of_column(column: NDArray[Any]) -> tuple[str, Any]:
    """The type of a coordinate, and the value of a row that is not written."""
    if column.dtype.kind in "OU":
        return "str", ""
    return ("int64", -1) if column.dtype.kind == "i" else ("float64", np.nan)
