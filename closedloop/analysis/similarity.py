"""Whether different evolutions found the same: what one unit's image does to another, and how alike the images are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.preferred import Preferred, preferred
from closedloop.analysis.reasons import choose
from closedloop.analysis.runs import concat, evolutions
from closedloop.analysis.summary import excites_one
from closedloop.analysis.units import Moments, Selection
from closedloop.checks import check_images, make_images
from closedloop.errors import InvalidArgumentError, SubjectError, blamed
from closedloop.interfaces import FloatArray, Generator, Subject
from closedloop.objectives import parse_objective
from closedloop.recording.lean import responses_at, was_recorded
from closedloop.signatures import at_door

Recordings = xr.Dataset | Sequence[xr.Dataset] | Mapping[str, xr.Dataset]
#: From images ``(n, 3, h, w)`` to features ``(n, channels)`` or ``(n, channels, h, w)``, of one layer or of several.
Features = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class _Found:
    """One evolution and what it found."""

    label: str
    part: xr.Dataset
    objective: str
    image: Preferred


def _all_found(recordings: Recordings) -> list[_Found]:
    """Returns the evolutions of one or several recordings, each with the image that it found."""
    recording = recordings if isinstance(recordings, xr.Dataset) else concat(recordings)
    return [
        _Found(label, part, objective, preferred(part, name, objective))
        for label, part, name, objective in evolutions(recording)
    ]


@at_door
def cross_driving(recordings: Recordings) -> xr.Dataset:
    """Returns the response of each evolution's unit to the image that was evolved for every other.

    M[i, j] is the mean response of the unit of evolution j to the image evolved for i, in fresh presentations after the
    selection; where a run has no re-test, to the images of its last generation (`basis` says which).

    Args:
        recordings: One recording with several threads, or several recordings of the same subject in which each records
            all the units, or what `concat` made of them.

    Returns:
        Over ``evolved_for`` (i) and ``responding`` (j), both named by thread: `response`, `sem` (NaN below two
        presentations), `n`, and `normalized`, M[i, j] ÷ M[j, j]; coordinates `unit` on ``responding``, `basis` on
        ``evolved_for``, and `reason`. NaN where run i did not record unit j, where evolution j excited more than one
        unit, and for `normalized` where M[j, j] is not above 0.
    """
    found = _all_found(recordings)
    labels = [f.label for f in found]
    units = [_target(f) for f in found]
    shape = (len(found), len(found))
    mean, sem, n = (np.full(shape, np.nan) for _ in range(3))
    for i, f in enumerate(found):
        recorded = f.part["neuroid_id"].values.tolist()
        columns = [recorded.index(u) if u in recorded else -1 for u in units]
        values = _responses(f.part, f.image.rows, columns)
        mean[i], sem[i], n[i] = values
    own = np.diag(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = np.where(own > 0, mean / own, np.nan)
    several = np.broadcast_to(np.array([u == "" for u in units]), shape)
    reason = choose(
        (several, "the evolution excited more than a single unit"),
        (np.isnan(mean), "the unit was not recorded, or every presentation was lost"),
        (np.broadcast_to(~(own > 0), shape), "normalized: the unit's response to its own image is not above 0"),
        (np.isnan(sem), "sem: a single presentation"),
    )
    dims = ("evolved_for", "responding")
    return xr.Dataset(
        {"response": (dims, mean), "normalized": (dims, normalized), "sem": (dims, sem), "n": (dims, n)},
        coords={
            "evolved_for": labels,
            "responding": labels,
            "unit": ("responding", np.array(units, dtype=object)),
            "basis": ("evolved_for", np.array([f.image.basis for f in found], dtype=object)),
            "reason": (dims, reason),
        },
    )


def _target(found: _Found) -> str:
    """Returns the `neuroid_id` of the unit that an evolution excited; "" if it is not a single one."""
    if not excites_one(found.objective):
        return ""
    return str(found.part["neuroid_id"].values[next(iter(parse_objective(found.objective).columns or ()))])


def _responses(
    part: xr.Dataset, rows: NDArray[np.intp], columns: Sequence[int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns mean, standard error and number of some units' responses (-1: not recorded) in some presentations."""
    values = np.full((len(rows), len(columns)), np.nan)
    known = sorted({column for column in columns if column >= 0 and was_recorded(part, rows, column)})
    if known:
        read = responses_at(part, rows, known).astype(float)  # at once, for there may be a unit for each evolution
        place = {column: i for i, column in enumerate(known)}
        own = [i for i, column in enumerate(columns) if column in place]
        found_of = read.mean(-1) if read.ndim == 3 else read
        values[:, own] = found_of[:, [place[columns[i]] for i in own]]
    if len(rows) == 0:
        empty = np.full(len(columns), np.nan)
        return empty, empty, np.zeros(len(columns))
    found = Moments.of(values, Selection(rows, np.zeros(len(rows), np.intp), np.array(["all"])))
    return found.mean[0], found.sem[0], found.n[0]


@at_door
def preference_similarity(
    recordings: Recordings, *, generator: Generator | None = None, features: Subject | Features | None = None
) -> xr.Dataset:
    """Measures how alike the images are that different evolutions found, in latent and in image space.

    Args:
        recordings: As for `cross_driving`.
        generator: Makes the images of the codes; without it there is no image space.
        features: What measures images: a subject, or a function; see `embedding`. None compares pixels.

    Returns:
        Over ``thread`` and ``thread_b``: `cosine` between codes, and `distance` between images (see `embedding`).
        `reason` says why a pair is NaN: no codes, or codes of different length.

    Raises:
        InvalidArgumentError: The codes are not those of the generator.
    """
    found = _all_found(recordings)
    codes = [f.image.code for f in found]
    n = len(found)
    cosine, reason = np.full((n, n), np.nan), np.full((n, n), "", dtype=object)
    for i, a in enumerate(codes):
        for j, b in enumerate(codes):
            cosine[i, j], reason[i, j] = _cosine(a, b)
    variables = {"cosine": cosine}
    if generator is not None:
        variables["distance"] = _image_distance(codes, generator, features)
    elif features is not None:
        raise InvalidArgumentError("features: expected a generator beside them, which makes the images of the codes.")
    labels = [f.label for f in found]
    return xr.Dataset(
        {name: (("thread", "thread_b"), table) for name, table in variables.items()},
        coords={"thread": labels, "thread_b": labels, "reason": (("thread", "thread_b"), reason)},
    )


def _cosine(a: FloatArray | None, b: FloatArray | None) -> tuple[float, str]:
    """Returns the cosine of the angle between two codes, and the reason where it is NaN."""
    if a is None or b is None or len(a) == 0 or len(b) == 0:
        return np.nan, "no code was recorded"
    if len(a) != len(b):
        return np.nan, f"codes of different length, {len(a)} and {len(b)}"
    # cos = a · b / (‖a‖ ‖b‖), clipped since rounding may carry it beyond ±1.
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return (float(np.clip(a @ b / size, -1, 1)), "") if size > 0 else (np.nan, "a code is zero")


def _image_distance(
    codes: Sequence[FloatArray | None], generator: Generator, features: Subject | Features | None
) -> FloatArray:
    """Returns squared distances ``(n, n)`` between the images of codes; NaN for codes not of the generator."""
    table = np.full((len(codes), len(codes)), np.nan)
    known = [i for i, code in enumerate(codes) if code is not None and len(code) == generator.space.dim]
    if not known:
        raise InvalidArgumentError(
            f"generator: expected the one that made the codes, got one for codes of length {generator.space.dim}."
        )
    batch = np.stack([code for i in known if (code := codes[i]) is not None])
    points = embedding(make_images(generator, batch), features)
    table[np.ix_(known, known)] = squared_distances(points, points)
    return table


@at_door
def embedding(images: NDArray[np.float32], features: Subject | Features | None = None) -> FloatArray:
    """Returns points whose squared Euclidean distance is a perceptual distance between images.

    Features are normalized to length 1 over channels (at each position), divided by the square root of the number of
    positions, and put side by side over layers: the distance of LPIPS without its learnt weights (Zhang et al. 2018,
    *CVPR*, equation 1). Without features the points are the pixels, and the squared distance is the mean squared error.

    Args:
        images: ``(n, 3, h, w)``, RGB in [0, 1].
        features: A subject (its responses are the features), or a function from images to ``(n, channels)`` or
            ``(n, channels, h, w)``, or to a list of such arrays, one for each layer.

    Returns:
        ``(n, points)``.

    Raises:
        InvalidArgumentError: The features have another shape, or are not finite.
    """
    images = check_images(images)
    if features is None:
        # Divided by √(3 h w), so that the squared distance is a mean over pixels and colours.
        pixels: FloatArray = images.reshape(len(images), -1) / np.sqrt(np.prod(images.shape[1:]))
        return pixels
    with blamed("features", SubjectError):
        answer = features.record(images) if isinstance(features, Subject) else features(images)
    layers = answer if isinstance(answer, (list, tuple)) else [answer]
    return np.concatenate([_normalized(np.asarray(layer, dtype=float), len(images)) for layer in layers], axis=1)


def _normalized(layer: FloatArray, n: int) -> FloatArray:
    """Returns points ``(n, channels · positions)`` of one layer; checked."""
    if layer.ndim < 2 or len(layer) != n or not np.isfinite(layer).all():
        raise InvalidArgumentError(
            f"features: expected finite numbers of shape ({n}, channels) or ({n}, channels, h, w) for {n} images, got "
            f"{layer.shape}{'' if np.isfinite(layer).all() else ' with NaN or infinity'}."
        )
    positions = int(np.prod(layer.shape[2:]))
    # ŷ = y / ‖y‖ over channels, d = 1 / (h w) Σ ‖ŷ - ŷ₀‖²: LPIPS, eq. 1, with w = 1 and its ε of 1e-10.
    length = np.sqrt((layer**2).sum(1, keepdims=True))
    points: FloatArray = (layer / (length + 1e-10)).reshape(n, -1) / np.sqrt(positions)
    return points


def squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Returns squared Euclidean distances ``(n, m)`` between points ``(n, d)`` and ``(m, d)``."""
    # Not by a · b, whose rounding would make the distance of an image to itself more than 0.
    table: FloatArray = np.stack([((a - point) ** 2).sum(1) for point in b], axis=1)
    return table
