"""A page about a sweep: what its axes did, with intervals and corrected tests, its best and worst runs, and links."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from closedloop.analysis.sweeps import AXIS, axes_of, axis_effects, confounded_axes, interval_of_median, sweep_table
from closedloop.errors import ClosedLoopError
from closedloop.interfaces import FloatArray
from closedloop.loop.protocol import RunTable
from closedloop.readable import number
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.report.embedding import SMALL_PX, picture
from closedloop.report.frame import page_of

#: Runs that are shown at each end, and reasons of failures.
ENDS, REASONS = 6, 10
#: What is compared: the ratio where most runs have one, else the response.
_VALUES = {"ratio": "evolved ÷ best reference", "evolved": "response to the evolved image"}


@dataclass(frozen=True)
class RunTile:
    """A run at one end of the order.

    Attributes:
        image: Its evolved image.
        value: Its number.
        note: What it was, in words.
        link: Its folder, relative to the page; empty where the page lies nowhere yet.
    """

    image: Markup
    value: str
    note: str
    link: str


def sweep_page(folder: Path, out: Path) -> str:
    """Returns one HTML page about a sweep; the numbers come from the runs' summaries, and only pictures open a store.

    Args:
        folder: Of the sweep.
        out: The file, to which links are relative.

    Raises:
        InvalidArgumentError: It is not the folder of a sweep.
    """
    table = sweep_table(folder)
    value = _compared(table)
    known = table[np.isfinite(table[value].astype(float))].sort_values(value, ascending=False, kind="stable")
    low = known.tail(max(0, min(ENDS, len(known) - ENDS))).iloc[::-1]
    runs, differ = table["run"].nunique(), axes_of(table)
    return page_of(
        "sweep.html",
        title=f"A sweep of {number(runs)} run{'s' * (runs != 1)}",
        sentences=list(_sentences(table, value)),
        notes=list(_notes(table)),
        tables=list(_tables(table, value)),
        best=[_tile(folder, out, row, value, differ) for _, row in known.head(ENDS).iterrows()],
        worst=[_tile(folder, out, row, value, differ) for _, row in low.iterrows()],
        value=_VALUES[value],
        folder=str(folder),
        command=shlex.join(["closedloop", "report", str(folder), "--out", str(out)]),
        listing=shlex.join(["closedloop", "runs", str(folder)]),
    )


def _compared(table: pd.DataFrame) -> str:
    """Returns which number is compared: the ratio, unless few runs have one."""
    finite = {name: int(np.isfinite(table[name].astype(float)).sum()) for name in _VALUES}
    return "ratio" if finite["ratio"] >= max(1, finite["evolved"] // 2) else "evolved"


def _sentences(table: pd.DataFrame, value: str) -> Iterator[str]:
    """Yields what was found, in words."""
    states = Counter(table.drop_duplicates("run")["state"].astype(str))
    yield "Runs: " + ", ".join(f"{number(count)} {state}" for state, count in states.most_common()) + "."
    numbers = _finite(table[value])
    if not len(numbers):
        yield "No run has come to a number yet."
        return
    found = interval_of_median(numbers)
    interval = f" [{found['low']:.3g}, {found['high']:.3g}]" if np.isfinite(found["low"]) else ""
    median = f"the median of {_VALUES[value]} is {found['median']:.3g}{interval}"
    yield f"Over {number(len(numbers))} evolutions {median}, from {numbers.min():.3g} to {numbers.max():.3g}."
    if value == "ratio":
        yield f"{int((numbers > 1).sum())} of {number(len(numbers))} are above the best reference."


def _notes(table: pd.DataFrame) -> Iterator[str]:
    """Yields what must be known before the numbers are trusted."""
    for one, other in confounded_axes(table):
        yield f"{one} and {other} always change together: what they did cannot be told apart."
    reasons = Counter(" ".join(str(why).split())[:300] for why in table["problem"] if why)
    for why, count in reasons.most_common(REASONS):
        yield f"{count} run{'s' * (count != 1)} failed or cannot be read: {why}"
    if len(reasons) > REASONS:
        yield f"… and {len(reasons) - REASONS} other reasons; each stands beside its run's folder."


def _tables(table: pd.DataFrame, value: str) -> Iterator[RunTable]:
    """Yields a table for each axis on which runs differ."""
    axes = [axis for axis in axes_of(table) if axis not in ("unit", "seed")]
    for axis in [*axes, *(a for a in axes_of(table) if a in ("unit", "seed") and table[f"{AXIS}{a}"].nunique() <= 40)]:
        effects = axis_effects(table, axis, value)
        if not len(effects):
            continue
        rows = [_row(axis, effect) for effect in effects.to_dict("records")]
        columns = [axis, "evolutions", "median", "95 % interval", "units in both", "first − this", "p (Holm)"]
        tests = int(np.isfinite(effects["p"].to_numpy(float)).sum())
        caption = f"Medians of {_VALUES[value]} with 95 % intervals over evolutions, between order statistics."
        if tests:
            caption += (
                " Each is held against the first by Wilcoxon’s signed-rank test over what was maximized, with means "
                f"over all else that both have; tests of this table corrected together by Holm: {tests}."
            )
        yield RunTable(f"By {axis}", columns, rows, caption)


def _row(axis: str, effect: dict[Any, Any]) -> list[str]:
    low, high = effect["low"], effect["high"]
    interval = f"{low:.3g} to {high:.3g}" if np.isfinite(low) else "–"
    difference, p = effect["difference"], effect["p_holm"]
    return [
        str(effect[axis]) or "none",
        number(int(effect["n"])),
        f"{effect['median']:.3g}",
        interval,
        number(int(effect["pairs"])) if effect["pairs"] else "–",
        f"{difference:.3g}" if np.isfinite(difference) else "–",
        f"{p:.2g}" if np.isfinite(p) else "–",
    ]


def _tile(folder: Path, out: Path, row: pd.Series[Any], value: str, differ: Sequence[str]) -> RunTile:
    """Returns a run with its evolved image, read from its folder or made again, and where it stands on some axes."""
    path = folder / str(row["path"])
    image = None
    with suppress(ClosedLoopError):  # the number stands without a picture
        image = Pictures(open_recording(path))(str(row["evolved_image"]))
    axes = [f"{name} {row[f'{AXIS}{name}']}" for name in differ if row[f"{AXIS}{name}"]]
    note = "; ".join([str(row["target"]), *axes])
    link = os.path.relpath(path, out.resolve().parent) if path.exists() else ""
    return RunTile(picture(image, f"evolved image of {row['run']}", SMALL_PX), f"{row[value]:.3g}", note, link)


def _finite(values: Any) -> FloatArray:
    numbers: FloatArray = np.asarray(values, dtype=float)
    return np.asarray(numbers[np.isfinite(numbers)])
