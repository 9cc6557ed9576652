"""What a rig answers: checked at the door, put in the order in which it happened, and made columns of a recording.

A subject that is `Presenting` is asked for a block, and says of every presentation what became of it. Its recording has
further columns (`PRESENTED`), the spikes, and the quality of each unit after each block. That of any other subject has
none of these, and nothing here is called for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_numbers
from closedloop.checks import check_responses
from closedloop.errors import InvalidArgumentError, SubjectError
from closedloop.interfaces import Presenting, Subject
from closedloop.presentations import ONSET_SOURCES, QUALITIES, STATUSES, Answers, Asked, Spikes
from closedloop.recording.layout import SPIKE_NAMES, Layout, Rows, TimeBins

#: Coordinates of each presentation at a rig: name -> (dtype, value of an unwritten row).
PRESENTED: dict[str, tuple[str, Any]] = {
    "trial_id": ("str", ""),
    "status": ("str", ""),
    "onset_source": ("str", ""),
    "attempt": ("int32", 0),
    "day": ("str", ""),
    "session": ("str", ""),
    "block_number": ("int32", -1),
}


def today() -> str:
    """Returns the date of today, such as "2026-03-14"."""
    return date.today().isoformat()


def session_name() -> str:
    """Returns the name of a session that begins now: the moment, such as "2026-03-14T09:30:05"."""
    return datetime.now().isoformat(timespec="seconds")


def extended(layout: Layout, subject: Subject) -> Layout:
    """Returns the shape of a recording with what a rig says of each presentation; as it is for any other subject.

    Raises:
        InvalidArgumentError: A column of the units has a name that is needed.
    """
    if not isinstance(subject, Presenting):
        return layout
    if taken := sorted(set(SPIKE_NAMES) & set(layout.units.coords)):
        raise InvalidArgumentError(
            f"units: their column {taken[0]!r} has the name of something recorded of a rig; give it another name."
        )
    return replace(layout, coords={**layout.coords, **PRESENTED})


def with_answers(rows: Rows, told: Answers | None, subject: Subject, block: int, session: str) -> Rows:
    """Returns the rows of a block with what a rig said of them; as they are for any other subject.

    Args:
        rows: What the course makes of it.
        told: What the rig said of its presentations, in their order; None where nothing was asked of it by a presenter.
        subject: Who was shown it.
        block: Number of the block, from 0.
        session: Name of the session under way.
    """
    if not isinstance(subject, Presenting):
        return rows
    n = len(rows)
    known = {
        "day": np.array([today()] * n, object),
        "session": np.array([session] * n, object),
        "block_number": np.full(n, block, np.int32),
    }
    if told is None:  # a course that shows nothing by a presenter
        blank = {
            name: np.full(n, fill, object if dtype == "str" else dtype) for name, (dtype, fill) in PRESENTED.items()
        }
        unknown = {name: np.full(rows.responses.shape[1], np.nan) for name in QUALITIES}
        return replace(rows, coords={**rows.coords, **blank, **known}, quality=unknown)
    own = {name: np.asarray(getattr(told, name)) for name in ("trial_id", "status", "onset_source", "attempt")}
    onset, shown = np.asarray(told.onset_s), own["status"] != "not_shown"
    if np.isnan(onset).all() and shown.any():  # a rig that measures none
        onset = np.where(shown, rows.coords["onset_s"], np.nan)
        own["onset_source"] = np.where(shown, "nominal", "").astype(object)
    edges = told.edges_s if told.bins_s is not None and told.spikes is not None else None
    return replace(
        rows,
        coords={**rows.coords, **own, **known, "onset_s": onset},
        spikes=told.spikes,
        quality={name: np.asarray(told.quality[name]) for name in QUALITIES},
        bins=None if edges is None else TimeBins(edges[:-1], edges[1:]),
    )


def joined(parts: Sequence[Answers], subject: str) -> Answers:
    """Returns one answer to several askings of a block, those that showed lost presentations again last.

    Raises:
        SubjectError: Some have spikes and others none.
    """
    first = parts[0]
    spikes = [part.spikes for part in parts if part.spikes is not None]
    if 0 < len(spikes) < len(parts):
        raise SubjectError(f"subject {subject!r}: expected spikes in every answer, as before, or in none.")
    columns: dict[str, Any] = {
        name: np.concatenate([np.asarray(getattr(part, name)) for part in parts])
        for name in ("status", "trial_id", "onset_s", "onset_source", "attempt")
    }
    known = {name: [part.quality[name] for part in parts] for name in QUALITIES}
    quality = {name: _last_known(columns) for name, columns in known.items()}
    return replace(first, responses=None, spikes=Spikes.join(spikes) if spikes else None, quality=quality, **columns)


def _last_known(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns the last value of each unit that is known, ``(units,)``."""
    found = columns[0].copy()
    for column in columns[1:]:
        found = np.where(np.isnan(column), found, column)
    return found


def as_happened(answers: Answers) -> NDArray[np.int64]:
    """Returns the order in which presentations happened, by their onsets ``(n,)``.

    One that was not shown stays behind the one before it.
    """
    onset = np.asarray(answers.onset_s, np.float64)
    known = ~np.isnan(onset)
    if not known.any():
        return np.arange(len(onset))
    last = np.maximum.accumulate(np.where(known, np.arange(len(onset)), -1))
    return np.argsort(np.where(last >= 0, onset[last], -np.inf), kind="stable")


def taken(answers: Answers, which: NDArray[np.int64]) -> Answers:
    """Returns the answers to these presentations, in this order."""
    columns: dict[str, Any] = {
        name: np.asarray(getattr(answers, name))[which]
        for name in ("status", "responses", "trial_id", "onset_s", "onset_source", "attempt")
    }
    return replace(answers, spikes=None if answers.spikes is None else answers.spikes.taken(which), **columns)


def check_answers(given: Any, asked: Asked, units: int, subject: str, neuroids: Sequence[str]) -> Answers:
    """Returns what a rig answered, whole and as arrays, with responses that are NaN where a presentation was not "ok".

    Args:
        given: What `Presenting.present` returned.
        asked: What it was asked for.
        units: How many units it records.
        subject: Its name.
        neuroids: Names of the units.

    Raises:
        SubjectError: It is no `Answers`, has another number of presentations, an unknown status, two presentations of
            one name, spikes of no unit, or neither responses nor spikes.
    """
    whose, n = f"subject {subject!r}", len(asked)
    if not isinstance(given, Answers):
        raise SubjectError(f"{whose}: expected Answers from present(), got {type(given).__name__}.")
    status = _column_of(whose, "status", given.status, n, "", STATUSES)
    trial_id = _column_of(whose, "trial_id", given.trial_id, n, "")
    named = [name for name in trial_id.tolist() if name]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise SubjectError(f"{whose}: expected different trial ids in a block, got {twice!r} twice.")
    spikes = None if given.spikes is None else _check_spikes(whose, given.spikes, n, units)
    responses = given.responses
    if responses is None:
        if spikes is None:
            raise SubjectError(f"{whose}: expected responses or spikes, got neither.")
        counted = spikes.counts(_check_edges(whose, given), units)
        responses = counted[..., 0] if given.bins_s is None else counted
    checked = check_responses(responses, n, units, subject, [asked.ids[i] for i in asked.order], neuroids)
    if not np.issubdtype(checked.dtype, np.floating):
        checked = checked.astype(np.float64)
    checked[status != "ok"] = np.nan
    onset = as_numbers(f"{whose}: onset_s", given.onset_s if len(given.onset_s) else np.full(n, np.nan), lost=True)
    attempt = as_numbers(f"{whose}: attempt", given.attempt if len(given.attempt) else np.ones(n))
    if onset.shape != (n,) or attempt.shape != (n,):
        raise SubjectError(f"{whose}: expected onset_s and attempt of {n} presentations, got {onset.shape}.")
    return replace(
        given,
        status=status,
        responses=checked,
        spikes=spikes,
        trial_id=trial_id,
        onset_s=onset.astype(np.float64),
        onset_source=_column_of(whose, "onset_source", given.onset_source, n, "", ("", *ONSET_SOURCES)),
        attempt=attempt.astype(np.int32),
        quality=_check_quality(whose, given.quality, units),
    )


def _column_of(
    whose: str, name: str, given: Sequence[str] | NDArray[Any], n: int, empty: str, known: Sequence[str] = ()
) -> NDArray[Any]:
    """Returns a column of texts ``(n,)``; where none were given all are empty."""
    column = np.array(list(given) if len(given) else [empty] * n, dtype=object)
    if column.shape != (n,):
        raise SubjectError(f"{whose}: {name}: expected one for each of {n} presentations, got {len(column)}.")
    wrong = next((text for text in column.tolist() if not isinstance(text, str) or (known and text not in known)), None)
    if wrong is not None:
        raise SubjectError(f"{whose}: {name}: expected {' or '.join(map(repr, known or ['a text']))}, got {wrong!r}.")
    return column


def _check_edges(whose: str, given: Answers) -> NDArray[np.float64]:
    """Returns the edges in seconds between which spikes are counted."""
    edges = given.edges_s
    if len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
        raise SubjectError(f"{whose}: window_s, bins_s: expected rising times in seconds, got {edges.tolist()}.")
    return edges


def _check_spikes(whose: str, spikes: Spikes, n: int, units: int) -> Spikes:
    """Returns the spikes of `n` presentations in their types, if they are such."""
    time_s = as_numbers(f"{whose}: spikes: time_s", spikes.time_s, error=SubjectError).astype(np.float64)
    unit, offsets = np.asarray(spikes.unit), np.asarray(spikes.offsets)
    if offsets.shape != (n + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(time_s):
        raise SubjectError(f"{whose}: spikes: expected offsets of {n} presentations from 0 to {len(time_s)}.")
    if unit.shape != time_s.shape or (len(unit) and not (unit.min() >= 0 and unit.max() < units)):
        raise SubjectError(f"{whose}: spikes: expected a unit from 0 to {units - 1} for each of {len(time_s)} spikes.")
    if not np.isfinite(time_s).all():
        raise SubjectError(f"{whose}: spikes: expected finite times, got NaN or infinity.")
    return Spikes(time_s, unit.astype(np.int32), offsets.astype(np.int64))


def _check_quality(whose: str, given: Mapping[str, Any], units: int) -> dict[str, NDArray[np.float64]]:
    """Returns what is known of each unit, of every one of `QUALITIES`; empty where nothing is."""
    for name, column in given.items():
        if name not in QUALITIES or np.shape(column) != (units,):
            raise SubjectError(
                f"{whose}: quality: expected {', '.join(QUALITIES)}, each of {units} units, got {name!r} of shape "
                f"{np.shape(column)}."
            )
    return {name: np.asarray(given.get(name, np.full(units, np.nan)), np.float64) for name in QUALITIES}
