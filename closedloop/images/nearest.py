"""Finds the nearest of many images to another, and its distance in units of their own distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_any_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import FLAT_STD, batches, shrink
from closedloop.interfaces import FloatArray

#: Height and width in pixels of the thumbnails that are compared.
THUMBNAIL_PX = 32


@dataclass(frozen=True)
class Nearest:
    """The nearest of some points to each of others, and how far away it is.

    Attributes:
        distance: ``(n,)``; NaN where there is none.
        index: Which it is, ``(n,)``; −1 where there is none.
        ratio: Distance ÷ the median distance of those points to their own nearest neighbours, ``(n,)``: about 1 for one
            more of their kind.
    """

    distance: FloatArray
    index: NDArray[np.int64]
    ratio: FloatArray


def nearest(features: FloatArray, natural_features: FloatArray) -> Nearest:
    """Finds the nearest natural image to each image, by what a subject or a layer answers to them.

    Euclidean distance after each feature is divided by its standard deviation over the natural images, so that all
    count alike; features that do not vary there are left out.

    Args:
        features: ``(n, features)``, for instance responses; a row with NaN has no nearest.
        natural_features: ``(m, features)`` of the natural images, at least 2, without NaN.

    Raises:
        InvalidArgumentError: Other shapes, or natural images that all look alike.
    """
    points, natural = np.asarray(features, dtype=float), np.asarray(natural_features, dtype=float)
    if natural.ndim != 2 or len(natural) < 2 or not np.isfinite(natural).all():
        raise InvalidArgumentError(
            f"natural_features: expected shape (m, features) with m ≥ 2 and finite numbers, got shape {natural.shape}"
            f"{' with NaN or infinity' if not np.isfinite(natural).all() else ''}; leave lost presentations out."
        )
    if points.ndim != 2 or points.shape[1] != natural.shape[1]:
        raise InvalidArgumentError(
            f"features: expected shape (n, {natural.shape[1]}), the features of natural_features, got {points.shape}."
        )
    spread = natural.std(0)
    varies = spread > 1e-9 * np.abs(natural).max(0)
    if not varies.any():
        raise InvalidArgumentError(
            "natural_features: expected features that differ between natural images, got none; take other units."
        )
    points, natural = points[:, varies] / spread[varies], natural[:, varies] / spread[varies]
    from scipy.spatial.distance import cdist  # slow to import, and only this needs it

    typical = _typical([_others(cdist(natural[s], natural), s.start) for s in _slices(len(natural))])
    found = [cdist(points[s], natural) for s in _slices(len(points))]
    return _nearest(np.concatenate([np.empty((0, len(natural))), *found]), typical)


def _nearest(distances: FloatArray, typical: float) -> Nearest:
    """Returns the smallest of distances ``(n, m)``, m ≥ 1; NaN is none."""
    known = np.isfinite(distances).any(1)
    index = np.where(known, np.where(np.isnan(distances), np.inf, distances).argmin(1), -1)
    distance = np.where(known, distances[np.arange(len(distances)), index], np.nan)
    return Nearest(distance, index, distance / typical)


def _others(distances: FloatArray, first: int) -> FloatArray:
    """Returns distances ``(k, m)`` of some of m points to all, with those to themselves made infinite, in place."""
    own = np.arange(len(distances))
    distances[own, first + own] = np.inf
    return distances


def _typical(parts: Sequence[FloatArray]) -> float:
    """Returns the median distance of points to their nearest neighbour; NaN where they have none, or most are alike."""
    least = np.concatenate([np.empty(0), *(np.where(np.isnan(part), np.inf, part).min(1) for part in parts)])
    least = least[np.isfinite(least)]
    middle = float(np.median(least)) if len(least) else 0.0
    return middle if middle > 0 else float("nan")


def _slices(n: int, points: int = 1024) -> list[slice]:
    """Returns parts of at most `points` of n points, whose distances are held in memory at once."""
    return [slice(i, min(i + points, n)) for i in range(0, n, points)]


@final
@dataclass(frozen=True)
class Bank:
    """Natural images, as others are held beside them.

    Attributes:
        thumbnails: ``(m, channels · THUMBNAIL_PX²)`` of unit length, of a movie's middle frame.
        channels: 3 for colours, 1 for grey.
        typical: Their median distance to the nearest other.
    """

    thumbnails: NDArray[np.float32]
    typical: float
    channels: int = 3

    @classmethod
    def of(cls, images: NDArray[Any]) -> Bank:
        """Makes the bank of images ``(m, 3, h, w)``, RGB in [0, 1], or grey, or movies."""
        checked = check_any_images(images)
        points = thumbnails(checked)
        parts = [_others(_apart(points[s], points), s.start) for s in _slices(len(points))]
        return cls(points, _typical(parts), checked.shape[-3])

    def nearest(self, images: NDArray[Any]) -> Nearest:
        """Finds the nearest of them to each image ``(n, 3, h, w)``, RGB in [0, 1]; its `ratio` is `natural_distance`.

        Raises:
            InvalidArgumentError: Not images, or smaller than the thumbnails.
        """
        checked = check_any_images(images)
        side = round((self.thumbnails.shape[1] / self.channels) ** 0.5)
        if side != min(THUMBNAIL_PX, *checked.shape[-2:]):
            raise InvalidArgumentError(
                f"images: expected thumbnails of {side} pixels, as the bank has, got images of {checked.shape[-2:]}; "
                "resize them to the size of the natural ones."
            )
        if checked.shape[-3] != self.channels:
            raise InvalidArgumentError(
                f"images: expected {self.channels} channels, as the natural ones have, got {checked.shape[-3]}; "
                "closedloop.images.forms.recoloured turns one into the other."
            )
        return self.find(thumbnails(checked), np.full(len(checked), -1))

    def find(self, points: NDArray[np.float32], own: NDArray[np.integer[Any]]) -> Nearest:
        """Finds the nearest to images, without those that they are themselves.

        Args:
            points: Their `thumbnails` ``(n, channels · THUMBNAIL_PX²)``, as large as those of the bank.
            own: Which image of the bank each of them is, ``(n,)``; −1 for none.
        """
        if len(self.thumbnails) == 0 or len(points) == 0:
            return Nearest(np.full(len(points), np.nan), np.full(len(points), -1), np.full(len(points), np.nan))
        distances = _apart(points, self.thumbnails)
        rows = np.flatnonzero(own >= 0)
        distances[rows, own[rows]] = np.nan
        return _nearest(distances, self.typical)


def middle_frames(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the middle frames ``(n, channels, h, w)`` of movies, the later one of two; stills as they are."""
    return images[:, images.shape[1] // 2] if images.ndim == 5 else images


def thumbnails(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns thumbnails ``(n, channels · THUMBNAIL_PX²)`` without mean and of unit length; NaN without contrast.

    Args:
        images: ``(n, 3, h, w)``, RGB in [0, 1], or grey, or movies, which are trusted to be such.
    """
    images = middle_frames(images)
    channels, height, width = images.shape[1:]
    side = min(THUMBNAIL_PX, height, width)
    planes = [shrink(part.reshape(-1, height, width), side).reshape(len(part), -1) for part in batches(images)]
    points = np.concatenate([np.empty((0, channels * side**2), np.float32), *planes])
    points = points - points.mean(1, keepdims=True)
    length = np.sqrt((points**2).sum(1, keepdims=True))
    seen = length > FLAT_STD * points.shape[1] ** 0.5
    unit: NDArray[np.float32] = np.divide(points, length, where=seen, out=np.full_like(points, np.nan))
    return unit


def _apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> FloatArray:
    """Returns distances ``(n, m)`` of points of unit length."""
    # |a - b|² = |a|² + |b|² - 2 a·b = 2 - 2 a·b
    distances: FloatArray = np.sqrt(np.maximum(2 - 2 * (a @ b.T).astype(float), 0))
    return distances
