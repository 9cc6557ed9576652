"""A course of jobs, one after another, that are known beforehand: how far it is, and what of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from closedloop.interfaces import State
from closedloop.loop.progress import begin_progress, end_progress, move_progress
from closedloop.recording.writer import Recording


class Jobs:
    """What courses of jobs share; a block is one job. Those that inherit have `layout`, `show` and `learn`.

    Args:
        jobs: What is to be done, in order.
        progress: Who is told how far it is.
    """

    reason = ""

    def __init__(self, jobs: Sequence[tuple[int, str]], progress: Any) -> None:
        self._jobs, self._progress = list(jobs), progress
        self._done = 0

    def begin(self, recording: Recording) -> None:
        """Tells whoever watches how far it is."""
        begin_progress(self._progress, self._done, len(self._jobs))

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, self._done, len(self._jobs))

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns how far it is: all else follows from seeds and files."""
        return {"done": self._done}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._done = int(state["done"])
