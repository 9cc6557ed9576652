"""Record a subject's responses to a fixed set of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.describe import recipe, source
from closedloop.errors import InvalidArgumentError
from closedloop.evolution import REFERENCE
from closedloop.images import ImageSet, as_image_set, folder_images, from_bytes, read_image
from closedloop.interfaces import Stateful, Subject
from closedloop.presenting import Presenter, Shown
from closedloop.recording import Layout, Recording, Rows, version
from closedloop.seeds import generator_state, named_generator, restore_generator

#: Images that are shown, and committed, together.
BLOCK = 64


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
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Shows each image ``repeats`` times, in random order, in blocks of 64 images.

    Args:
        subject: Who looks.
        images: A folder, an array ``(n, 3, h, w)`` in [0, 1] (rounded to 8 bits), an `ImageSet`, or "bundled".
        repeats: Presentations of each image.
        resolution: Height and width to which images of a folder are cropped and resized.
        retries: How often a lost presentation is shown again.
        timeout_s: Seconds that the subject may take for one block; None waits for ever.
        soa_s: Nominal seconds from one presentation to the next.
        seed: Seed of the order.
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
    if repeats < 1 or retries < 0 or not soa_s > 0:
        raise InvalidArgumentError(
            f"repeats, retries, soa_s: expected >= 1, >= 0 and > 0, got {repeats}, {retries} and {soa_s}."
        )
    settings = {
        "repeats": repeats, "resolution": resolution, "retries": retries, "timeout_s": timeout_s, "soa_s": soa_s,
        "seed": seed,
    }  # fmt: skip
    library = Library.of(images, resolution)
    experiment = {
        "closedloop": version(), "protocol": "present", "subject": recipe(subject), "images": source(images), **settings
    }  # fmt: skip
    recording = Recording.create(save, _layout(subject, len(library.ids), settings), experiment)
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
    done, shown_before = 0, 0
    state = recording.state()
    if state is None:
        recording.use(_layout(subject, len(library.ids), settings))
    else:
        done, shown_before = state["done"], state["presentations"]
        restore_generator(order_rng, state["order"])
        if isinstance(subject, Stateful):
            subject.restore(state["subject"])
    presenter = Presenter(subject, settings["retries"], settings["timeout_s"])

    def snapshot() -> dict[str, Any]:
        return {
            "done": done,
            "presentations": shown_before,
            "order": generator_state(order_rng),
            "subject": subject.state() if isinstance(subject, Stateful) else None,
        }

    try:
        while done < len(order):
            block = order[done : done + BLOCK]
            shown = presenter.show(library.read(block), np.full(len(block), settings["repeats"]), order_rng)
            rows = _rows(
                shown, [library.ids[i] for i in block], done // BLOCK, shown_before * settings["soa_s"], settings
            )
            done, shown_before = done + len(block), shown_before + len(shown.stimulus)
            recording.append(rows, snapshot())
            if progress is not None:
                progress(done, len(order))
        recording.finish(snapshot())
        return recording.dataset()
    finally:
        recording.close()


class Library:
    """Images by number, read when they are needed: a folder may hold more than memory.

    Args:
        ids: Name of each image.
        read: Numbers ``(n,)`` -> images ``(n, 3, h, w)`` float32 in [0, 1].
    """

    def __init__(self, ids: Sequence[str], read: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> None:
        self.ids, self.read = tuple(ids), read

    @classmethod
    def of(cls, images: ImageSet | str | Path | NDArray[Any], resolution: int) -> Library:
        """A library of a folder, read lazily, or of images in memory."""
        if isinstance(images, (str, Path)) and str(images) != "bundled":
            ids, paths = folder_images(images)
            return cls(ids, lambda which: from_bytes(np.stack([read_image(paths[i], resolution) for i in which])))
        size = resolution
        if not isinstance(images, (str, Path)):
            size = (images.images if isinstance(images, ImageSet) else np.asarray(images)).shape[-1]
        known = as_image_set(images, size)
        return cls(known.ids, lambda which: known.images[which])


def _layout(subject: Subject, count: int, settings: dict[str, Any]) -> Layout:
    shown = settings["repeats"] * (1 + settings["retries"])
    scalars = {"subject": subject.name, "seed": settings["seed"], "closedloop_version": version()}
    return Layout(count * shown, BLOCK * settings["repeats"], 0, subject.units, scalars)


def _rows(shown: Shown, ids: list[str], index: int, first_s: float, settings: dict[str, Any]) -> Rows:
    n = len(shown.stimulus)
    coords = {
        "thread": np.full(n, REFERENCE),
        "generation": np.full(n, index, np.int32),
        "kind": np.full(n, "reference"),
        "stimulus_id": np.array(ids)[shown.stimulus],
        "repeat": shown.repeat.astype(np.int32),
        "onset_s": first_s + np.arange(n) * settings["soa_s"],
    }
    return Rows(coords, shown.responses, np.empty((n, 0)), np.full(n, np.nan))
