"""What an evolution found, beside natural images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import gammaln

from closedloop.analysis.preferred import confirmed_rows
from closedloop.analysis.reasons import scalar, words
from closedloop.analysis.resampling import Method, bootstrap, cohens_d, rank_auc
from closedloop.analysis.runs import by_thread, runs
from closedloop.analysis.summary import (
    Estimate,
    ThreadSummary,
    drift_method,
    excites_one,
    raw_scores,
    single_scores,
    summarize_thread,
)
from closedloop.analysis.trajectories import WINDOW, generation_scores
from closedloop.checks import check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.objectives import parse_objective
from closedloop.recording.layout import REFERENCE
from closedloop.signatures import at_door


@at_door
def evolved_vs_reference(
    recording: xr.Dataset,
    thread: str | None = None,
    *,
    window: int = WINDOW,
    method: Method = "BCa",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Compares evolved with reference images: effect size, AUC, ratio, percentile, with bootstrap intervals.

    The *populations* are the images of the last generations and the reference images (each its mean score): Cohen's d
    with the pooled standard deviation, and the area under the ROC curve, the probability that an evolved image drives
    the unit more than a reference. The *selected* images are the evolved one and the best reference in fresh re-tests,
    free of the winner's curse: their ratio, and the percentile of the evolved image, the share of references below it.

    Args:
        recording: See `trajectory`.
        thread: Which evolution; None for all, along the dimension ``thread``.
        window: How many of the last generations are the evolved population.
        method: "BCa" or "percentile".
        resamples: Number of resamples; over images for the populations, over presentations for the ratio.
        level: Confidence level.
        seed: Seed of the resamples.

    Returns:
        `evolved` and `reference` (population means), `effect_size`, `auc`, `ratio`, `percentile` (0 to 100), each of
        the middle two and `ratio` with ``_low`` and ``_high``, `n_evolved`, `n_reference`; NaN with the reason.
    """
    window = check_whole("window", window, 1)

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        summary = summarize_thread(part, name, objective)
        evolved = generation_scores(_raw(part, name, objective), name)["score"].values[-window:].ravel()
        evolved = evolved[~np.isnan(evolved)]
        natural = reference_means(part, objective)["mean"].values
        natural = natural[~np.isnan(natural)]
        options: dict[str, Any] = {"method": method, "resamples": resamples, "level": level, "seed": seed}
        values, reasons = _populations(evolved, natural, options)
        ratio, ratio_reasons = _ratio(part, summary, options)
        below, why = _percentile(summary, natural)
        return scalar(
            {**values, **ratio, "percentile": below, "n_evolved": len(evolved), "n_reference": len(natural)},
            words({**reasons, **ratio_reasons, "percentile": why}),
        )

    found = by_thread(recording, thread, measure)
    return found.assign_coords(level=level, seed=seed, resamples=resamples, window=window)


def _raw(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
    """Returns one run with the scores of a thread as references are measured: without drift correction."""
    if drift_method(part) == "none":
        return part
    rows = np.flatnonzero((part["thread"].values == name) & (part["kind"].values == "evolved"))
    scores = part["score"].values.copy()
    scores[rows] = raw_scores(part, objective, rows)
    return part.assign(score=("presentation", scores))


def _populations(
    evolved: FloatArray, natural: FloatArray, options: dict[str, Any]
) -> tuple[dict[str, float], dict[str, str]]:
    """Returns means, d and AUC with their intervals, and why any is missing."""
    values = {
        "evolved": float(evolved.mean()) if len(evolved) else np.nan,
        "reference": float(natural.mean()) if len(natural) else np.nan,
    }
    lacking = "" if min(len(evolved), len(natural)) > 1 else "fewer than two evolved or reference images with a score"
    reasons = {"evolved": "" if len(evolved) else "no score", "reference": "" if len(natural) else "no reference image"}
    for key, statistic in (("effect_size", cohens_d), ("auc", rank_auc)):
        if lacking:
            values |= dict.fromkeys((key, f"{key}_low", f"{key}_high"), np.nan)
            reasons[key] = lacking
            continue
        estimate = float(statistic(evolved, natural))
        if not np.isfinite(estimate):
            values |= dict.fromkeys((key, f"{key}_low", f"{key}_high"), np.nan)
            reasons[key] = "the scores of neither population vary"
            continue
        found = bootstrap([evolved, natural], statistic, **options)
        low, high, reasons[f"{key} interval"] = (found[k].item() for k in ("low", "high", "reason"))
        values |= {key: estimate, f"{key}_low": low, f"{key}_high": high}
    return values, reasons


def _ratio(
    part: xr.Dataset, summary: ThreadSummary, options: dict[str, Any]
) -> tuple[dict[str, float], dict[str, str]]:
    """Divides the re-tested evolved image by the re-tested best reference, and returns why where that is NaN."""
    names = ("ratio", "ratio_low", "ratio_high")
    if not np.isfinite(summary.ratio):
        return dict.fromkeys(names, np.nan), {"ratio": _no_ratio(summary)}
    evolved = single_scores(part, summary.objective, confirmed_rows(part, summary))
    natural = single_scores(part, summary.objective, _natural_rows(part, summary))
    found = bootstrap([evolved, natural], lambda a, b, axis=-1: a.mean(axis) / b.mean(axis), **options)
    low, high, reason = (found[k].item() for k in ("low", "high", "reason"))
    return dict(zip(names, (summary.ratio, low, high), strict=True)), {"ratio interval": reason}


def _natural_rows(part: xr.Dataset, summary: ThreadSummary) -> NDArray[np.intp]:
    """Returns the rows of the confirming presentations of the best reference."""
    kind, generation = part["kind"].values, part["generation"].values
    last = (kind == "retest") & (generation == generation[kind == "retest"].max())
    own = (part["thread"].values == REFERENCE) & (part["stimulus_id"].values == summary.natural.stimulus_id)
    return np.flatnonzero(last & own)


def _no_ratio(summary: ThreadSummary) -> str:
    if not summary.evolved.n:
        return "the evolved image was not re-tested"
    if not summary.natural.n:
        return "no reference image was re-tested"
    if not excites_one(summary.objective):
        return "the objective is not the response of a single unit, so it has no natural zero"
    return "a re-tested mean is not above 0"


def _percentile(summary: ThreadSummary, natural: FloatArray) -> tuple[float, str]:
    """Returns the share of references below the re-tested evolved image in percent, ties counting half."""
    if not summary.evolved.n:
        return np.nan, "the evolved image was not re-tested"
    if len(natural) == 0:
        return np.nan, "no reference image"
    value = summary.evolved.mean
    return float(100 * ((natural < value).mean() + (natural == value).mean() / 2)), ""


@at_door
def reference_means(part: xr.Dataset, objective: str) -> xr.Dataset:
    """Returns the scores of each reference image of a single run over all its presentations.

    Returns:
        Over ``stimulus_id``: `mean`, `n`, and `half_a`, `half_b`, the means of every other presentation (NaN below
        two).
    """
    rows = np.flatnonzero(part["thread"].values == REFERENCE)
    ids, index = np.unique(part["stimulus_id"].values[rows].astype(str), return_inverse=True)
    scores = single_scores(part, objective, rows) if len(rows) else np.empty(0)
    known = ~np.isnan(scores)
    index, scores = index[known], scores[known]
    turn = np.zeros(len(index), dtype=int)
    for i in range(len(ids)):
        turn[index == i] = np.arange((index == i).sum())
    half_a, half_b = (_means(index[turn % 2 == h], scores[turn % 2 == h], len(ids))[0] for h in (0, 1))
    mean, n = _means(index, scores, len(ids))
    names = {"mean": mean, "n": n, "half_a": half_a, "half_b": half_b}
    return xr.Dataset(
        {name: ("stimulus_id", column) for name, column in names.items()}, coords={"stimulus_id": ids.astype(object)}
    )


def _means(index: NDArray[np.intp], values: FloatArray, size: int) -> tuple[FloatArray, NDArray[np.intp]]:
    """Returns the mean and the number of the values of each index."""
    n = np.bincount(index, minlength=size)
    return np.bincount(index, weights=values, minlength=size) / np.where(n > 0, n, np.nan), n


@at_door
def best_of_k(
    recording: xr.Dataset, k: int | Sequence[int], thread: str | None = None, *, objective: str | None = None
) -> xr.Dataset:
    """Returns the best natural image among k, averaged over all choices of k references (Xiao & Kreiman 2020).

    The exact expected maximum of k draws without replacement: the sum over the sorted means x₍ᵢ₎ of
    x₍ᵢ₎ · C(i−1, k−1) / C(n, k). Under noise the highest mean owes part of its height to luck; `retested` is free of
    that: images are ranked by every other presentation and valued by the rest, both ways round.

    Args:
        recording: See `trajectory`; or a run of `closedloop.protocols.present`, whose images are then the references.
        k: How many images are looked at, one number or several.
        thread: Whose objective; None for each, along the dimension ``thread``.
        objective: Of a run without evolutions: by what its images are judged, such as "unit(3)"; default its only unit.

    Returns:
        Over ``k``: `expected` and `retested`; `evolved`, the evolved image's re-tested mean, and `n_reference`. NaN
        with the reason where k exceeds the references, or where they were presented once.

    Raises:
        InvalidArgumentError: An objective for a run that has its own, or none where several units were recorded.
    """
    counts = np.atleast_1d(np.asarray(k))
    if counts.ndim != 1 or counts.size == 0 or counts.dtype.kind not in "iu" or counts.min() < 1:
        raise InvalidArgumentError(f"k: expected one or more whole numbers of at least 1, got {k!r}.")

    parts = runs(recording)
    if len(parts) == 1 and "objective" not in parts[0][1].coords:
        return _best_natural(parts[0][1], _one_objective(recording, objective), counts, {})
    if objective is not None:
        raise InvalidArgumentError(f"objective: the evolutions have their own, got {objective!r:.80}; leave it out.")

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        return _best_natural(part, objective, counts, {"evolved": summarize_thread(part, name, objective).evolved.mean})

    return by_thread(recording, thread, measure)


def _one_objective(recording: xr.Dataset, objective: str | None) -> str:
    """Returns the objective by which the images of a run without evolutions are judged."""
    if objective is None and recording.sizes["neuroid"] != 1:
        raise InvalidArgumentError(
            f"objective: the recording holds no evolution and {recording.sizes['neuroid']} units; say by what its "
            "images are judged, for instance 'unit(0)'."
        )
    return "unit(0)" if objective is None else parse_objective(objective).describe()


def _best_natural(
    part: xr.Dataset, objective: str, counts: NDArray[np.integer], beside: Mapping[str, float]
) -> xr.Dataset:
    """Returns the expected maximum over each number of references, and further numbers beside it."""
    table = reference_means(part, objective)
    known = table.isel(stimulus_id=np.flatnonzero(~np.isnan(table["mean"].values)))
    mean, a, b = (known[c].values for c in ("mean", "half_a", "half_b"))
    expected = np.array([_expected_maximum(mean, mean, int(c)) for c in counts])
    twice = bool(len(mean)) and not np.isnan(b).any()
    halves = [(_expected_maximum(a, b, int(c)) + _expected_maximum(b, a, int(c))) / 2 for c in counts]
    reasons = {
        "expected": "" if counts.max() <= len(mean) else f"k above the {len(mean)} reference images",
        "retested": "" if twice else "not every reference image was presented twice",
    }
    columns = {"expected": ("k", expected), "retested": ("k", np.array(halves) if twice else expected * np.nan)}
    return xr.Dataset({**columns, **beside, "n_reference": len(mean)}, coords={"k": counts, "reason": words(reasons)})


def _expected_maximum(ranking: FloatArray, values: FloatArray, k: int) -> float:
    """Returns the expected value of the image that ranks highest among k of n drawn without replacement."""
    n = len(ranking)
    if k > n or np.isnan(ranking).any() or np.isnan(values).any():
        return float("nan")
    i = np.arange(k, n + 1)
    log_weights = _log_choose(i - 1, k - 1) - _log_choose(np.array(n), k)
    return float(np.exp(log_weights) @ values[np.argsort(ranking, kind="stable")][k - 1 :])


def _log_choose(n: NDArray[np.integer], k: int) -> Any:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


@at_door
def winners_curse(recording: xr.Dataset, thread: str | None = None) -> xr.Dataset:
    """Measures how much an evolution's highest score exceeds the same image's mean in fresh presentations.

    Args:
        recording: See `trajectory`.
        thread: Which evolution; None for all, along the dimension ``thread``.

    Returns:
        `maximum` (the highest score), `retested` (mean of that image's re-tests), `gap` (their difference), `share`
        (gap ÷ maximum), and `mean_gap`, `n`: the same gap on average over all re-tested images of the evolution, from
        the selecting re-test alone: the confirming one shows again only the image that did best in it. NaN
        with the reason where they were not re-tested.
    """

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        summary = summarize_thread(part, name, objective)
        gaps = _candidate_gaps(part, name, objective)
        maximum, gap = summary.noisy_maximum, summary.curse
        values = {
            "maximum": maximum,
            "retested": maximum - gap,
            "gap": gap,
            "share": gap / maximum if maximum > 0 else np.nan,
            "mean_gap": float(gaps.mean()) if len(gaps) else np.nan,
            "n": len(gaps),
        }
        return scalar(values, _no_curse(summary))

    return by_thread(recording, thread, measure)


def _no_curse(summary: ThreadSummary) -> str:
    if np.isnan(summary.noisy_maximum):
        return "no presentation of the evolution gave a score"
    if np.isnan(summary.curse):
        return "the image with the highest score was not re-tested"
    return "" if summary.noisy_maximum > 0 else "share: the highest score is not above 0"


def _candidate_gaps(part: xr.Dataset, name: str, objective: str) -> FloatArray:
    """Returns the score in the evolution minus the mean re-tested score, of each evolved image re-tested."""
    kind, ids = part["kind"].values, part["stimulus_id"].values
    own = part["thread"].values == name
    generation = part["generation"].values
    rows = np.flatnonzero(own & (kind == "retest"))
    rows = rows[generation[rows] == min(generation[rows], default=0)]
    scores = single_scores(part, objective, rows)
    first = np.flatnonzero(own & (kind == "evolved") & np.isin(ids, ids[rows]))
    before = dict(zip(ids[first], raw_scores(part, objective, first), strict=True))
    names = sorted({i for i in ids[rows] if i in before})
    again = {i: scores[(ids[rows] == i) & ~np.isnan(scores)] for i in names}
    return np.array([before[i] - Estimate.of(i, again[i]).mean for i in names if len(again[i])], dtype=float)
