"""Tables on the terminal: headings give way before rows are broken, and what all rows share is said once below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from closedloop.cli.console import console, tell
from closedloop.files import complete

if TYPE_CHECKING:
    import pandas as pd

#: Entries that may become columns of a table that would be too wide.
FEW = 24


def drawn(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Returns a table as the terminal draws it: the first column to the left, the others to the right.

    Where it is too wide, headings are broken at spaces; only then cells are.
    """
    heads = list(columns) if width_of(columns, rows) <= console.width else folded(columns, rows)
    whole = width_of(heads, rows) <= console.width
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for i, head in enumerate(heads):
        table.add_column(escape(head), justify="right" if i else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def width_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Returns how wide a table is if no cell is broken; headings may have several lines."""
    cells = ([*head.split("\n"), *own] for head, *own in zip(columns, *rows, strict=True))
    return sum(max(map(len, column)) + 2 for column in cells)  # what the frame of a column takes


def folded(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns headings in as many lines as make each no wider than its cells, or than its longest word."""
    return [_fold(head, own) for head, *own in zip(columns, *rows, strict=True)]


def _fold(head: str, cells: Sequence[str]) -> str:
    width = max(map(len, [*cells, *head.split(" "), " "]))
    return "\n".join(line for part in head.split("\n") for line in textwrap.wrap(part, width, break_on_hyphens=False))


def without_constants(
    columns: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1
) -> tuple[list[str], list[list[str]], str]:
    """Returns a table without the columns that are the same in all rows, and what these say, in words.

    Args:
        columns: Their names.
        rows: One text for each column; below three rows all columns stay.
        keys: The first so many columns tell rows apart, and stay.
    """
    same = [i for i in range(keys, len(columns)) if len(rows) >= 3 and len({row[i] for row in rows}) == 1]
    kept = [i for i in range(len(columns)) if i not in same]
    said = ", ".join(f"{columns[i]} {rows[0][i]}" for i in same)
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows], said


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", keys: int = 1) -> None:
    """Prints a row for each entry, or where that is too wide a column for each; below it what all of them share.

    Args:
        columns: Their names; underscores are said as spaces.
        rows: One text for each column.
        title: Above it.
        keys: The first so many columns tell rows apart, and stay.
    """
    heads, cells, said = without_constants([c.replace("_", " ") for c in columns], rows, keys)
    if title:
        tell(title, style="bold")
    if width_of(folded(heads, cells), cells) <= console.width or len(cells) > FEW:
        console.print(drawn(heads, cells))
    else:
        _show_turned(heads, cells)
    if said:
        tell(f"in all rows: {said}", style="dim")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table as CSV, without the numbers of its rows; the file appears complete or not at all."""
    with complete(path, replace=True, argument="csv") as temporary:
        temporary.write_bytes(frame.to_csv(index=False, lineterminator="\n").encode())


def _show_turned(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a column for each entry, as many as fit beside each other."""
    group: list[Sequence[str]] = []
    for i, row in enumerate(rows):
        group.append(row)
        if i + 1 == len(rows) or _beside(names, *group, rows[i + 1]) > console.width:
            heads, *turned = zip(names, *group, strict=True)
            console.print(drawn(heads, turned))
            group = []


def _beside(*columns: Sequence[str]) -> int:
    """Returns how wide a table of these columns is."""
    heads, *rows = zip(*columns, strict=True)
    return width_of(heads, rows)
