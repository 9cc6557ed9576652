"""``closedloop resume``: go on with a run."""

from __future__ import annotations

from pathlib import Path

from closedloop.cli.console import present_bar
from closedloop.cli.evolve import Bar
from closedloop.cli.show import show_run
from closedloop.protocols import resume as resume_run


def run_resume(run: Path) -> None:
    """Goes on with a run of any protocol, with the bar that suits it, and shows what it found."""
    with present_bar() as progress:
        resume_run(run, observers=[Bar()], progress=progress)
    show_run(run)
