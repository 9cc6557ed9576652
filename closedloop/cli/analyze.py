"""``closedloop analyze``: one analysis of one or several runs, as a table on the terminal and as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.options import Command


def analyze(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Folders of runs; evolutions of several are named RUN/THREAD."),
    ],
    given: Mapping[str, Any],
) -> None:
    """Analyze runs: one of the functions of closedloop.analysis as a table."""
    from closedloop.cli.analysis_tables import AnalyzePart, analyze_runs

    analyze_runs(runs, given.get("what", AnalyzePart.what), given.get("thread"), given.get("csv"))


COMMAND = Command(analyze, ("closedloop.cli.analysis_tables:AnalyzePart",))
