"""What a rig says, read strictly: units of its welcome, and answers, matched by the names of trials.

Both sides read with it: the experiment what came, the rig what it is about to write down. A number that is none, a unit
that is not there or a trial of another block is an error, and never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import is_number
from closedloop.errors import RigError, SubjectError
from closedloop.interfaces import FloatArray, Units
from closedloop.presentations import ONSET_SOURCES, QUALITIES, STATUSES, Answers, Spikes
from closedloop.rigs.messages import encoded

#: What a rig says of each unit that stands elsewhere in a recording, or changes from block to block.
_NOT_COLUMNS = ("id", *QUALITIES)
#: What a trial has of a rig that gives spikes, and of one that gives counts.
_SPIKES, _COUNTS = frozenset(("spike_s", "spike_unit")), frozenset(("counts",))
#: The largest number that is believed: squares of such are numbers, too. The longest time from an onset, in seconds.
_LARGEST, _LONGEST_S = 1e15, 86_400.0


def check_welcome(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a welcome if all that is used of it is of the right type.

    Raises:
        RigError: Something is not ("malformed").
    """
    try:
        encoded(header)
    except ValueError as error:
        raise RigError(f"welcome: expected plain text and finite numbers, got others ({error}).", "malformed") from None
    for name in ("max_images", "max_bytes"):
        value = header.get(name, 1)
        if type(value) is not int or value < 1:
            raise RigError(f"welcome: {name}: expected a whole number of at least 1, got {value!r:.60}.", "malformed")
    for name, kind in {"rig_id": str, "encoding": str, "screen": dict, "clock": dict}.items():
        value = header.get(name)
        if value is not None and not isinstance(value, kind):
            raise RigError(f"welcome: {name}: expected {kind.__name__}, got {value!r:.60}.", "malformed")
    return header


def units_of_welcome(welcome: Mapping[str, Any]) -> Units:
    """Returns the units of a rig: their names, and as columns what is said of every one of them in one value.

    Raises:
        SubjectError: There are none, or they have no names.
    """
    said = welcome.get("units")
    if not isinstance(said, list) or not said or not all(isinstance(unit, dict) and "id" in unit for unit in said):
        raise SubjectError("rig: expected units with an id each in its welcome, got none; look at the rig's settings.")
    if wrong := [unit["id"] for unit in said if not (isinstance(unit["id"], str) or is_number(unit["id"]))]:
        raise SubjectError(f"rig: expected a text or a number as id of each unit in its welcome, got {wrong[0]!r:.60}.")
    names = [name for name in said[0] if name not in _NOT_COLUMNS and all(_is_plain(unit.get(name)) for unit in said)]
    return Units(
        tuple(str(unit["id"]) for unit in said), {name: tuple(unit[name] for unit in said) for name in sorted(names)}
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def gives_spikes(welcome: Mapping[str, Any]) -> bool | None:
    """Tells whether a rig gives spikes, and not counts, by its welcome; None where that does not say it."""
    return {"spikes": True, "counts": False}.get(str(welcome.get("gives")))


def tells_spikes(answer: Mapping[str, Any]) -> bool | None:
    """Tells whether an answer holds spikes, and not counts; None where it holds neither, for instance as all is lost.

    Args:
        answer: One that `read_answer` has read.
    """
    names = {name for entry in _list(answer, "trials") for name in entry}
    return True if _SPIKES & names else False if _COUNTS & names else None


def read_answer(
    answer: Mapping[str, Any],
    trials: Sequence[str],
    units: Sequence[str],
    window_s: Sequence[float],
    bins_s: Sequence[float] | None = None,
    fires: bool | None = None,
) -> Answers:
    """Returns what a rig answered, matched by the names of the trials; one that it does not name was not shown.

    Args:
        answer: The header of its message.
        trials: Names of the trials, in the order in which they were asked for.
        units: Names of the units that it records.
        window_s: Where spikes are counted.
        bins_s: In which bins.
        fires: Whether it gives spikes, where that is known (`gives_spikes`, `tells_spikes`).

    Raises:
        SubjectError: It names an unknown trial, or one twice; an entry is none; or there are counts of a rig that gives
            spikes, or the reverse.
    """
    known: dict[str, Mapping[str, Any]] = {}
    for entry in _list(answer, "trials"):
        name = entry.get("trial") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in trials:
            raise SubjectError(f"rig: expected a trial of this block, such as {trials[0]!r}, got {name!r:.80}.")
        if name in known:
            raise SubjectError(f"rig: expected each trial once, got {name!r} twice.")
        known[name] = _filled_in(entry)
    entries = [known.get(name, {"status": "not_shown"}) for name in trials]
    status = [entry.get("status", "ok") for entry in entries]
    if any(word not in STATUSES for word in status):
        wrong = next(word for word in status if word not in STATUSES)
        raise SubjectError(f"rig: expected a status of {', '.join(STATUSES)}, got {wrong!r:.80}.")
    fired = fires if fires is not None else tells_spikes(answer) is not False
    _check_kind(entries, fired)
    onset = [entry.get("onset_s") for entry in entries]
    return Answers(
        status=status,
        responses=None if fired else _counts(entries, len(units), bins_s),
        spikes=_spikes(entries, len(units)) if fired else None,
        trial_id=list(trials),
        onset_s=np.array([np.nan if at is None else _finite("onset_s", at) for at in onset]),
        onset_source=[_source(entry) if at is not None else "" for entry, at in zip(entries, onset, strict=True)],
        attempt=[_attempt(entry.get("attempt", answer.get("attempt", 1))) for entry in entries],
        window_s=(float(window_s[0]), float(window_s[1])),
        bins_s=None if bins_s is None else (float(bins_s[0]), float(bins_s[1]), int(bins_s[2])),
        quality=_quality(answer.get("quality"), units),
    )


def _check_kind(entries: Sequence[Mapping[str, Any]], fires: bool) -> None:
    """Raises SubjectError where an entry has counts and the rig gives spikes, or the reverse: they would be dropped.

    So it does where a good trial has neither, which is no trial without a spike.
    """
    for entry in entries:
        missing = sorted((_SPIKES if fires else _COUNTS) - entry.keys())
        if missing and entry.get("status", "ok") == "ok" and not (_COUNTS if fires else _SPIKES) & entry.keys():
            none = ", empty where there was no spike" if fires else ""
            raise SubjectError(
                f"rig: expected {' and '.join(missing)} of trial {entry.get('trial')!r:.60}, whose status is ok{none}; "
                "got none. Give what it brought, or the status that it was lost by."
            )
        if wrong := sorted((_COUNTS if fires else _SPIKES) & entry.keys()):
            raise SubjectError(
                f"rig: expected {'spike_s and spike_unit' if fires else 'counts'} of trial {entry.get('trial')!r:.60}, "
                f"as its welcome says or its answers had before, got {wrong[0]}; a rig gives spikes or counts."
            )


def _list(answer: Mapping[str, Any], name: str) -> list[Any]:
    found = answer.get(name)
    if isinstance(found, dict):  # MATLAB's jsonencode makes one of a single entry
        return [found]
    if not isinstance(found, list):
        raise SubjectError(f"rig: expected a list of {name} in its answer, got {found!r:.80}.")
    return found


def _filled_in(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns an entry without empty lists: MATLAB's jsonencode makes them of fields of a struct that were left open.

    A trial without a spike has such lists, and one that is good has counts.
    """
    needed = _SPIKES | (_COUNTS if entry.get("status", "ok") == "ok" else set())
    return {name: value for name, value in entry.items() if value != [] or name in needed}


def _finite(name: str, value: Any) -> float:
    """Returns a finite number."""
    if not is_number(value) or not -_LARGEST <= value <= _LARGEST:
        limits = f"from {-_LARGEST:g} to {_LARGEST:g}"
        raise SubjectError(f"rig: {name}: expected a finite number {limits} in its answer, got {value!r:.60}.")
    return float(value)


def _source(entry: Mapping[str, Any]) -> str:
    source = entry.get("onset_source", "nominal")
    if source not in ONSET_SOURCES:
        raise SubjectError(f"rig: expected an onset_source of {', '.join(ONSET_SOURCES)}, got {source!r:.60}.")
    return str(source)


def _attempt(value: Any) -> int:
    if not is_number(value) or not 1 <= value <= 2**31 - 1 or float(value) % 1:
        raise SubjectError(f"rig: attempt: expected a whole number of at least 1 in its answer, got {value!r:.60}.")
    return int(value)


def _several(values: Any) -> list[Any]:
    """Returns values as a list: MATLAB's jsonencode makes a bare number of a list of one."""
    return values if isinstance(values, list) else [values]


def _array(entry: Mapping[str, Any], name: str, values: Any) -> NDArray[np.float64]:
    """Returns numbers, NaN for those that are null; texts, yes and no, and lists of other lengths are none."""
    try:
        found = np.asarray(_several(values))
        if found.dtype.kind == "O":
            found = np.asarray(_without_nulls(_several(values)))
        if _holds_yes_or_no(_several(values)):  # among numbers they would be some
            found = np.array("")
    except (TypeError, ValueError, OverflowError, RecursionError):
        found = np.array("")
    if found.dtype.kind not in "iuf":
        raise SubjectError(
            f"rig: expected numbers as {name} of trial {entry.get('trial')!r:.60} in its answer, got {values!r:.80}."
        )
    return found.astype(np.float64)


def _holds_yes_or_no(values: list[Any]) -> bool:
    """Tells whether a list, or one of lists, holds true or false."""
    kinds = set(map(type, values))
    return bool in kinds or (list in kinds and any(_holds_yes_or_no(v) for v in values if isinstance(v, list)))


def _without_nulls(values: list[Any]) -> list[Any]:
    """Returns a list, or one of lists, with NaN where something is null."""
    return [_without_nulls(v) if isinstance(v, list) else np.nan if v is None else v for v in values]


def _spikes(entries: Sequence[Mapping[str, Any]], units: int) -> Spikes:
    """Returns the spikes of all trials, in their order in time."""
    times, columns, number = [], [], []
    for entry in entries:
        time_s = _array(entry, "spike_s", entry.get("spike_s", []))
        unit = _array(entry, "spike_unit", entry.get("spike_unit", []))
        if time_s.shape != unit.shape or time_s.ndim != 1:
            raise SubjectError(
                f"rig: trial {entry.get('trial')!r}: expected a unit for each of {len(time_s)} spikes, got {len(unit)}."
            )
        near = np.abs(time_s) <= _LONGEST_S
        if not near.all() or not ((unit >= 0) & (unit < units) & (unit == np.rint(unit))).all():
            raise SubjectError(
                f"rig: trial {entry.get('trial')!r}: expected spikes in seconds from the onset, within a day of it, of "
                f"units from 0 to {units - 1}."
            )
        order = np.argsort(time_s, kind="stable")
        times.append(time_s[order])
        columns.append(unit[order])
        number.append(len(time_s))
    offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
    return Spikes(np.concatenate(times), np.concatenate(columns).astype(np.int32), offsets)


def _counts(entries: Sequence[Mapping[str, Any]], units: int, bins_s: Sequence[float] | None) -> FloatArray:
    """Returns counts ``(n, units[, time])``, NaN where a trial has none."""
    shape = (units,) if bins_s is None else (units, int(bins_s[2]))
    found = np.full((len(entries), *shape), np.nan)
    for row, entry in enumerate(entries):
        if "counts" in entry:
            counts = _array(entry, "counts", entry["counts"])
            if counts.shape != shape:
                raise SubjectError(
                    f"rig: expected counts of shape {shape}, for trial {entry.get('trial')!r}, got shape "
                    f"{counts.shape}."
                )
            if (np.abs(counts) > _LARGEST).any():
                raise SubjectError(
                    f"rig: expected counts from {-_LARGEST:g} to {_LARGEST:g}, for trial {entry.get('trial')!r}, got "
                    f"{counts[np.abs(counts) > _LARGEST][0]:g}."
                )
            found[row] = counts
    return found


def _quality(said: Any, units: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Returns what a rig says of its units after this block; NaN where it says nothing."""
    known = said if isinstance(said, dict) else {}
    found = {name: np.full(len(units), np.nan) for name in QUALITIES}
    for place, unit in enumerate(units):
        entry = known.get(unit)
        for name, value in entry.items() if isinstance(entry, dict) else ():
            if name in QUALITIES and value is not None:
                found[name][place] = _finite(name, value)
    return found
