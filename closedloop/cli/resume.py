"""``closedloop resume``: go on with a run."""

from __future__ import annotations

from pathlib import Path

from closedloop.analysis.ascents import ASCEND
from closedloop.analysis.elites import ELITES
from closedloop.cli.ascend import Steps
from closedloop.cli.console import console, present_bar
from closedloop.cli.evolve import Bar
from closedloop.cli.show import show_run
from closedloop.protocols import resume as resume_run
from closedloop.recording.reader import open_recording, read_experiment


def run_resume(run: Path) -> None:
    """``closedloop resume``."""
    kind = read_experiment(run).get("protocol")
    if kind in ("present", "landscape"):
        with present_bar() as progress:
            resume_run(run, progress=progress)
        console.print(f"Recorded {open_recording(run).sizes['presentation']} presentations in {run}.")
    elif kind == ELITES:
        with present_bar() as progress:
            resume_run(run, progress=progress)
        show_run(run, None)
    else:
        resume_run(run, observers=[Steps() if kind == ASCEND else Bar()])
        show_run(run, None)
