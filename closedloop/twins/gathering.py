"""What a twin is fitted to: each image once, with its mean response and how often it was shown, and its features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.units import unit_coords
from closedloop.checks import record_images
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.eight_bit import quantize
from closedloop.images.sets import ImageSet
from closedloop.interfaces import STILL, FloatArray, Generator, Subject
from closedloop.recording.layout import REFERENCE, recorded_form
from closedloop.recording.lean import ALL, COMMON_ROW, OWN, OWN_UNIT, is_lean
from closedloop.recording.render import render

#: Images that are made, and turned into features, together.
AT_ONCE = 64


@dataclass(frozen=True)
class Gathered:
    """Images with what they were answered, one row for each image, however often it was shown.

    Attributes:
        features: What the feature network says of them, ``(images, features)`` float32.
        mean: Mean response over the presentations that were not lost, ``(images, units)``; NaN where all were.
        count: Number of these presentations, ``(images, units)``.
        squares: Sum of squared deviations from the mean, ``(images, units)``.
        group: Which images came together, ``(images,)``: a generation of a thread, or all reference images.
        units: Coordinates of the units, by name, `neuroid_id` among them.
        subject: Name of the subject that answered.
        resolution: Height and width in pixels at which the images were shown.
        sha256: Of each recording.
    """

    features: NDArray[np.float32]
    mean: FloatArray
    count: FloatArray
    squares: FloatArray
    group: NDArray[np.int64]
    units: Mapping[str, Sequence[Any]]
    subject: str
    resolution: int
    sha256: tuple[str, ...]


def gather(
    recordings: Sequence[xr.Dataset],
    features: Subject,
    units: Sequence[int] | None,
    generators: Mapping[str, Generator] | None = None,
    references: ImageSet | str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Gathered:
    """Makes the images of recordings again, and returns them with their mean responses.

    An image is told by its pixels, as they were shown in 8 bits: the same photograph in two recordings, or under two
    names, is one image. So no image stands on both sides of a cross-validation.

    Args:
        recordings: Of one subject, with the same units; at least one.
        features: Turns images into features.
        units: Columns of the responses; None for all.
        generators: By thread, see `closedloop.render`.
        references: Where the reference images are, see `closedloop.render`.
        progress: Is told how many images there are so far, and of how many.

    Raises:
        InvalidArgumentError: The recordings are of different units, of grey images, or of movies.
        RecordingError: An image cannot be made again.
    """
    columns = _columns(recordings, units)
    names = [str(n) for n in recordings[0]["neuroid_id"].values[columns]]
    stimuli = [np.unique(r["stimulus_id"].values.astype(str), return_inverse=True) for r in recordings]
    total = sum(len(found) for found, _ in stimuli)
    place: dict[str, int] = {}
    rows: list[NDArray[np.float32]] = []
    index: list[NDArray[np.int64]] = []
    together: list[str] = []
    sides: set[int] = set()
    done = 0
    for run, (recording, (ids, number)) in enumerate(zip(recordings, stimuli, strict=True)):
        first = np.unique(number, return_index=True)[1]
        of_stimulus = np.empty(len(ids), np.int64)
        for start in range(0, len(ids), AT_ONCE):
            images = quantize(
                render(recording, first[start : start + AT_ONCE], generators=generators, references=references)
            )
            sides.add(images.shape[-1])
            keys = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]
            new = [i for i, key in enumerate(keys) if key not in place and keys.index(key) == i]
            if new:
                rows.append(record_images(features, images[new]).astype(np.float32))
            for i in new:
                place[keys[i]] = len(place)
                together.append(_group(recording, int(first[start + i]), run))
            of_stimulus[start : start + len(keys)] = [place[key] for key in keys]
            done += len(keys)
            if progress is not None:
                progress(done, total)
        index.append(of_stimulus[number])
    responses = np.concatenate([_responses(recording, columns) for recording in recordings])
    mean, count, squares = _moments(responses, np.concatenate(index), len(place))
    coords = {name: values[columns].tolist() for name, (_, values) in unit_coords(recordings[0]).items()}
    return Gathered(
        np.concatenate(rows),
        mean,
        count,
        squares,
        np.unique(together, return_inverse=True)[1],
        {**coords, "neuroid_id": names},
        str(np.atleast_1d(recordings[0]["subject"].values)[0]),
        max(sides),
        tuple(_sha256(recording) for recording in recordings),
    )


def _columns(recordings: Sequence[xr.Dataset], units: Sequence[int] | None) -> NDArray[np.int64]:
    """Returns the columns of the wanted units; raises unless all recordings have the same units, and colour stills."""
    known = [[str(n) for n in recording["neuroid_id"].values] for recording in recordings]
    for i, (recording, ids) in enumerate(zip(recordings, known, strict=True)):
        if ids != known[0]:
            raise InvalidArgumentError(
                f"recording: expected the same units in all recordings, got {len(known[0])} in the first "
                f"({known[0][0]} …) and {len(ids)} in number {i} ({ids[0]} …); fit a twin to each."
            )
        if recorded_form(recording) != STILL:
            raise InvalidArgumentError(
                "recording: expected one of colour stills; twins of grey images or movies cannot be fitted yet."
            )
    if units is None:
        return np.arange(len(known[0]))
    wrong = [u for u in units if not 0 <= u < len(known[0])]
    if wrong or not len(units) or len(set(units)) != len(units):
        raise InvalidArgumentError(
            f"units: expected different columns of 0 to {len(known[0]) - 1}, got {list(units)!r:.80}."
        )
    return np.asarray(units, np.int64)


def _responses(recording: xr.Dataset, columns: NDArray[np.int64]) -> FloatArray:
    """Returns responses ``(presentation, units)``, averaged over time bins; NaN where none was recorded."""
    if not is_lean(recording):
        values = recording["responses"].isel(neuroid=columns).values.astype(float)
        return values.mean(-1) if values.ndim == 3 else values
    common = recording[COMMON_ROW].values
    shared = recording[ALL].values[:, columns].astype(float)
    own = recording[OWN].values.astype(float)
    shared, own = (shared.mean(-1), own.mean(-1)) if own.ndim == 2 else (shared, own)
    names = recording["neuroid_id"].values[columns]
    values = np.where(recording[OWN_UNIT].values[:, None] == names, own[:, None], np.nan)
    values[common >= 0] = shared[common[common >= 0]]
    return values


def _moments(values: FloatArray, index: NDArray[np.int64], images: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns mean, number and sum of squared deviations of the presentations of each image, ``(images, units)``."""
    if np.isinf(values).any():
        raise RecordingError(
            "responses: expected numbers, or NaN for a lost presentation, got infinity; set it to NaN."
        )
    known = ~np.isnan(values)
    count, total, squares = (np.zeros((images, values.shape[1])) for _ in range(3))
    np.add.at(count, index, known)
    np.add.at(total, index, np.where(known, values, 0))
    mean = total / np.where(count > 0, count, np.nan)
    np.add.at(squares, index, np.where(known, values - mean[index], 0) ** 2)
    return mean, count, squares


def _group(recording: xr.Dataset, row: int, run: int) -> str:
    """Names what an image was shown together with: its generation, or all reference images."""
    thread = str(recording["thread"].values[row])
    return thread if thread == REFERENCE else f"{run} {recording['generation'].values[row]} {thread}"


def _sha256(recording: xr.Dataset) -> str:
    """Returns SHA-256 of what a recording says: which units answered what to which images, in which order."""
    digest = hashlib.sha256()
    for name in ("neuroid_id", "stimulus_id", "thread"):
        digest.update("\n".join(map(str, recording[name].values)).encode())
    for name in ("responses", OWN, ALL):
        if name in recording.variables:
            digest.update(np.ascontiguousarray(recording[name].values, np.float64).tobytes())
    return digest.hexdigest()
