"""Many runs in one Dataset, and the evolutions that a Dataset holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.summary import thread_objectives
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError, closest
from closedloop.objectives import parse_objective
from closedloop.recording.evolutions import EVOLUTION_RUN, EVOLUTION_THREAD, RUN, evolution_coords
from closedloop.recording.layout import BLOCK, EVOLUTION, SPIKE
from closedloop.recording.lean import ALL, COMMON, COMMON_ROW, OWN, as_lean, is_lean, responses_of
from closedloop.signatures import at_door

#: The attribute that names what was a scalar of each run.
SCALARS = "run_scalars"
#: From the Dataset of one run, a thread's name and its objective to the result for that thread.
Measure = Callable[[xr.Dataset, str, str], xr.Dataset]


@at_door
def concat(recordings: Sequence[xr.Dataset] | Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Joins many runs to one Dataset, in which each presentation still knows its run.

    What was a scalar of a run (subject, seed …) becomes a coordinate on ``presentation``. The evolutions of all runs
    follow each other along ``evolution``, called "RUN/THREAD", with the coordinates `evolution_run` and
    `evolution_thread`. Codes of different length are padded with NaN. Units are joined by `neuroid_id`: NaN where a run
    did not record a unit; objectives are rewritten to the joined columns. Runs that were opened with dask chunks stay
    lazy; others are loaded.

    Args:
        recordings: What `closedloop.open_recording` or a protocol returned; a mapping gives the runs names, otherwise
            they are called "0", "1" and so on.

    Returns:
        The Dataset, with the further coordinate `run` on ``presentation``. Every function of `closedloop.analysis`
        takes it; evolutions are then called "RUN/THREAD".

    Raises:
        InvalidArgumentError: Something else, no recordings, or such that differ in their time axis.
    """
    if isinstance(recordings, str) or not isinstance(recordings, (Mapping, Sequence)):
        raise InvalidArgumentError(
            f"recordings: expected a list or a mapping of recordings, got {type(recordings).__name__}."
        )
    named = recordings if isinstance(recordings, Mapping) else {str(i): r for i, r in enumerate(recordings)}
    if not named:
        raise InvalidArgumentError("recordings: expected at least one recording, got none.")
    parts = {f"{name}/{run}" if run else name: p for name, r in named.items() for run, p in runs(r)}
    if any(is_lean(part) for part in parts.values()):
        parts = {name: as_lean(part) for name, part in parts.items()}
    times = {name: part.sizes.get("time_bin") for name, part in parts.items()}
    if len(set(times.values())) > 1:
        raise InvalidArgumentError(
            f"recordings: expected the same time bins in all, got {times}; average over time_bin first."
        )
    units = _joined_units(list(parts.values()))
    latent = max(part.sizes.get("latent", 0) for part in parts.values())
    scalars = sorted({str(n) for part in parts.values() for n, c in part.coords.items() if c.ndim == 0})
    empty = _missing_values(list(parts.values()))
    joined = units["neuroid_id"][1].tolist()
    aligned = [_aligned(part, name, joined, latent, empty) for name, part in parts.items()]
    shared = _shared(aligned)
    whole = xr.concat(
        [part.drop_vars(ALL, errors="ignore") for part in aligned],
        "presentation",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="drop",
    )
    return (
        whole.assign(shared)
        .assign_coords({**units, **_joined_evolutions(parts, joined)})
        .assign_attrs({SCALARS: " ".join(scalars)})
    )


def _joined_evolutions(parts: Mapping[str, xr.Dataset], units: Sequence[str]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Returns all runs' coordinates on ``evolution``, "" where one lacks it; objectives name the joined units."""
    rows = []
    for run, part in parts.items():
        columns = [units.index(unit) for unit in part["neuroid_id"].values.tolist()]
        for row in _evolution_rows(part):
            thread = row.pop(EVOLUTION)
            if "objective" in row:
                row["objective"] = _moved(row["objective"], columns)
            rows.append({EVOLUTION: f"{run}/{thread}", EVOLUTION_RUN: run, EVOLUTION_THREAD: thread, **row})
    names = dict.fromkeys(name for row in rows for name in row)
    return evolution_coords({name: [row.get(name, "") for row in rows] for name in names})


def _evolution_rows(part: xr.Dataset) -> list[dict[str, str]]:
    """Returns what one run says of each of its evolutions."""
    columns = {str(n): c.values.tolist() for n, c in part.coords.items() if c.dims == (EVOLUTION,)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _joined_units(parts: Sequence[xr.Dataset]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Returns the coordinates on ``neuroid`` of all units, each once, in the order in which they come."""
    rows: dict[str, dict[str, Any]] = {}
    for part in parts:
        columns = {str(n): c.values for n, c in part.coords.items() if c.dims == ("neuroid",)}
        for i, unit in enumerate(part["neuroid_id"].values.tolist()):
            rows.setdefault(unit, {}).update({n: v[i] for n, v in columns.items()})
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {name: ("neuroid", _column([row.get(name) for row in rows.values()])) for name in names}


def _column(values: list[Any]) -> NDArray[Any]:
    """Returns values as an array; those that are missing are "" among texts and NaN among numbers."""
    text = any(isinstance(v, str) for v in values)
    filled = [("" if text else np.nan) if v is None else v for v in values]
    return np.array(filled, dtype=object) if text else np.array(filled)


def _missing_values(parts: Sequence[xr.Dataset]) -> dict[str, Any]:
    """Returns what stands in for a scalar or a presentations' coordinate a run lacks: "" for text, else NaN."""
    return {
        str(name): "" if coord.dtype.kind in "OUT" else np.nan
        for part in parts
        for name, coord in part.coords.items()
        if coord.dims in ((), ("presentation",))
    }


def without_spikes(recording: xr.Dataset) -> xr.Dataset:
    """Returns a recording with a row for each presentation alone: without spikes and what is known block by block."""
    apart = [dim for dim in (SPIKE, BLOCK) if dim in recording.dims]
    return recording.drop_dims(apart).drop_vars(["spike_start", "spike_count"], errors="ignore")


def _aligned(part: xr.Dataset, run: str, joined: Sequence[str], latent: int, empty: Mapping[str, Any]) -> xr.Dataset:
    """Returns one run over the joined units, with codes of the joined length, and its scalars on each presentation."""
    own = part["neuroid_id"].values.tolist()
    place = {joined.index(unit): column for column, unit in enumerate(own)}
    column = np.array([place.get(i, -1) for i in range(len(joined))])
    part = _with_codes(without_spikes(part), latent)
    scalars = {str(n): c.item() for n, c in part.coords.items() if c.ndim == 0}
    name = responses_of(part.variables)
    responses = part[name].isel(neuroid=np.maximum(column, 0)).where(xr.DataArray(column >= 0, dims="neuroid"))
    n = part.sizes["presentation"]
    lacking = {name: value for name, value in empty.items() if name not in part.coords}
    spread = {name: ("presentation", _column([v] * n)) for name, v in {**lacking, **scalars, RUN: run}.items()}
    kept = part.drop_vars([name, *(c for c in part.coords if part[c].dims in ((), ("neuroid",), (EVOLUTION,)))])
    return kept.assign({name: responses.drop_vars(list(responses.coords))}).assign_coords(spread)


def _shared(parts: Sequence[xr.Dataset]) -> dict[str, xr.DataArray]:
    """Returns the responses of all units that lean parts share, one after the other; and numbers their rows anew."""
    if not is_lean(parts[0]):
        return {}
    begin = 0
    for part in parts:
        rows = part[COMMON_ROW].values
        part[COMMON_ROW] = ("presentation", np.where(rows >= 0, rows + begin, -1))
        begin += part.sizes[COMMON]
    return {ALL: xr.concat([part[ALL] for part in parts], COMMON, coords="minimal", compat="override")}


def _with_codes(part: xr.Dataset, latent: int) -> xr.Dataset:
    """Returns the run with codes of a given length, NaN at their end or altogether."""
    if latent == 0 or part.sizes.get("latent", 0) == latent:
        return part
    if "latent_code" not in part:
        empty = np.full((part.sizes["presentation"], latent), np.nan)
        return part.assign(latent_code=(("presentation", "latent"), empty))
    codes = part["latent_code"].pad(latent=(0, latent - part.sizes["latent"]), constant_values=np.nan)
    return part.drop_vars("latent_code").assign(latent_code=codes)


def _moved(objective: str, columns: Sequence[int]) -> str:
    """Returns an objective whose column i has become ``columns[i]``; as it is where it cannot be read."""
    try:
        parsed = parse_objective(objective)
    except InvalidArgumentError:
        return objective
    if list(columns) == list(range(len(columns))):
        return objective
    return parsed.moved(columns).describe()


@at_door
def runs(recording: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """Returns the runs that `concat` joined, by name and each with its scalars; a single run has the name "".

    Raises:
        RecordingError: It is not a recording.
    """
    held = set(map(str, recording.variables)) if isinstance(recording, xr.Dataset) else set()
    if not isinstance(recording, xr.Dataset) or "presentation" not in recording.dims or not held & {"responses", OWN}:
        raise RecordingError(
            "recording: expected what closedloop.open_recording returns, with responses (presentation, neuroid), got "
            f"{contents(recording)}."
        )
    if RUN not in recording.coords:
        return [("", recording)]
    column = recording[RUN].values
    return [(str(name), _single(recording, str(name))) for name in dict.fromkeys(column.tolist())]


def contents(thing: Any) -> str:
    """Names what was given in a recording's place: a Dataset's variables, or a type."""
    return str(sorted(map(str, thing.variables))) if isinstance(thing, xr.Dataset) else type(thing).__name__


def check_recording(recording: Any, *needed: str) -> None:
    """Raises unless it is a Dataset of `closedloop.open_recording`.

    Args:
        recording: What was given.
        needed: Names that it must have.

    Raises:
        RecordingError: It is something else, or lacks one; the error says what came.
    """
    held = set(map(str, recording.variables)) if isinstance(recording, xr.Dataset) else set()
    needed = tuple(OWN if name == "responses" and OWN in held else name for name in needed)
    if not {"kind", *needed} <= held:
        raise RecordingError(
            f"recording: expected what closedloop.open_recording returns, with {', '.join(('kind', *needed))}, got "
            f"{contents(recording)}."
        )


def _single(recording: xr.Dataset, run: str) -> xr.Dataset:
    """Returns one of the runs, as it was but for units and length of codes."""
    part = recording.isel(presentation=np.flatnonzero(recording[RUN].values == run))
    names = [name for name in str(recording.attrs.get(SCALARS, "")).split() if name in part.coords]
    values = {name: part[name].values[0] for name in names}
    part = part.drop_vars([RUN, *names]).assign_coords({n: v for n, v in values.items() if v == v and v != ""})
    if EVOLUTION not in part.coords:
        return part
    own = np.flatnonzero(part[EVOLUTION_RUN].values == run)
    known = {str(n): c.values[own] for n, c in part.coords.items() if c.dims == (EVOLUTION,)}
    known[EVOLUTION] = known.pop(EVOLUTION_THREAD)
    known.pop(EVOLUTION_RUN)
    said = {name: (EVOLUTION, values) for name, values in known.items() if any(values)}
    return part.drop_dims(EVOLUTION).assign_coords(said)


def evolutions(recording: xr.Dataset) -> list[tuple[str, xr.Dataset, str, str]]:
    """Returns each evolution's label ("RUN/THREAD", or "THREAD" in a single run), run, thread and objective.

    Raises:
        RecordingError: The recording holds no evolution.
    """
    parts = dict(runs(recording))
    evolving = {run: part for run, part in parts.items() if "objective" in part.coords} or parts
    return [
        (f"{run}/{name}" if run else name, part, name, objective)
        for run, part in evolving.items()
        for name, objective in thread_objectives(part)
    ]


def by_thread(recording: xr.Dataset, thread: str | None, measure: Measure) -> xr.Dataset:
    """Measures each evolution, along the dimension ``thread``; a single named one without that dimension.

    Raises:
        UnknownNameError: No such thread.
        RecordingError: The recording holds no evolution.
    """
    found = evolutions(recording)
    labels = [label for label, *_ in found]
    if thread is not None and thread not in labels:
        raise UnknownNameError(f"thread: no thread {thread!r} in the recording.{closest(thread, labels)}")
    chosen = [f for f in found if thread in (None, f[0])]
    results = [measure(part, name, objective).assign_coords(thread=label) for label, part, name, objective in chosen]
    if thread is not None:
        return results[0]
    reasons = np.array([str(r["reason"].item()) for r in results], dtype=object)
    whole = xr.concat(
        [r.drop_vars("reason") for r in results],
        "thread",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="override",
    )
    return whole.assign_coords(reason=("thread", reasons))
