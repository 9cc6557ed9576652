"""The path of an evolution through the generator's codes, and what codes say about responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.preferred import evolved_codes
from closedloop.analysis.reasons import all_nan
from closedloop.analysis.runs import by_thread, check_recording
from closedloop.analysis.students import in_unit
from closedloop.checks import check_whole, real_numbers
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray
from closedloop.seeds import named_generator
from closedloop.signatures import at_door


def principal_axes(points: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Returns the first principal axes of points, by the smaller of the two Gram matrices.

    Args:
        points: ``(n, d)``; their mean is taken off here.
        count: How many axes are wanted; there are at most min(n − 1, d) of them.

    Returns:
        Unit axes ``(k, d)`` and the variance along each ``(k,)`` with n − 1 in the denominator, largest first.
    """
    centered = points - points.mean(0)
    n, d = centered.shape
    gram = centered @ centered.T if n <= d else centered.T @ centered
    values, vectors = np.linalg.eigh(gram)
    count = min(count, n - 1, d)
    values, vectors = np.maximum(values[::-1][:count], 0), vectors[:, ::-1][:, :count]
    real = values > 1e-12 * max(float(values.max(initial=0)), 1e-300)
    values, vectors = values[real], vectors[:, real]
    axes = vectors.T @ centered / np.sqrt(values)[:, None] if n <= d else vectors.T
    return axes, values / max(n - 1, 1)


@at_door
def code_geometry(recording: xr.Dataset, thread: str | None = None, *, axes: int = 10) -> xr.Dataset:
    """Follows an evolution in the plane of its codes' principal axes, and measures how far out it went.

    Principal components of all evolved codes, the first turned towards the last generation (Wang & Ponce 2022, *Cell
    Reports*). Holds the codes of one thread in memory.

    Args:
        recording: See `trajectory`.
        thread: Which evolution; None for all, along the dimension ``thread``.
        axes: How many axes.

    Returns:
        `components (axis, latent)` of unit length, `center (latent)`, the mean code; `share (axis)` of the variance of
        all codes, and `path_share (axis)` of the variance of the generations' mean codes; `path (generation, axis)`,
        the mean code of each generation in these axes, from the center; `norm (generation)` and `norm_sd`, length of
        the codes; `norm_growth`, last ÷ first. Axes that the codes do not have are NaN.

    Raises:
        RecordingError: The recording holds no codes.
    """
    count = check_whole("axes", axes, 1)
    _need_codes(recording)

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        codes, rows = evolved_codes(part, name)
        if len(codes) == 0:
            raise RecordingError(f"recording: thread {name!r} has no evolved image yet.")
        return _geometry(codes, part["generation"].values[rows], count, part.sizes["latent"])

    return by_thread(recording, thread, measure)


def _need_codes(recording: xr.Dataset) -> None:
    check_recording(recording)
    if "latent_code" not in recording:
        raise RecordingError("recording: expected codes (latent_code), as an evolution records them; it has none.")


def _geometry(codes: FloatArray, generation: NDArray[np.integer], count: int, latent: int) -> xr.Dataset:
    numbers, index = np.unique(generation, return_inverse=True)
    sums = np.zeros((len(numbers), codes.shape[1]))
    np.add.at(sums, index, codes)
    n = np.bincount(index)
    means = sums / n[:, None]
    center = codes.mean(0)
    found, variance = principal_axes(codes, count)
    path = (means - center) @ found.T
    turn = np.where(path[-1] < 0, -1.0, 1.0)
    found, path = found * turn[:, None], path * turn
    total = float(codes.var(0, ddof=1).sum()) if len(codes) > 1 else 0.0
    along = ((path - path.mean(0)) ** 2).sum(0)
    whole = float(((means - means.mean(0)) ** 2).sum())
    norm = np.linalg.norm(codes, axis=1)
    norms = np.bincount(index, norm) / n
    spread = np.bincount(index, (norm - norms[index]) ** 2)
    k = len(found)
    reason = "" if k == count else f"components, share, path: the codes have only {k} axes of variance"
    return xr.Dataset(
        {
            "components": (("axis", "latent"), _padded(found, (count, latent))),
            "center": ("latent", _padded(center, (latent,))),
            "share": ("axis", _padded(variance / total if total > 0 else variance * np.nan, (count,))),
            "path_share": ("axis", _padded(along / whole if whole > 0 else along * np.nan, (count,))),
            "path": (("generation", "axis"), _padded(path, (len(numbers), count))),
            "norm": ("generation", norms),
            "norm_sd": ("generation", np.sqrt(spread / np.where(n > 1, n - 1, np.nan))),
            "norm_growth": norms[-1] / norms[0] if norms[0] > 0 else np.nan,
        },
        coords={"axis": np.arange(1, count + 1), "generation": numbers, "reason": reason},
    )


def _padded(array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Puts the array into the corner of a larger one of NaN."""
    whole = np.full(shape, np.nan)
    whole[tuple(slice(0, size) for size in array.shape)] = array
    return whole


@at_door
def latent_regression(
    recording: xr.Dataset,
    thread: str | None = None,
    *,
    alphas: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
    folds: int = 5,
    seed: int = 0,
) -> xr.Dataset:
    """Measures how well a linear function of the code predicts the score: ridge with nested cross-validation.

    Codes are divided at random into folds; a code that was shown again, as elitists do, stays in one fold, so that none
    is predicted from its own score. In each training set the strength of the ridge is chosen by the exact
    leave-one-out error (Golub, Heath & Wahba 1979); the predictions of the left-out folds give R² and the correlation.
    They say how far scores follow a plane within what this evolution explored.

    Args:
        recording: See `trajectory`.
        thread: Which evolution; None for all, along the dimension ``thread``.
        alphas: Strengths to choose from, in units of the mean squared length of the centered codes.
        folds: Number of folds.
        seed: Seed of the folds.

    Returns:
        `r_squared` (below 0 where the prediction is worse than the mean), `correlation`, `alpha` and `weights (latent)`
        (score per unit of code, of a fit to all images), `n`; NaN with the reason for too few images or equal scores.
    """
    folds = check_whole("folds", folds, 2)
    strengths = real_numbers("alphas", alphas)
    if strengths.ndim != 1 or strengths.size == 0 or not (np.isfinite(strengths) & (strengths > 0)).all():
        raise InvalidArgumentError(f"alphas: expected one or more finite numbers above 0, got {alphas!r}.")
    _need_codes(recording)

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        codes, rows = evolved_codes(part, name)
        scores = part["score"].values[rows].astype(float)
        known = ~np.isnan(scores)
        found = _regression(codes[known], scores[known], strengths, folds, named_generator(seed, f"folds {name}"))
        weights = found["weights"].values if "weights" in found else np.empty(0)
        return found.assign(weights=("latent", _padded(weights, (part.sizes["latent"],))), n=int(known.sum()))

    return by_thread(recording, thread, measure).assign_coords(folds=folds, seed=seed)


def _regression(
    codes: FloatArray, scores: FloatArray, alphas: FloatArray, folds: int, rng: np.random.Generator
) -> xr.Dataset:
    names = ("r_squared", "correlation", "alpha")
    if len(scores) < max(2 * folds, 10):
        return all_nan(names, f"{len(scores)} images with a score; expected at least {max(2 * folds, 10)}")
    if np.ptp(scores) == 0 or np.ptp(codes, axis=0).max(initial=0) == 0:
        return all_nan(names, "all scores, or all codes, are equal")
    scores, exponent = in_unit(scores)
    _, same = np.unique(codes, axis=0, return_inverse=True)
    different = int(same.max()) + 1
    if different < folds:
        return all_nan(names, f"{different} different codes; expected at least {folds}")
    fold = rng.permutation(np.arange(different) % folds)[same.ravel()]
    predicted = np.empty(len(scores))
    for f in range(folds):
        out = fold == f
        weights, intercept, _ = ridge(codes[~out], scores[~out], alphas)
        predicted[out] = codes[out] @ weights + intercept
    weights, _, alpha = ridge(codes, scores, alphas)
    residual = ((scores - predicted) ** 2).sum() / ((scores - scores.mean()) ** 2).sum()
    varies = np.ptp(predicted) > 0
    correlation = float(np.corrcoef(scores, predicted)[0, 1]) if varies else np.nan
    return xr.Dataset(
        {
            "r_squared": 1 - residual,
            "correlation": correlation,
            "alpha": alpha,
            "weights": ("latent", np.ldexp(weights, exponent)),
        },
        coords={"reason": "" if varies else "correlation: the prediction is the mean"},
    )


def ridge(x: FloatArray, y: FloatArray, alphas: FloatArray) -> tuple[FloatArray, float, float]:
    """Fits the ridge regression whose strength has the smallest leave-one-out error.

    Args:
        x: ``(n, d)``.
        y: ``(n,)``.
        alphas: Strengths ``(k,)``, in units of the mean squared length of the centered rows of x.

    Returns:
        Weights ``(d,)``, intercept, and the strength that was chosen.
    """
    n, d = x.shape
    center, level = x.mean(0), y.mean()
    centered, target = x - center, y - level
    scale = float((centered**2).sum()) / n
    gram = centered @ centered.T if n <= d else centered.T @ centered
    values, vectors = np.linalg.eigh(gram)
    real = values > 1e-12 * values[-1]
    values, vectors = values[real], vectors[:, real]
    left = vectors if n <= d else centered @ vectors / np.sqrt(values)
    right = centered.T @ vectors / np.sqrt(values) if n <= d else vectors
    projected = left.T @ target
    errors = np.empty(len(alphas))
    for i, alpha in enumerate(alphas * scale):
        shrink = values / (values + alpha)
        hat = 1 / n + (left**2) @ shrink  # the diagonal of the hat matrix, the intercept included
        errors[i] = (((target - left @ (shrink * projected)) / np.maximum(1 - hat, 1e-12)) ** 2).mean()
    best = int(np.argmin(errors))
    weights = right @ (np.sqrt(values) / (values + alphas[best] * scale) * projected)
    return weights, float(level - center @ weights), float(alphas[best])
