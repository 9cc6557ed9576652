"""What the threads of a run found, as plain values: the rows of a catalogue, and of a run's ``SUMMARY.json``."""

from __future__ import annotations

from typing import Any

import xarray as xr

from closedloop.analysis.summary import Estimate, ThreadSummary, excites_one, fact_of, is_evolution, summarize
from closedloop.objectives import parse_objective


def thread_findings(recording: xr.Dataset) -> list[dict[str, Any]] | None:
    """Returns what `closedloop.summarize` says of each thread of a run, as plain values by name.

    Returns:
        For each thread ``thread``, ``generator``, ``optimizer``, ``objective``, ``target`` (in words), ``unit`` and
        ``layer`` (of a single one, else ""); ``evolved`` and ``natural`` with ``_sem``, ``_n`` and ``_image``;
        ``ratio``, ``ratio_sem``, ``noisy_maximum``, ``curse``, ``images``, ``generations``, ``lost``. No thread where
        nothing was evolved; None where an objective looks at images, which would have to be made again.
    """
    if not is_evolution(recording):
        return []
    if any(parse_objective(str(text)).needs_images for text in recording["objective"].values):
        return None
    return all_findings(recording)


def all_findings(recording: xr.Dataset) -> list[dict[str, Any]]:
    """Returns the same, whatever it takes."""
    return [_row(recording, summary) for summary in summarize(recording)] if is_evolution(recording) else []


def _row(recording: xr.Dataset, found: ThreadSummary) -> dict[str, Any]:
    parts = {name: fact_of(recording, name, found.thread) for name in ("generator", "optimizer")}
    return {
        "thread": found.thread,
        **parts,
        "objective": found.objective,
        "target": found.target,
        **_unit(recording, found.objective),
        **_estimate("evolved", found.evolved),
        **_estimate("natural", found.natural),
        **{name: getattr(found, name) for name in ("ratio", "ratio_sem", "noisy_maximum", "curse")},
        **{name: getattr(found, name) for name in ("images", "generations", "lost")},
    }


def _unit(recording: xr.Dataset, objective: str) -> dict[str, str]:
    """Returns name and layer of the unit that is excited, where it is one."""
    if not excites_one(objective):
        return {"unit": "", "layer": ""}
    column = next(iter(parse_objective(objective).columns or ()))
    layer = str(recording["layer"].values[column]) if "layer" in recording.coords else ""
    return {"unit": str(recording["neuroid_id"].values[column]), "layer": layer}


def _estimate(name: str, value: Estimate) -> dict[str, Any]:
    return {name: value.mean, f"{name}_sem": value.sem, f"{name}_n": value.n, f"{name}_image": value.stimulus_id}
