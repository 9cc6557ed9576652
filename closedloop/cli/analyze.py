"""``closedloop analyze``: one analysis of one or several runs, as a table on the terminal and as CSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from csv import writer as csv_writer
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from closedloop import analysis
from closedloop.cli.console import console
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError, closest
from closedloop.files import replace_file
from closedloop.recording.reader import open_recording

#: Rows that the terminal shows; the CSV file has them all.
ROWS = 60
#: Entries that may become columns of a table that would be too wide.
FEW = 24
#: Coordinates of units that the terminal shows; the CSV file has them all.
_UNIT = ("neuroid_id", "neuroid_id_b", "unit", "label")


@dataclass(frozen=True)
class What:
    """How an analysis is asked for on the command line.

    Attributes:
        function: From a recording to its result.
        of: "thread" (of each evolution, over all runs together), "unit" (of each unit, run by run), or "runs" (of what
            the evolutions of all runs have in common).
        options: For the function.
        without: Variables that are too large for a table.
    """

    function: Callable[..., xr.Dataset]
    of: str
    options: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


def _rate(recording: xr.Dataset, **options: Any) -> xr.Dataset:
    """The share of evolutions that succeeded."""
    return analysis.success_rate(analysis.success(recording, **options))


ANALYSES: dict[str, What] = {
    "trajectory": What(analysis.trajectory, "thread"),
    "success": What(analysis.success, "thread"),
    "success_rate": What(_rate, "runs"),
    "evolved_vs_reference": What(analysis.evolved_vs_reference, "thread"),
    "winners_curse": What(analysis.winners_curse, "thread"),
    "best_of_k": What(analysis.best_of_k, "thread", {"k": (1, 2, 5, 10, 20, 50, 100)}),
    "generations_to": What(analysis.generations_to, "thread"),
    "images_to": What(analysis.images_to, "thread"),
    "naturalness": What(analysis.naturalness, "thread", {}, ("least", "most", "median")),
    "reference_drift": What(analysis.reference_drift, "unit"),
    "fano_factor": What(analysis.fano_factor, "unit"),
    "split_half": What(analysis.split_half, "unit"),
    "noise_ceiling": What(analysis.noise_ceiling, "unit"),
    "selectivity": What(analysis.selectivity, "unit"),
    "sparseness": What(analysis.sparseness, "unit"),
    "tuning_curve": What(analysis.tuning_curve, "unit"),
    "signal_correlation": What(analysis.signal_correlation, "unit"),
    "noise_correlation": What(analysis.noise_correlation, "unit"),
    "psth": What(analysis.psth, "unit"),
    "cross_driving": What(analysis.cross_driving, "runs"),
    "preference_similarity": What(analysis.preference_similarity, "runs"),
    "code_geometry": What(analysis.code_geometry, "thread", {"axes": 2}, ("components", "center", "norm_growth")),
    "latent_regression": What(analysis.latent_regression, "thread", {}, ("weights",)),
    "fit_kent": What(analysis.fit_kent, "unit"),
}


def analyze_runs(runs: Sequence[Path], what: str, thread: str | None, csv: Path | None) -> None:
    """Prints one analysis of runs, and writes it as CSV.

    Raises:
        UnknownNameError: No such analysis, or no such thread.
        RecordingError: Not a run, or the analysis needs what the runs do not hold.
    """
    name = what.replace("-", "_")
    if name not in ANALYSES:
        raise UnknownNameError(f"what: no analysis named {what!r}.{closest(name, ANALYSES)}")
    chosen = ANALYSES[name]
    if thread is not None and chosen.of != "thread":
        raise InvalidArgumentError(f"thread: {name} is not asked of a single evolution; leave --thread out.")
    results = _results(_opened(runs), chosen, {} if thread is None else {"thread": thread})
    frame = _stacked([_frame(result.drop_vars(chosen.without), run) for run, result in results.items()])
    if csv is not None:
        _write_csv(csv, frame)
    _print(name, frame, next(iter(results.values())))
    if csv is not None:
        console.print(f"CSV:    {csv}", highlight=False, markup=False)


def _opened(runs: Sequence[Path]) -> dict[str, xr.Dataset]:
    """The recordings, by the shortest ends of their paths that tell them apart."""
    whole = [path.resolve() for path in runs]
    if len(set(whole)) < len(whole):
        raise InvalidArgumentError("runs: expected different folders, got one of them twice.")
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return {"/".join(path.parts[-depth:]): open_recording(given) for path, given in zip(whole, runs, strict=True)}


def _results(recordings: Mapping[str, xr.Dataset], what: What, given: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    """The result of each run, or under "" that of all together."""
    options = {**what.options, **given}
    if what.of == "unit" and len(recordings) > 1:
        return {run: what.function(recording, **options) for run, recording in recordings.items()}
    whole = next(iter(recordings.values())) if len(recordings) == 1 else analysis.concat(recordings)
    return {"": what.function(whole, **options)}


@dataclass(frozen=True)
class Frame:
    """A result as rows.

    Attributes:
        keys: How many of the first columns tell the rows apart.
        columns: Their names, last the reason.
        rows: A value for each column.
    """

    keys: int
    columns: list[str]
    rows: list[list[Any]]


def _frame(result: xr.Dataset, run: str) -> Frame:
    """A result as rows: its dimensions, the coordinates along them, its variables, and last the reason."""
    if not result.dims:
        result = result.expand_dims("all")
    table = result.to_dataframe().reset_index()
    # A dimension without names of its own is no column; units are told apart by theirs.
    named = {"neuroid": "neuroid_id", "neuroid_b": "neuroid_id_b"}
    keys = [key for d in result.dims if (key := named.get(str(d), str(d))) in table.columns]
    keys = sorted(set(keys), key=list(dict.fromkeys([*map(str, result.dims), *keys])).index)
    coords = [str(c) for c in table.columns if c in result.coords and c not in keys and c != "reason"]
    columns = [*keys, *coords, *map(str, result.data_vars), "reason"]
    rows = table[columns].to_numpy(dtype=object).tolist()
    if not run:
        return Frame(len(keys), columns, rows)
    return Frame(len(keys) + 1, ["run", *columns], [[run, *row] for row in rows])


def _stacked(frames: Sequence[Frame]) -> Frame:
    """Frames under each other; what one of them lacks is empty."""
    columns = [*dict.fromkeys(c for frame in frames for c in frame.columns if c != "reason"), "reason"]
    rows = []
    for frame in frames:
        place = {name: i for i, name in enumerate(frame.columns)}
        rows += [[row[place[c]] if c in place else "" for c in columns] for row in frame.rows]
    return Frame(frames[0].keys, columns, rows)


def _write_csv(path: Path, frame: Frame) -> None:
    buffer = io.StringIO(newline="")
    writer = csv_writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows([["" if _missing(value) else value for value in row] for row in frame.rows])
    try:
        replace_file(path, buffer.getvalue().encode())
    except OSError as error:
        raise RecordingError(f"csv: cannot write {path} ({error.strerror or error}).") from error


def _missing(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _print(name: str, frame: Frame, result: xr.Dataset) -> None:
    """The table, below it what is the same in all rows and why numbers are missing."""
    units = {str(c) for c, coord in result.coords.items() if coord.ndim and c not in result.dims} - set(_UNIT)
    settings = {str(c) for c, coord in result.coords.items() if coord.ndim == 0} - {"thread"}
    hidden = units | settings | {"reason", "all"}
    shown = [i for i, column in enumerate(frame.columns) if column not in hidden]
    rows = frame.rows[:ROWS]
    for part in dict.fromkeys(str(row[0]) for row in rows) if frame.keys > 1 else [""]:
        own = [row for row in rows if not part or str(row[0]) == part]
        title = f"{name}: {frame.columns[0]} {part}" if part else name
        for table in _tables(title, frame, own, shown[1:] if part else shown):
            console.print(table)
    if len(frame.rows) > ROWS:
        console.print(f"the first {ROWS} of {len(frame.rows)} rows; all of them: --csv FILE", highlight=False)
    if noted := sorted(settings & set(frame.columns) - {"reason", "all"}):
        console.print(
            ", ".join(f"{c} {_text(result[c].item())}" for c in noted), style="dim", highlight=False, markup=False
        )
    for reason in dict.fromkeys(str(row[-1]) for row in frame.rows if row[-1]):
        console.print(f"–  {reason}", highlight=False, markup=False)


def _tables(title: str, frame: Frame, rows: Sequence[Sequence[Any]], shown: Sequence[int]) -> list[Table]:
    """A row for each entry; where that is too wide and there are few, a column for each."""
    cells = [[_text(row[i]) for i in shown] for row in rows]
    names = [frame.columns[i] for i in shown]
    widths = [max(map(len, column)) + 3 for column in zip(names, *cells, strict=True)]
    if sum(widths) < console.width or len(rows) > FEW:
        return [_table(title, names, cells)]
    size = max(len(text) for row in cells for text in row) + 3
    fit = max(1, (console.width - max(map(len, names)) - 4) // size)
    groups = [cells[i : i + fit] for i in range(0, len(cells), fit)]
    return [_table(title, [names[0], *(c[0] for c in group)], list(zip(names, *group, strict=True))[1:])
            for group in groups]  # fmt: skip


def _table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if i == 0 else "right", overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def _text(value: Any) -> str:
    """A cell as the terminal shows it, in four significant digits."""
    if _missing(value):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)
