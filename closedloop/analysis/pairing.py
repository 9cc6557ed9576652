"""Compares one kind of evolution with another, on the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from closedloop.analysis.reasons import scalar
from closedloop.analysis.resampling import mean_interval
from closedloop.analysis.runs import concat, evolutions
from closedloop.analysis.summary import fact_of, summarize_thread
from closedloop.errors import InvalidArgumentError
from closedloop.objectives import parse_objective
from closedloop.signatures import at_door


@at_door
def paired_difference(
    recordings: xr.Dataset | Sequence[xr.Dataset] | Mapping[str, xr.Dataset],
    first: str,
    second: str,
    *,
    by: str = "optimizer",
    relative: bool = True,
    level: float = 0.95,
) -> xr.Dataset:
    """Estimates how much further one kind of evolution got than another: the mean over units, with Student's interval.

    Two evolutions make a pair if they excited the same units by the same objective and are alike in subject,
    generator, optimizer and seed, but for what is compared. What each got is the mean score of its evolved image in
    the fresh presentations of the re-test, so no lucky maximum counts.

    Args:
        recordings: Many runs; see `concat`.
        first: For instance an optimizer's name, as the runs have it in their coordinate `optimizer`.
        second: Another one.
        by: What is compared: "optimizer", "generator" or "subject".
        relative: Whether differences are parts of the most that any of the evolutions got for those units; otherwise
            they are scores.
        level: Confidence level of the interval, by Student's t over units (see `mean_interval`).

    Returns:
        `estimate` (first − second), `low`, `high`, `n_units` and `n_pairs`; NaN with the reason.

    Raises:
        InvalidArgumentError: None of the evolutions is of that kind.
        RecordingError: There is no evolution.
    """
    if by not in ("optimizer", "generator", "subject"):
        raise InvalidArgumentError(f"by: expected 'optimizer', 'generator' or 'subject', got {by!r}.")
    whole = recordings if isinstance(recordings, xr.Dataset) else concat(recordings)
    table = _table(whole)
    kinds = sorted({facts[by] for facts, _, _ in table})
    for name, kind in (("first", first), ("second", second)):
        if kind not in kinds:
            raise InvalidArgumentError(f"{name}: expected one of {', '.join(map(repr, kinds))}, got {kind!r}.")
    most: dict[str, float] = {}
    reached: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for facts, target, score in table:
        most[target] = max(most.get(target, -np.inf), score)
        key = (target, *(fact for name, fact in facts.items() if name != by))  # what a pair has in common
        reached.setdefault(key, {}).setdefault(facts[by], []).append(score)
    differences: dict[str, list[float]] = {}
    for (target, *_), got in reached.items():
        if first in got and second in got and not (relative and most[target] <= 0):
            difference = np.mean(got[first]) - np.mean(got[second])
            differences.setdefault(target, []).append(float(difference / most[target] if relative else difference))
    pairs = sum(len(d) for d in differences.values())
    counts = {"n_units": len(differences), "n_pairs": pairs}
    if not pairs:
        missing = dict.fromkeys(("estimate", "low", "high"), np.nan)
        return scalar({**missing, **counts}, "no pair of evolutions that were re-tested and differ in this alone")
    found = mean_interval([float(np.mean(d)) for d in differences.values()], level=level)
    return found.assign(counts)


def _table(recording: xr.Dataset) -> list[tuple[dict[str, str], str, float]]:
    """Returns for each re-tested evolution what the run says of it, what it excited, and its confirmed mean score."""
    found = []
    for _, part, thread, objective in evolutions(recording):
        score = summarize_thread(part, thread, objective).evolved.mean
        if np.isfinite(score):
            names = part["neuroid_id"].values.tolist()
            columns = sorted(parse_objective(objective).columns or range(len(names)))
            target = f"{objective} of {', '.join(str(names[c]) for c in columns)}"
            found.append((_facts(part, thread), target, float(score)))
    return found


def _facts(part: xr.Dataset, thread: str) -> dict[str, str]:
    """Returns subject, seed, generator and optimizer of a thread; "" for what is not known."""
    run = {name: str(part[name].item()) if name in part.coords else "" for name in ("subject", "seed")}
    return run | {name: fact_of(part, name, thread) for name in ("generator", "optimizer")}
