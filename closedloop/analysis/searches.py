"""How a search among natural images went, what it found, and by how much it missed the best of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from closedloop.analysis.reasons import words
from closedloop.analysis.students import half_width, spread
from closedloop.analysis.units import correlations
from closedloop.checks import check_within
from closedloop.errors import InvalidArgumentError, RecordingError, closest
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door

#: Stands as `protocol` in a run's file.
SEARCH_NATURAL = "search_natural"
#: The coordinates of presentations that say in which phase they were, and what was expected of them.
PHASE, PREDICTED = "phase", "predicted"
#: The phases: images that were chosen to be looked at; the best again; the selected one in fresh presentations.
SEARCH, SELECT, CONFIRM = "search", "select", "confirm"
#: Images of a batch below which expected and shown scores are not correlated.
_FEW = 5


@at_door
def natural_search(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Says how a search among natural images went, and what it found.

    Args:
        recording: What `closedloop.protocols.search_natural` returned, or so far.
        level: Of the interval.

    Returns:
        Over ``batch``: `images` shown so far, `mean` score of the batch, `best` (the highest mean score of an image so
        far: a maximum over noise), `predicted` (mean of what the readout expected before; no response) and `r`, their
        correlation over the batch (NaN below five images). Of the whole: `r_all` over all images that the readout
        chose; `start_mean` and `start_sd` of the images that were drawn at random; `confirmed`, the mean of the last,
        fresh presentations of the `winner`, with Student's interval `confirmed_low` to `confirmed_high` and `n`;
        `pool`, the number of images in the folder. What is not known yet is NaN, and `reason` says why.

    Raises:
        RecordingError: It is the recording of another protocol.
    """
    check_within("level", level, 0.95)
    if not isinstance(recording, xr.Dataset) or not {PHASE, PREDICTED, "pool", "score"} <= set(recording.variables):
        raise RecordingError("recording: expected what closedloop.protocols.search_natural returned.")
    phase, score = recording[PHASE].values.astype(str), recording["score"].values.astype(float)
    rows = np.flatnonzero(phase == SEARCH)
    generation, predicted = recording["generation"].values, recording[PREDICTED].values.astype(float)
    names, first, image = np.unique(
        recording["stimulus_id"].values[rows].astype(str), return_index=True, return_inverse=True
    )
    mean, batch, expected = _mean(score[rows], image, len(names)), generation[rows][first], predicted[rows][first]
    batches = np.unique(batch)
    table = [_batch(mean, batch, expected, b) for b in batches]
    columns = {name: ("batch", np.array([row[name] for row in table], float)) for name in table[0]} if table else {}
    chosen = ~np.isnan(expected) & ~np.isnan(mean)
    drawn = mean[np.isnan(expected) & ~np.isnan(mean)]
    last = score[phase == CONFIRM]
    last = last[~np.isnan(last)]
    half = half_width(float(spread(last)) / np.sqrt(max(len(last), 1)), max(len(last) - 1, 1), level)
    confirmed = float(last.mean()) if len(last) else np.nan
    known = {
        "r_all": _r(mean[chosen], expected[chosen]),
        "start_mean": float(drawn.mean()) if len(drawn) else np.nan,
        "start_sd": float(spread(drawn)),
        "confirmed": confirmed,
        "confirmed_low": confirmed - half,
        "confirmed_high": confirmed + half,
    }
    ids = recording["stimulus_id"].values[phase == CONFIRM].astype(str)
    reasons = {
        "confirmed": "" if len(last) else "no fresh presentation of a selected image yet",
        "r_all": "" if chosen.sum() >= _FEW else f"fewer than {_FEW} images were chosen by the readout",
    }
    facts = {"winner": str(ids[0]) if len(ids) else "", "n": len(last), "pool": int(recording["pool"]), "level": level}
    return xr.Dataset({**columns, **known}, {"batch": batches, **facts, "reason": words(reasons)})


def _mean(scores: FloatArray, image: NDArray[np.int64], images: int) -> FloatArray:
    """Returns the mean of the scores of each image that were not lost, ``(images,)``."""
    known = ~np.isnan(scores)
    count = np.bincount(image, known, images)
    mean: FloatArray = np.bincount(image, np.where(known, scores, 0), images) / np.where(count > 0, count, np.nan)
    return mean


def _batch(mean: FloatArray, batch: NDArray[Any], expected: FloatArray, number: int) -> dict[str, float]:
    """Returns the numbers of one batch."""
    own, before = batch == number, batch <= number
    known, said = mean[own][~np.isnan(mean[own])], expected[own][~np.isnan(expected[own])]
    so_far = mean[before][~np.isnan(mean[before])]
    both = own & ~np.isnan(mean) & ~np.isnan(expected)
    return {
        "images": float(before.sum()),
        "mean": float(known.mean()) if len(known) else np.nan,
        "best": float(so_far.max()) if len(so_far) else np.nan,
        "predicted": float(said.mean()) if len(said) else np.nan,
        "r": _r(mean[both], expected[both]),
    }


def _r(shown: FloatArray, expected: FloatArray) -> float:
    return float(correlations(expected[:, None], shown[:, None])[0]) if len(shown) >= _FEW else np.nan


@at_door
def search_regret(recording: xr.Dataset, truth: Mapping[str, float]) -> xr.Dataset:
    """Says by how much a search missed the best of all images, where the responses to all of them are known.

    That is so in silico alone, and there it says what a search is worth: beside it stands what as many images that are
    drawn at random miss on average, even if the best of them were known without noise.

    Args:
        recording: What `closedloop.protocols.search_natural` returned, finished.
        truth: The noiseless score of every image of the folder by its name.

    Returns:
        `regret`: score of the best image of all less that of the winner; `regret_random`: less the expected best of as
        many images drawn at random; `relative` and `relative_random`: both ÷ the best less the mean of all; `rank` of
        the winner, 1 for the best; `percentile` of it; coordinates `images` shown, `pool` and `winner`.

    Raises:
        InvalidArgumentError: The truth lacks an image that was shown, or holds no numbers.
        RecordingError: Nothing was confirmed yet.
    """
    found = natural_search(recording)
    winner = str(found["winner"].item())
    if not winner:
        raise RecordingError("recording: expected a finished search, which has a winner; go on with the run.")
    if not isinstance(truth, Mapping) or not truth:
        raise InvalidArgumentError(f"truth: expected scores by the names of images, got {truth!r:.80}.")
    shown = set(recording["stimulus_id"].values.astype(str).tolist())
    missing = sorted(shown - set(truth))
    if missing:
        raise InvalidArgumentError(f"truth: it lacks {missing[0]!r}.{closest(missing[0], list(truth))}")
    values = np.sort(np.array(list(truth.values()), float))
    if not np.isfinite(values).all():
        raise InvalidArgumentError("truth: expected finite scores, got NaN or infinity.")
    n, k, own, best = len(values), len(shown), float(truth[winner]), float(values[-1])
    # P(the best of k drawn without replacement is the i-th smallest of n) = C(i - 1, k - 1) / C(n, k).
    i = np.arange(k, n + 1)
    log_c = special.gammaln(i) - special.gammaln(k) - special.gammaln(i - k + 1)
    log_all = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    random = float(np.exp(log_c - log_all) @ values[k - 1 :])
    spread = best - values.mean()
    result = {
        "regret": best - own,
        "regret_random": best - random,
        "relative": (best - own) / spread if spread > 0 else np.nan,
        "relative_random": (best - random) / spread if spread > 0 else np.nan,
        "rank": int((values > own).sum()) + 1,
        "percentile": 100 * float((values < own).mean()),
    }
    reason = "" if spread > 0 else "relative, relative_random: all images drive it alike"
    return xr.Dataset(result, {"images": k, "pool": n, "winner": winner, "reason": reason})
