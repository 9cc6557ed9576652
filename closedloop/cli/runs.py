"""``closedloop runs``: a table of all runs in a folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from closedloop.cli.console import say, tell
from closedloop.cli.options import Command
from closedloop.loop.settings import option, settings

if TYPE_CHECKING:
    import pandas as pd

#: Columns that the terminal shows; the files have them all.
_SHOWN = ("path", "thread", "subject", "target", "optimizer", "seed", "state", "images", "evolved", "natural", "ratio")


@settings
class RunsPart:
    """Which runs, in which order."""

    words: str | None = option(
        default=None, metavar="TEXT", shown="all", help="Only rows that hold all of these words."
    )
    where: tuple[str, ...] = option(
        default=(),
        metavar="CONDITION",
        shown="all",
        help="Only rows such as 'subject=lite0', 'evolved>5', 'state!=running', 'path~pilot'; may be repeated.",
    )
    sort: str = option(default="path", metavar="COLUMN", help="Order of the rows; -COLUMN for the largest first.")
    group: tuple[str, ...] = option(
        default=(),
        metavar="COLUMN",
        shown="no groups",
        help="Medians of the rows that are alike in it; may be repeated.",
    )
    rows: int = option(default=40, least=1, help="Rows that the terminal shows; files have them all.")
    csv: Path | None = option(default=None, metavar="FILE", shown="no file", help="Also write the table to this file.")
    parquet: Path | None = option(
        default=None, metavar="FILE", shown="no file", help="Also write it to this file, by the package pyarrow."
    )


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of runs.")], given: Mapping[str, Any]
) -> None:
    """List all runs in a folder: what they were, where they stand, and what they found."""
    from closedloop.analysis.catalogue import Wanted, as_frame, found
    from closedloop.analysis.run_index import RunIndex
    from closedloop.errors import require

    plain: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in given.items()}
    asked = RunsPart(**plain)
    if asked.parquet is not None:
        require("pyarrow", "parquet", "--parquet")
    wanted = Wanted(asked.words or "", asked.where, asked.sort.removeprefix("-"), asked.sort.startswith("-"))
    with RunIndex(folder) as index:
        index.refresh()
        frame, failed = as_frame(found(index, wanted)[0]), index.failed
    table = _grouped(frame, asked.group) if asked.group else frame
    _print(table if asked.group else table[_columns(table)], asked.rows, len(set(frame["path"])))
    _say_failed(folder, failed)
    _write(table, asked.csv, asked.parquet)


COMMAND = Command(runs, (RunsPart,))


def _columns(frame: pd.DataFrame) -> list[str]:
    """Returns the columns that the terminal shows; not those in which nothing stands."""
    return [name for name in _SHOWN if name == "path" or (frame[name].notna() & (frame[name] != "")).any()]


def _grouped(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Returns one row for each group: how many rows it has, and the medians of their numbers."""
    from closedloop.analysis.catalogue import COLUMNS
    from closedloop.errors import UnknownNameError, closest

    for name in by:
        if name not in COLUMNS:
            raise UnknownNameError(f"group: a catalogue has no column {name!r:.60}.{closest(name, COLUMNS)}")
    numbers = [name for name in ("evolved", "natural", "ratio", "images") if name not in by]
    groups = frame.astype(dict.fromkeys(numbers, float)).groupby(list(by), dropna=False)
    medians = groups[numbers].median().rename(columns=lambda name: f"median {name}")
    medians.insert(0, "rows", groups.size())
    return medians.reset_index()


def _print(table: pd.DataFrame, most: int, count: int) -> None:
    from closedloop.cli.tables import show_table

    shown = table.head(most)
    show_table(list(map(str, shown.columns)), [[_text(v) for v in row] for row in shown.to_numpy().tolist()])
    more = f"; the first {most} of {len(table)} rows, all of them: --csv FILE" if len(table) > most else ""
    tell(f"{count:,} run{'s' * (count != 1)}{more}", style="dim")


def _say_failed(folder: Path, failed: Mapping[str, str]) -> None:
    """Says which runs of sweeps failed, in the whole folder, and why; also those that have no folder yet."""
    if not failed:
        return
    from closedloop.analysis.sweeps import is_sweep
    from closedloop.cli.sweep import say_reasons

    say(f"{len(failed):,} run{'s' * (len(failed) != 1)} of sweeps failed:")
    say_reasons({folder / path: why for path, why in failed.items()})
    if is_sweep(folder):
        say(f"Again:  {shlex.join(['closedloop', 'sweep', str(folder), '--retry'])}")


def _text(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(table: pd.DataFrame, csv: Path | None, parquet: Path | None) -> None:
    """Writes the files that were asked for."""
    from closedloop.cli.tables import write_csv
    from closedloop.files import complete

    if parquet is not None:
        with complete(parquet, replace=True, argument="parquet") as temporary:
            table.to_parquet(temporary, index=False)
        say(f"Parquet: {parquet}")
    if csv is not None:
        write_csv(csv, table)
        say(f"CSV:    {csv}")
