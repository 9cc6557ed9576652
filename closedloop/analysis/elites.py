"""For each class of a subject, the image it is surest of: what `closedloop.protocols.evolve_elites` found."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax

from closedloop.analysis.reasons import choose
from closedloop.analysis.runs import check_recording
from closedloop.analysis.units import unit_coords
from closedloop.checks import real_numbers
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray
from closedloop.loop.presenter import Shown
from closedloop.signatures import at_door

#: Stands in the columns `thread` and `kind` of a recording of elites.
ELITES = "elites"


@at_door
def class_probabilities(responses: FloatArray, classes: NDArray[np.int64]) -> FloatArray:
    """Takes the softmax over all units ``(n, units[, time])``, for some ``(n, classes)``; NaN where lost."""
    values = real_numbers("responses", responses)
    values = values.mean(-1) if values.ndim == 3 else values
    columns = np.asarray(classes)
    if values.ndim != 2 or columns.dtype.kind not in "iu" or (columns.size and columns.max() >= values.shape[1]):
        raise InvalidArgumentError(
            f"responses, classes: expected (n, units[, time]) and columns of them, got shape {values.shape} and "
            f"{columns.tolist()!r:.80}."
        )
    return np.asarray(softmax(values, axis=1)[:, columns])


@at_door
def class_elites(recording: xr.Dataset) -> xr.Dataset:
    """Returns the elite of each class, and the course of the whole archive.

    A class's elite is the image with the highest probability of that class, among equals the earliest, as the archive
    itself had it.

    Args:
        recording: Of `closedloop.protocols.evolve_elites`; see `closedloop.open_recording`.

    Returns:
        For each class, along ``neuroid`` with the coordinates of the recorded unit: `code (neuroid, latent)`;
        `probability`, the softmax over all recorded units; `retested`, the same for the image rounded to 8 bits, in a
        fresh presentation; `evaluation`, the number of images shown when it was found; the coordinate `stimulus_id`,
        its image for `closedloop.render`. Along ``generation``: `images` shown so far, `median_probability` over
        classes, and `above (threshold, generation)`, the number of classes whose elite is at or above 0.5 and 0.99.
        NaN with the coordinate `reason` where nothing is known.

    Raises:
        RecordingError: The recording holds no elites.
    """
    check_recording(recording)
    if "classes" not in recording.coords or not (recording["kind"].values == ELITES).any():
        raise RecordingError("recording: expected one of evolve_elites, got one without elites.")
    classes = _classes(recording)
    best, evaluation = np.full(len(classes), np.nan), np.zeros(len(classes), np.int64)
    names = np.full(len(classes), "", dtype=object)
    courses, images, shown = [], [], 0
    for rows in _generations(recording, ELITES):
        ids, probabilities = _means(recording, rows, classes)
        valid = np.where(np.isnan(probabilities), -np.inf, probabilities)
        first, score = valid.argmax(0), valid.max(0)
        won = score > np.nan_to_num(best, nan=-np.inf)
        best[won], names[won] = score[won], ids[first[won]]
        evaluation[won] = shown + first[won] + 1
        shown += len(ids)
        courses.append(best.copy())
        images.append(shown)
    return _result(recording, classes, np.stack(courses), np.array(images), evaluation, names)


def _classes(recording: xr.Dataset) -> NDArray[np.int64]:
    """Returns the columns of the responses that are classes."""
    text = str(recording["classes"].item())
    return np.arange(recording.sizes["neuroid"]) if text == "all" else np.array(text.split(), dtype=np.int64)


def _generations(recording: xr.Dataset, kind: str) -> list[NDArray[np.int64]]:
    """Returns the rows of each generation of a kind."""
    kinds, generation = recording["kind"].values, recording["generation"].values
    found = sorted(set(generation[kinds == kind].tolist()))
    return [np.flatnonzero((kinds == kind) & (generation == g)) for g in found]


def _means(
    recording: xr.Dataset, rows: NDArray[np.int64], classes: NDArray[np.int64]
) -> tuple[NDArray[Any], FloatArray]:
    """Returns the names of some rows' images, in order, and their mean responses' probabilities ``(n, classes)``."""
    part = recording.isel(presentation=slice(int(rows[0]), int(rows[-1]) + 1))
    kept = rows - rows[0]
    ids, stimulus = np.unique(part["stimulus_id"].values[kept].astype(str), return_inverse=True)
    shown = Shown(stimulus, np.zeros_like(stimulus), part["responses"].values[kept])
    return ids, class_probabilities(shown.means(len(ids)), classes)


def _result(
    recording: xr.Dataset,
    classes: NDArray[np.int64],
    courses: FloatArray,
    images: NDArray[np.int64],
    evaluation: NDArray[np.int64],
    names: NDArray[Any],
) -> xr.Dataset:
    retested = _retested(recording, classes, names)
    reached = ~np.isnan(courses[-1])
    reason = choose(
        (~reached, "no image gave a response"),
        (np.isnan(retested), "retested: its image was not shown again, or the presentation was lost"),
    )
    thresholds = [0.5, 0.99]  # of probability, above which classes are counted
    known = courses[:, reached] if reached.any() else courses
    units = {name: (dim, values[classes]) for name, (dim, values) in unit_coords(recording).items()}
    scalars = {n: c for n, c in recording.isel(evolution=0, drop=True).coords.items() if c.ndim == 0}
    result = xr.Dataset(
        {
            "code": (("neuroid", "latent"), _codes(recording, names)),
            "probability": ("neuroid", courses[-1]),
            "retested": ("neuroid", retested),
            "evaluation": ("neuroid", evaluation),
            "median_probability": ("generation", np.median(known, axis=1)),
            "above": (("threshold", "generation"), [(courses >= t).sum(1) for t in thresholds]),
        },
        coords={
            **scalars,
            **units,
            "stimulus_id": ("neuroid", names),
            "reason": ("neuroid", reason),
            "generation": np.arange(len(courses)),
            "images": ("generation", images),
            "threshold": thresholds,
        },
    )
    result.encoding["source"] = recording.encoding.get("source")
    return result


def _codes(recording: xr.Dataset, names: NDArray[Any]) -> FloatArray:
    """Returns the code of each class's elite ``(classes, latent)``, NaN where none is; reads each generation once."""
    codes = np.full((len(names), recording.sizes["latent"]), np.nan)
    ids = recording["stimulus_id"].values
    for rows in _generations(recording, ELITES):
        place = {name: int(row) for row, name in zip(rows, ids[rows].tolist(), strict=True)}
        own = [i for i, name in enumerate(names) if name in place]
        if own:
            part = recording["latent_code"].isel(presentation=slice(int(rows[0]), int(rows[-1]) + 1)).values
            codes[own] = part[[place[names[i]] - int(rows[0]) for i in own]]
    return codes


def _retested(recording: xr.Dataset, classes: NDArray[np.int64], names: NDArray[Any]) -> FloatArray:
    """Returns the probability of each class in the re-test of its elite ``(classes,)``."""
    found = np.full(len(classes), np.nan)
    for rows in _generations(recording, "retest"):
        ids, probabilities = _means(recording, rows, classes)
        place = {name: i for i, name in enumerate(ids.tolist())}
        for column in (c for c, name in enumerate(names) if name in place):
            found[column] = probabilities[place[names[column]], column]
    return found
