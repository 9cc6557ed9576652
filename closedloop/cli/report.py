"""``closedloop report``: the HTML file (the tables on the terminal are those of `closedloop.cli.show`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedloop.cli.console import console, say
from closedloop.cli.options import Command


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of one or more runs, or of one sweep.")],
    out: Annotated[Path | None, typer.Option(help="The file, ending in .html.", show_default="RUN.html")] = None,
) -> None:
    """Write what was found into one HTML file, with figures, images, warnings, and how to repeat it."""
    from closedloop.report import write_report

    path = Path("report.html" if len(runs) != 1 else f"{runs[0].resolve().name}.html") if out is None else out
    with console.status("Writing the report …"):
        written = write_report(runs, path)
    size = written.stat().st_size / 1e6
    say(f"Report: {written}  ({size:.1f} MB, one file, opens without a network)")


COMMAND = Command(report)
