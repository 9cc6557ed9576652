"""``closedloop resume``: go on with a run."""

from __future__ import annotations

from closedloop.cli.console import Meter
from closedloop.cli.options import Command, RunArgument


def resume(run: RunArgument) -> None:
    """Go on with a run that was killed or failed; the result is that of an uninterrupted run."""
    from closedloop.cli.evolve import Bar
    from closedloop.cli.show import show_run
    from closedloop.protocols import resume as go_on

    with Meter("going on") as meter:
        go_on(run, observers=[Bar()], progress=meter)
    show_run(run)


COMMAND = Command(resume)
