"""A table of all runs in a folder: what they were, where they stand, and what they found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from closedloop.analysis.run_index import RUN, RUN_STATES, THREAD, RunIndex
from closedloop.errors import InvalidArgumentError, closest
from closedloop.signatures import at_door

#: Columns of the catalogue, the most asked for first.
COLUMNS = (
    *("id", "path", "thread", "protocol", "subject", "unit", "target", "generator", "optimizer", "objective", "seed"),
    *("state", "images", "evolved", "evolved_sem", "natural", "natural_sem", "ratio", "ratio_sem", "version", "when"),
    *("layer", "evolved_n", "natural_n", "evolved_image", "natural_image", "noisy_maximum", "curse", "generations"),
    *("lost", "presentations", "elapsed_s", "reason", "problem"),
)
#: The types of all columns of the index, in SQL.
_KINDS = {**RUN, **THREAD}


@at_door
def catalogue(folder: str | Path) -> pd.DataFrame:
    """Returns all runs in a folder and the folders below it, a row for each thread.

    Finished runs are read from their ``SUMMARY.json``, without opening their stores; others are opened once. What is
    known is kept in the user's cache, and only runs that changed are looked at again. Links are not followed.

    Args:
        folder: The folder of runs; or one run.

    Returns:
        A row for each thread, and one for a run that evolved nothing, with: ``id`` (safe in addresses, of the path),
        ``path`` (relative to `folder`), ``thread``, ``protocol``, ``subject``, ``unit``, ``target`` (in words),
        ``generator``, ``optimizer``, ``objective``, ``seed``; ``state`` ("running", "finished", "stopped" for ended on
        request, "interrupted", or "failed" in a sweep, with ``reason``); ``images``; ``evolved`` and ``natural``, means
        of fresh re-tests, with ``_sem`` and ``_n``; ``ratio`` and ``ratio_sem``; ``version`` of closedloop; ``when``,
        the last commit (UTC); what else `closedloop.summarize` says; and ``problem``, why a run cannot be read. What is
        not known is NaN or "".

    Raises:
        InvalidArgumentError: There is no such folder.
    """
    with RunIndex(folder) as index:
        index.refresh()
        return as_frame(found(index, Wanted())[0])


@dataclass(frozen=True)
class Wanted:
    """Which rows of a catalogue, and in which order.

    Attributes:
        words: Each must stand somewhere in a row's texts, whatever the case.
        where: Conditions such as ``"subject=lite0"``, ``"evolved>5"``, ``"state!=running"`` or ``"path~pilot"``.
        sort: A column.
        descending: Whether the largest comes first; what is not known comes last anyway.
        limit: At most so many rows; None for all.
        offset: Rows of the order that are left out before.

    Raises:
        InvalidArgumentError: No such column, or no condition.
    """

    words: str = ""
    where: Sequence[str] = ()
    sort: str = "path"
    descending: bool = False
    limit: int | None = None
    offset: int = 0

    def conditions(self) -> tuple[str, list[Any]]:
        """Returns the rows' conditions in SQL, and the values that stand in it as question marks."""
        parts = [_parsed(text) for text in self.where]
        parts += [_holding(word.lower()) for word in self.words.split()]
        return " AND ".join(["1", *(part for part, _ in parts)]), [value for _, value in parts]

    def order(self, backwards: bool = False) -> str:
        """Returns the order in SQL; rows that are alike in it stay in that in which they were found.

        Args:
            backwards: Whether it is that from the last row to the first.
        """
        column, down = _column("sort", self.sort), self.descending != backwards
        way, last, ties = "DESC" if down else "ASC", "FIRST" if backwards else "LAST", "DESC" if backwards else "ASC"
        # Of numbers only NULL is nothing, and so an index of the column has them in this order; of texts "" is, too.
        # Every run has its id, its path and a state.
        may_be_empty = _KINDS.get(self.sort, "REAL") == "TEXT" and self.sort not in ("id", "path", "state")
        nothing = f"coalesce({column}, '') = '' {ties}, " if may_be_empty else ""
        return f"{nothing}{column} {way} NULLS {last}, runs.number {ties}, place {ties}"


#: The rows that are looked through: a run for each of its threads, and once where it has none.
_JOINED = "FROM runs LEFT JOIN threads ON threads.run = runs.number"


def found(index: RunIndex, wanted: Wanted) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of an index that are wanted, and how many there are without `limit` and `offset`.

    Raises:
        InvalidArgumentError: No such column, or no condition.
    """
    condition, values = wanted.conditions()
    columns = ", ".join(f"{_column('columns', name)} AS {name}" for name in COLUMNS if name != "when")
    limit, whole, count = wanted.limit, wanted.limit is None and not wanted.offset, 0
    if not whole:
        count = index.rows(f"SELECT count(*) AS n {_JOINED} WHERE {condition}", values)[0]["n"]
        limit = max(0, count - wanted.offset) if limit is None else max(0, min(limit, count - wanted.offset))
    # A page in the second half is counted from the end: what lies before a page is ordered, what lies behind it is not.
    behind = count - wanted.offset - (limit or 0)
    backwards = 0 <= behind < wanted.offset
    # The order is made of numbers of rows alone: whole rows are many times as long.
    order = wanted.order(backwards)
    chosen = f"SELECT runs.number AS run, threads.rowid AS row {_JOINED} WHERE {condition} ORDER BY {order}"
    rows = index.rows(
        f"SELECT {columns}, runs.when_s AS when_s FROM ({chosen} LIMIT ? OFFSET ?) AS chosen "
        "JOIN runs ON runs.number = chosen.run LEFT JOIN threads ON threads.rowid = chosen.row "
        f"ORDER BY {wanted.order()}",
        [*values, -1 if limit is None else limit, behind if backwards else wanted.offset],
    )
    return rows, len(rows) if whole else count


def _column(argument: str, name: str) -> str:
    """Returns a column's name in SQL; only names that are known get there."""
    if name not in COLUMNS:
        raise InvalidArgumentError(f"{argument}: a catalogue has no column {name!r:.60}.{closest(name, COLUMNS)}")
    if name == "when":
        return "runs.when_s"
    return f"runs.{name}" if name in RUN else f"threads.{name}"


def _holding(word: str) -> tuple[str, Any]:
    """Returns the condition that a row holds a word, in SQL."""
    holds = "instr(coalesce(threads.said, runs.run_said), ?) > 0"
    return (f"(runs.state = '{word}' OR {holds})" if word in RUN_STATES else holds), word


def _parsed(text: str) -> tuple[str, Any]:
    """Returns a condition in SQL, and the value that it compares with."""
    match = re.fullmatch(r"\s*(\w+)\s*(!=|<=|>=|=|<|>|~)\s*(.*)", text, re.DOTALL)
    if match is None:
        raise InvalidArgumentError(
            f"where: expected a condition such as 'subject=lite0' or 'evolved>5', with =, !=, <, <=, >, >= or ~ "
            f"(holds), got {text!r:.80}."
        )
    name, operator, value = match.groups()
    column = _column("where", name)
    if operator == "~":
        return f"instr(lower(coalesce({column}, '')), ?) > 0", value.lower()
    if _KINDS.get(name, "REAL") == "TEXT":
        return f"coalesce({column}, '') {operator} ?", value
    try:
        return f"{column} {operator} ?", _number(name, value)
    except ValueError:
        raise InvalidArgumentError(f"where: expected a number behind {name}{operator}, got {value!r:.60}.") from None


def _number(name: str, value: str) -> float:
    """Returns the number in a condition; of ``when`` seconds since 1970 of a date."""
    if name != "when":
        return float(value)
    at = datetime.fromisoformat(value)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def as_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns rows as a table with the columns of a catalogue, in their types."""
    frame = pd.DataFrame(list(rows), columns=["when_s", *COLUMNS])
    frame["when"] = pd.to_datetime(frame.pop("when_s").astype(float), unit="s", utc=True)
    for name in COLUMNS:
        if _KINDS.get(name) == "TEXT":
            frame[name] = frame[name].fillna("").astype(object)
        elif name in ("images", "evolved_n", "natural_n", "generations", "lost", "presentations"):
            frame[name] = frame[name].astype("Int64")
        elif _KINDS.get(name) == "REAL":
            frame[name] = frame[name].astype(float)
    return frame
