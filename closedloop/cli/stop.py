"""``closedloop stop``: end a run that another process writes, in good order."""

from __future__ import annotations

from closedloop.cli.console import say
from closedloop.cli.options import Command, RunArgument


def stop(run: RunArgument) -> None:
    """End a run after the generation under way; its re-tests follow, as after any stopping rule."""
    from closedloop.loop.ending import request_end

    request_end(run)
    say(f"Asked {run} to end after the generation under way.")


COMMAND = Command(stop)
