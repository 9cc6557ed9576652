"""How far a population was brought where it was wanted: the target and the other sites, against the best natural image.

Bashivan, Kar & DiCarlo 2019, *Science*: control is what synthesized images reach beyond the best natural one, in fresh
presentations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.analysis.preferred import confirmed_rows
from closedloop.analysis.reasons import words
from closedloop.analysis.students import spread
from closedloop.analysis.summary import single_scores, summarize_thread, thread_objectives
from closedloop.analysis.verifications import welch_differences
from closedloop.checks import check_within
from closedloop.errors import RecordingError
from closedloop.interfaces import FloatArray
from closedloop.objectives import parse_objective
from closedloop.recording.layout import REFERENCE
from closedloop.recording.lean import responses_at
from closedloop.signatures import at_door


@at_door
def control_scores(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Compares each thread's evolved image with its best natural image, by its objective and site by site.

    Both were shown again in fresh presentations, of which these are the last, that chose neither. Sites are measured in
    standard deviations over the natural images from their mean, which are those of the survey; that these are a sample
    is not in the intervals.

    Args:
        recording: What `closedloop.protocols.evolve` or a session returned, with references and re-tests.
        level: Of the intervals.

    Returns:
        Over ``thread``: `score` and `natural`, confirmed means of the objective, and `control`, their difference, with
        Welch's interval ``control_low`` to ``control_high`` (1947). Over ``thread`` and ``site`` (all recorded units):
        `site` and `site_natural`, mean responses to both images in standard deviations, with Student's intervals
        ``site_low`` … ``site_natural_high``; `target`, whether the objective wants the site high: the target of
        ``onehot`` and ``stretch``, and units of a positive weight. `others` and `others_natural` over ``thread``: the
        largest absolute deviation of the sites that the objective names and does not want high, or of all others where
        it names none. `reason` says what is missing.

    Raises:
        RecordingError: There is no evolution, or it showed no natural images.
    """
    check_within("level", level, 0.95)
    threads = thread_objectives(recording)
    units = recording.sizes["neuroid"]
    natural = np.flatnonzero((recording["thread"].values == REFERENCE) & (recording["kind"].values == "reference"))
    if len(natural) < 2:
        raise RecordingError("recording: expected an evolution with natural images; evolve with references.")
    shown = responses_at(recording, natural, list(range(units)))
    mean, sd = np.nanmean(_still(shown), 0), spread(_still(shown), 0)
    scale = np.where(sd > 0, sd, np.nan)
    rows: list[dict[str, Any]] = []
    why: dict[str, str] = {"site": "a unit answers all natural images alike"} if np.isnan(scale).any() else {}
    for name, objective in threads:
        summary = summarize_thread(recording, name, objective)
        if not summary.evolved.n or not summary.natural.n:
            why[name] = "its image, or a natural one, was not shown again"
        own, best = confirmed_rows(recording, summary), _natural_rows(recording, summary.natural.stimulus_id)
        one = {"score": single_scores(recording, objective, own), "natural": single_scores(recording, objective, best)}
        found = _difference(one["score"], one["natural"], level)
        target, others = _wanted(objective, units)
        for word, at in (("site", own), ("site_natural", best)):
            z = (_still(responses_at(recording, at, list(range(units)))) - mean) / scale
            found |= _moments(word, z, level)
        for word, of in (("others", "site"), ("others_natural", "site_natural")):
            away = np.abs(found[of][others])
            found[word] = float(np.nanmax(away)) if np.isfinite(away).any() else np.nan
        rows.append({**found, "target": target})
    columns = {
        key: ("thread", np.array([row[key] for row in rows], float)) for key in rows[0] if np.ndim(rows[0][key]) == 0
    }
    sites = {
        key: (("thread", "site_of"), np.stack([row[key] for row in rows])) for key in rows[0] if np.ndim(rows[0][key])
    }
    return xr.Dataset(
        {**columns, **sites},
        {
            "thread": [name for name, _ in threads],
            "objective": ("thread", np.array([text for _, text in threads], object)),
            "site_of": recording["neuroid_id"].values.astype(str).astype(object),
            "level": level,
            "reason": words(why),
        },
    )


def _still(responses: FloatArray) -> FloatArray:
    """Returns responses ``(n, units)``, averaged over time bins."""
    return responses.mean(-1) if responses.ndim == 3 else responses


def _natural_rows(recording: xr.Dataset, stimulus_id: str) -> NDArray[np.intp]:
    """Returns the presentations of a natural image in the last re-test."""
    kind, generation = recording["kind"].values, recording["generation"].values
    last = generation[kind == "retest"].max(initial=-1)
    again = (recording["thread"].values == REFERENCE) & (kind == "retest") & (generation == last)
    return np.flatnonzero(again & (recording["stimulus_id"].values == stimulus_id))


def _difference(score: FloatArray, natural: FloatArray, level: float) -> dict[str, Any]:
    """Returns the means of two samples and their difference with Welch's interval."""
    both = [values[~np.isnan(values)] for values in (score, natural)]
    mean = np.array([v.mean() if len(v) else np.nan for v in both])
    sem = np.array([spread(v) / np.sqrt(max(len(v), 1)) for v in both])
    gain, half = welch_differences(mean, sem, np.array([len(v) for v in both]), np.array([1, 1]), level)
    found = {"score": float(mean[0]), "natural": float(mean[1]), "control": float(gain[0])}
    return {**found, "control_low": float(gain[0] - half[0]), "control_high": float(gain[0] + half[0])}


def _moments(word: str, z: FloatArray, level: float) -> dict[str, Any]:
    """Returns mean and ends of Student's interval of each site, ``(units,)``."""
    n = (~np.isnan(z)).sum(0)
    some = np.where(n > 0, n, np.nan)
    mean = np.nansum(z, 0) / some
    freedom = np.where(n > 1, n - 1, np.nan)
    sem = np.sqrt(np.nansum((z - mean) ** 2, 0) / freedom / some)
    half = stats.t.ppf((1 + level) / 2, freedom) * sem
    return {word: mean, f"{word}_low": mean - half, f"{word}_high": mean + half}


def _wanted(objective: str, units: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns which sites an objective wants high, and which others it names, ``(units,)`` each."""
    parsed: Any = parse_objective(objective)
    weights = getattr(parsed, "weights", None)
    target = np.zeros(units, bool)
    if isinstance(weights, dict):
        target[[c for c, w in weights.items() if w > 0]] = True
    elif isinstance(getattr(parsed, "column", None), int):
        target[parsed.column] = True
    named = np.zeros(units, bool)
    named[list(parsed.columns or range(units))] = True
    others = named & ~target
    return target, others if others.any() else ~target
