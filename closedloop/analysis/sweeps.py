"""A sweep as a table, and what its axes did: medians, intervals and paired tests over runs, without opening a store."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from closedloop.analysis.catalogue import catalogue
from closedloop.analysis.resampling import holm, median_interval
from closedloop.analysis.run_index import failure_of
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.recording.layout import SWEEP
from closedloop.signatures import at_door

#: What the columns of a sweep's axes begin with.
AXIS = "axis_"


def is_sweep(folder: str | Path) -> bool:
    """Tells whether a folder is that of a sweep."""
    return (Path(folder) / SWEEP).is_file()


@at_door
def sweep_table(folder: str | Path) -> pd.DataFrame:
    """Returns the catalogue of a sweep's runs, a row for each thread, with a column for each axis of its plan.

    Args:
        folder: Of the sweep.

    Returns:
        `closedloop.catalogue` with ``axis_NAME`` for each axis ("" where a run has none of it) and ``run``, the run's
        name. A run that has not begun has a row, too; its ``state`` is "planned", or "failed" with the reason in
        ``problem``.

    Raises:
        InvalidArgumentError: It is not the folder of a sweep.
    """
    planned = planned_runs(folder)
    found = catalogue(folder)
    names = list(dict.fromkeys(f"{AXIS}{name}" for run in planned for name in run["facts"]))
    rows = [{"path": _place(run["id"]), "run": run["id"], **_axes(run["facts"], names)} for run in planned]
    table = pd.DataFrame(rows, columns=["path", "run", *names]).merge(found, on="path", how="left")
    unseen = table["state"].isna()
    table["state"] = table["state"].astype(object).where(~unseen, "planned")
    # A failed run that was begun has its reason from the catalogue; one without a folder has its note alone.
    notes = pd.Series([failure_of(Path(folder), str(path)) for path in table["path"][unseen]], table.index[unseen], str)
    table.loc[notes.index[notes != ""], "state"] = "failed"
    begun = table["state"].eq("failed") & ~unseen
    table["problem"] = table["problem"].where(~begun, table["reason"]).fillna(notes)
    return table


def planned_runs(folder: str | Path) -> list[dict[str, Any]]:
    """Returns what a sweep's list says of each run: ``id``, ``content``, ``facts`` (by axis) and ``images``.

    Raises:
        InvalidArgumentError: There is no list, or it cannot be read.
    """
    path = Path(folder) / SWEEP
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [{"id": str(run["id"]), "facts": dict(run.get("facts", {})), **run} for run in found]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidArgumentError(
            f"folder: expected that of a sweep, with its list of runs, {SWEEP}, got {folder} ({error})."
        ) from error


def _place(identity: str) -> str:
    return f"{identity[:2]}/{identity[2:4]}/{identity}"


def _axes(facts: dict[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: str(facts.get(name.removeprefix(AXIS), "")) for name in names}


@at_door
def axis_effects(table: pd.DataFrame, axis: str, value: str = "ratio") -> pd.DataFrame:
    """Compares the values of one axis over all that else differs: medians with intervals, and paired tests.

    Rows are paired where they agree in every other axis and in what they maximize, and averaged over all but that: one
    difference for each target, for seeds of one unit are not independent. Each value is held against the one with the
    highest median by Wilcoxon's signed-rank test over these; `p_holm` is corrected over the tests by Holm.

    Args:
        table: Of `sweep_table`.
        axis: "optimizer", "generator", "noise" …
        value: A number of the catalogue: "ratio", "evolved" …

    Returns:
        A row for each value of the axis, the highest median first: ``n`` rows, ``median``, ``low`` and ``high`` (its
        95 % interval over rows, `median_interval`), ``pairs`` (targets that both have), ``difference`` (median, first
        minus it), ``p`` and ``p_holm``; NaN where there are too few.

    Raises:
        InvalidArgumentError: No such axis, or no such number.
    """
    column = f"{AXIS}{axis}"
    axes = [name for name in table.columns if name.startswith(AXIS)]
    if column not in axes:
        raise InvalidArgumentError(f"axis: expected one of {[a.removeprefix(AXIS) for a in axes]}, got {axis!r}.")
    if value not in table.columns or not pd.api.types.is_numeric_dtype(table[value]):
        raise InvalidArgumentError(f"value: expected a number of the catalogue, such as 'ratio', got {value!r}.")
    known = table[np.isfinite(table[value].astype(float))]
    rows = []
    for name, part in known.groupby(column, sort=False):
        numbers = part[value].to_numpy(float)
        rows.append({axis: str(name), "n": len(numbers), **interval_of_median(numbers)})
    result = pd.DataFrame(rows, columns=[axis, "n", "median", "low", "high"]).sort_values(
        "median", ascending=False, ignore_index=True
    )
    others = [name for name in axes if name != column]
    tests = [_paired(known, column, others, str(result[axis][0]), str(name), value) for name in result[axis]]
    for name in ("pairs", "difference", "p"):
        result[name] = [test[name] for test in tests]
    result["p_holm"] = holm(result["p"].to_numpy(float)) if len(result) else np.empty(0)
    return result


def interval_of_median(values: FloatArray) -> dict[str, float]:
    """Returns the median of values ``(n,)`` with its 95 % interval, NaN of fewer than six; see `median_interval`."""
    found = median_interval(values)
    return {"median": float(found["estimate"]), "low": float(found["low"]), "high": float(found["high"])}


def _paired(
    table: pd.DataFrame, column: str, others: Sequence[str], first: str, name: str, value: str
) -> dict[str, float]:
    """Compares two values of an axis where all else is alike; one difference for each target, which are independent."""
    nothing = {"pairs": 0, "difference": np.nan, "p": np.nan}
    if name == first:
        return nothing
    keys = ["target", *others]
    one, two = (table[table[column] == which].groupby(keys)[value].mean() for which in (first, name))
    both = pd.concat([one, two], axis=1, join="inner")
    difference = (both.iloc[:, 0] - both.iloc[:, 1]).groupby("target").mean().to_numpy(float)
    # Below six pairs no signed-rank test reaches 0.05.
    if len(difference) < 6 or not difference.any():
        middle = float(np.median(difference)) if len(difference) else np.nan
        return {**nothing, "pairs": len(difference), "difference": middle}
    p = float(stats.wilcoxon(difference).pvalue)
    return {"pairs": len(difference), "difference": float(np.median(difference)), "p": p}


def axes_of(table: pd.DataFrame) -> list[str]:
    """Returns the axes on which a sweep's runs differ, by name; units and seeds, over which one averages, last."""
    names = [name.removeprefix(AXIS) for name in table.columns if name.startswith(AXIS) and table[name].nunique() > 1]
    return sorted(names, key=lambda name: name in ("unit", "seed"))


def confounded_axes(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Returns pairs of axes that always change together, so that their effects cannot be told apart."""
    names = axes_of(table)
    return [
        (one, other)
        for one, other in itertools.combinations(names, 2)
        if len(table[[f"{AXIS}{one}", f"{AXIS}{other}"]].drop_duplicates())
        == table[f"{AXIS}{one}"].nunique()
        == table[f"{AXIS}{other}"].nunique()
    ]
