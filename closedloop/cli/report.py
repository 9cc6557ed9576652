"""``closedloop report``: the HTML file (the tables on the terminal are those of `closedloop.cli.show`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from closedloop.cli.console import console
from closedloop.report import write_report


def report_runs(runs: Sequence[Path], out: Path | None) -> None:
    """Writes the report, and says where it is."""
    path = Path("report.html" if len(runs) != 1 else f"{runs[0].resolve().name}.html") if out is None else out
    with console.status("Writing the report …"):
        written = write_report(runs, path)
    size = written.stat().st_size / 1e6
    console.print(f"Report: {written}  ({size:.1f} MB, one file, opens without a network)", highlight=False)
