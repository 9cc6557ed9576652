"""Ends a run before its plan is used up, because somebody asked for it: after the generation under way, in good order.

Whoever wants a run to end puts a file into its folder, from any process. The process that writes the run looks for it
between two commits; the rest of the run is that of any stopping rule: selection and confirmation follow, and a run that
is killed on the way there goes on to the same end. The file is removed when the run is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.files import put_file
from closedloop.loop.protocol import protocol_name, protocol_of
from closedloop.recording.layout import END, POINTER, is_run, writing
from closedloop.recording.ownership import is_written
from closedloop.recording.places import is_packed
from closedloop.recording.reader import read_experiment, read_pointer
from closedloop.signatures import at_door

#: What the reason of a run begins with that was ended so.
ON_REQUEST = "ended on request"


@final
class EndRequest:
    """Whether somebody asked a run to end.

    Args:
        path: Its folder; None for a run in memory, which nobody else knows of.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = None if path is None else path / END

    def __call__(self) -> bool:
        """Tells whether it was asked for by now."""
        return self._file is not None and self._file.exists()


def ended_on_request(generation: int) -> str:
    """Returns the reason of a thread that was ended so, for the record.

    Args:
        generation: The last one that was shown.
    """
    return f"{ON_REQUEST} after generation {generation}"


def run_state(path: Path, pointer: Mapping[str, Any]) -> str:
    """Returns where a run stands: "running", "finished", "stopped" (on request) or "interrupted".

    Args:
        path: The run.
        pointer: What its ``COMMITTED.json`` holds; empty before the first commit.
    """
    if pointer.get("finished"):
        return "stopped" if ON_REQUEST in str(pointer.get("reason", "")) else "finished"
    return "running" if is_written(path) else "interrupted"


@at_door
def request_end(run: str | Path) -> None:
    """Asks the process that writes a run to end it after the generation under way; returns at once.

    Args:
        run: The run's folder.

    Raises:
        RecordingError: It is no run, it is over, nobody is writing it, or its folder cannot be written.
        InvalidArgumentError: Runs of its protocol follow a fixed plan.
    """
    path = Path(run)
    if is_packed(path) or not is_run(path):
        raise RecordingError(f"run: expected the folder of a run that is under way, got {path}.")
    if (path / POINTER).exists() and read_pointer(path)["finished"]:
        raise RecordingError(f"{path}: it has come to its end already; nothing was changed.")
    content = read_experiment(path)
    if not protocol_of(content, str(path)).ends:
        raise InvalidArgumentError(
            f"{path}: runs of {protocol_name(content)!r} follow a fixed plan, and cannot be ended early; "
            f"interrupt the process instead, and go on with it later: closedloop resume {path}"
        )
    if not is_written(path):
        raise RecordingError(f"{path}: no process is writing it now; go on with it first: closedloop resume {path}")
    with writing(path):
        put_file(path / END, b"")
