"""The analyses of ``closedloop analyze``, and their results as tables on the terminal and as CSV.

They stand apart from the command, whose name is listed without what they import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from closedloop import analysis
from closedloop.cli.console import say, tell
from closedloop.cli.tables import show_table, write_csv
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.loop.protocol import Analysis, protocol_of
from closedloop.loop.settings import option, settings
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import recorded_titles, shared

#: Rows that the terminal shows; the CSV file has them all.
ROWS = 60
#: What columns are called where their names do not say it.
_WORDS = {"neuroid_id": "unit", "neuroid_id_b": "other unit", "stimulus_id": "image"}


def _rate(recording: xr.Dataset, **options: Any) -> xr.Dataset:
    """Returns the share of evolutions that succeeded."""
    return analysis.success_rate(analysis.success(recording, **options))


#: The analyses of any recording, by name; a protocol may have more.
ANALYSES: dict[str, Analysis] = {
    "control_scores": Analysis(analysis.control_scores, "runs"),
    "trajectory": Analysis(analysis.trajectory, "thread"),
    "success": Analysis(analysis.success, "thread"),
    "success_rate": Analysis(_rate, "runs"),
    "evolved_vs_reference": Analysis(analysis.evolved_vs_reference, "thread"),
    "winners_curse": Analysis(analysis.winners_curse, "thread"),
    "best_of_k": Analysis(analysis.best_of_k, "thread", {"k": (1, 2, 5, 10, 20, 50, 100)}),
    "generations_to": Analysis(analysis.generations_to, "thread"),
    "images_to": Analysis(analysis.images_to, "thread"),
    "naturalness": Analysis(analysis.naturalness, "thread", {}, ("least", "most", "median")),
    "reference_days": Analysis(analysis.reference_days, "unit"),
    "sittings": Analysis(analysis.sittings, "runs", {}, ("count",)),
    "reference_drift": Analysis(analysis.reference_drift, "unit"),
    "fano_factor": Analysis(analysis.fano_factor, "unit"),
    "split_half": Analysis(analysis.split_half, "unit", best="reliability"),
    "noise_ceiling": Analysis(analysis.noise_ceiling, "unit", best="ceiling"),
    "selectivity": Analysis(analysis.selectivity, "unit", best="selectivity"),
    "sparseness": Analysis(analysis.sparseness, "unit", best="sparseness"),
    "tuning_curve": Analysis(analysis.tuning_curve, "unit", best="mean"),
    "signal_correlation": Analysis(analysis.signal_correlation, "unit", best="correlation"),
    "noise_correlation": Analysis(analysis.noise_correlation, "unit", best="correlation"),
    "psth": Analysis(analysis.psth, "unit"),
    "cross_driving": Analysis(analysis.cross_driving, "runs"),
    "preference_similarity": Analysis(analysis.preference_similarity, "runs"),
    "code_geometry": Analysis(analysis.code_geometry, "thread", {"axes": 2}, ("components", "center", "norm_growth")),
    "latent_regression": Analysis(analysis.latent_regression, "thread", {}, ("weights",)),
    "fit_kent": Analysis(analysis.fit_kent, "unit"),
}


@settings
class AnalyzePart:
    """Which analysis."""

    what: str = option(
        default="success",
        metavar="NAME",
        help=f"{', '.join(ANALYSES)}; or one of the runs' own protocol, such as elites.",
    )
    thread: str | None = option(default=None, metavar="NAME", shown="all", help="Only this evolution.")
    csv: Path | None = option(default=None, metavar="FILE", shown="no file", help="Also write the table to this file.")


def analyze_runs(runs: Sequence[Path], what: str, thread: str | None, csv: Path | None) -> None:
    """Prints one analysis of runs, and writes it as CSV.

    Raises:
        UnknownNameError: No such analysis, or no such thread.
        RecordingError: Not a run, or the analysis needs what the runs do not hold.
    """
    name, recordings = what.replace("-", "_"), None
    if name not in ANALYSES:
        recordings = _opened(runs)
    known = ANALYSES if recordings is None else {**_of_protocols(recordings), **ANALYSES}
    if name not in known:
        raise UnknownNameError(f"what: no analysis named {what!r}.{closest(name, known)}")
    chosen = known[name]
    if thread is not None and chosen.of != "thread":
        raise InvalidArgumentError(f"thread: {name} is not asked of a single evolution; leave --thread out.")
    results = _results(recordings or _opened(runs), chosen, {} if thread is None else {"thread": thread})
    keys, frame = _stacked([_frame(result.drop_vars(chosen.without), run) for run, result in results.items()])
    if csv is not None:
        write_csv(csv, frame)
    _print(name, keys, frame, list(results.values()), chosen.best)
    if csv is not None:
        say(f"CSV:    {csv}")


def _of_protocols(recordings: Mapping[str, xr.Dataset]) -> dict[str, Analysis]:
    """Returns the analyses that the protocols of the runs have of their own."""
    found: dict[str, Analysis] = {}
    for run, recording in recordings.items():
        found |= protocol_of(experiment_of(recording), run).analyses
    return found


def _opened(runs: Sequence[Path]) -> dict[str, xr.Dataset]:
    """Opens the recordings, by the shortest ends of their paths that tell them apart."""
    whole = [path.resolve() for path in runs]
    if len(set(whole)) < len(whole):
        raise InvalidArgumentError("runs: expected different folders, got one of them twice.")
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return {"/".join(path.parts[-depth:]): open_recording(given) for path, given in zip(whole, runs, strict=True)}


def _results(recordings: Mapping[str, xr.Dataset], what: Analysis, given: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    """Returns the result of each run, or under "" that of all together."""
    options = {**what.options, **given}
    if what.of == "unit" and len(recordings) > 1:
        return {run: what.function(recording, **options) for run, recording in recordings.items()}
    whole = next(iter(recordings.values())) if len(recordings) == 1 else analysis.concat(recordings)
    return {"": what.function(whole, **options)}


def _frame(result: xr.Dataset, run: str) -> tuple[int, pd.DataFrame]:
    """Returns a result as rows, and how many of the first columns tell them apart.

    Columns are its dimensions, the coordinates along them, its variables, and last the reason.
    """
    if not result.dims:
        result = result.expand_dims("all")
    table = result.to_dataframe().reset_index()
    # A dimension without names of its own is no column; units are told apart by theirs.
    named = {"neuroid": "neuroid_id", "neuroid_b": "neuroid_id_b"}
    keys = [key for d in result.dims if (key := named.get(str(d), str(d))) in table.columns]
    keys = sorted(set(keys), key=list(dict.fromkeys([*map(str, result.dims), *keys])).index)
    coords = [str(c) for c in table.columns if c in result.coords and c not in keys and c != "reason"]
    frame = table[[*keys, *coords, *map(str, result.data_vars), "reason"]].astype(object)
    if not run:
        return len(keys), frame
    frame.insert(0, "run", run)
    return len(keys) + 1, frame


def _stacked(frames: Sequence[tuple[int, pd.DataFrame]]) -> tuple[int, pd.DataFrame]:
    """Returns frames under each other; what one of them lacks is empty."""
    columns = [*dict.fromkeys(c for _, frame in frames for c in frame.columns if c != "reason"), "reason"]
    same = [frame.reindex(columns=columns, fill_value="") for _, frame in frames]
    return frames[0][0], pd.concat(same, ignore_index=True)


def _missing(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _print(name: str, keys: int, frame: pd.DataFrame, results: Sequence[xr.Dataset], best: str) -> None:
    """Prints one table, best rows first, below it what is the same in all rows and why numbers are missing."""
    result = results[0]
    units = {str(c) for c, coord in result.coords.items() if coord.ndim and c not in result.dims}
    units -= {"neuroid_id", "neuroid_id_b", "unit"}  # the terminal shows these; the CSV file has them all
    settings = {str(c) for c, coord in result.coords.items() if coord.ndim == 0} - {"thread"}
    kept = [c for c in frame.columns if c not in units | settings | {"reason", "all"}]
    shown = frame[sorted(kept, key=lambda c: c not in ("run", "neuroid_id"))]
    if best in shown.columns:
        shown = shown.sort_values(best, ascending=False, kind="stable", na_position="last")
    if keys > 1:
        shown = _first_of_each(shown)
    shown = shown.head(ROWS)
    names, note = _titles(results)
    columns = [_WORDS.get(str(c), str(c).replace("_", " ")) for c in shown.columns]
    cells = [[names.get(text := _text(value), text) for value in row] for row in shown.to_numpy().tolist()]
    show_table(columns, cells, name, 1 if keys == 1 else 0)
    if len(frame) > len(shown):
        tell(f"the first {len(shown)} of {len(frame)} rows; all of them: --csv FILE")
    noted = [f"{c} {_text(result[c].item())}" for c in sorted(settings & set(frame.columns) - {"reason", "all"})]
    if said := [*([note] if note else []), *noted]:
        tell(", ".join(said), style="dim")
    for reason in dict.fromkeys(str(reason) for reason in frame["reason"] if reason):
        tell(f"–  {reason}")


def _first_of_each(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the first rows of each entry of the first column, in the order of entries, as many as fit."""
    key = frame.columns[0]
    order = {entry: place for place, entry in enumerate(dict.fromkeys(frame.sort_index()[key]))}
    few = frame.groupby(key, sort=False).head(max(3, ROWS // len(order)))
    return few.sort_values(key, key=lambda column: column.map(order), kind="stable")


def _titles(results: Sequence[xr.Dataset]) -> tuple[dict[str, str], str]:
    """Returns what people call the units of the results by their names in the data, and what all of them share."""
    ids, titles = [], []
    for result in results:
        if "neuroid_id" in result.coords:
            ids += list(map(str, np.atleast_1d(result["neuroid_id"].values)))
            titles += recorded_titles(result)
    short, note = shared(titles)
    return dict(zip(ids, short, strict=True)), note


def _text(value: Any) -> str:
    """Writes a cell as the terminal shows it, in four significant digits."""
    if _missing(value):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)
