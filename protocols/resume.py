"""Go on with a run that was killed, failed, or filled the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from closedloop.interfaces import Generator, Subject
from closedloop.loop.blocks import Observer
from closedloop.loop.progress import Progress
from closedloop.loop.protocol import Handed, protocol_of
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Thread
from closedloop.recipes import as_recorded
from closedloop.recording.reader import read_experiment
from closedloop.signatures import at_door


@at_door
def resume(
    run: str | Path,
    *,
    subject: Subject | None = None,
    threads: Sequence[Thread] | None = None,
    generator: Generator | None = None,
    stop: Sequence[StoppingRule] | None = None,
    observers: Sequence[Observer] = (),
    progress: Progress = True,
) -> xr.Dataset:
    """Goes on where the last commit left off; the result is the one that an uninterrupted run gives.

    Args:
        run: The run's folder.
        subject: Needed where the run's subject was a Python object without a name. A stateful one is put back to where
            the last commit left it; before the first commit it must be as it was when the run began.
        threads: Likewise for its generators and optimizers, freshly built as for the run.
        generator: Likewise for the generator of a landscape, of an ascent or of elites.
        stop: Likewise for stopping rules of one's own.
        observers: Watch the session.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or, for a run of
            `present`, `landscape`, `compare` or `evolve_elites`, a function: called with what is done and of all.

    Returns:
        The recording; of a finished run at once. Of a run of `evolve_elites`, its elites.

    Raises:
        RecordingError: Not a run, or another process is writing it.
        UnknownNameError: The run's protocol is not installed.
        InvalidArgumentError: Something that the run used cannot be loaded by name and was not handed over.
    """
    content = as_recorded(read_experiment(run))
    handed = Handed(subject, threads, generator, stop, observers, progress)
    return protocol_of(content, str(run)).resume(Path(run), content, handed)
