"""What becomes of a session when one of its threads fails: it ends, or the thread alone does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from closedloop.errors import ClosedLoopError, RecordingError, SubjectError
from closedloop.loop.thread import Evolution


@final
class Failing:
    """Keeps an error of one thread from ending the others, where the session is to go on without it.

    That is one of its optimizer, generator, objective or stopping rule. Errors of the subject and of the disk concern
    all threads, and so does that of the last thread.

    Args:
        evolutions: All threads.
        alone: Whether a thread ends alone.

    Attributes:
        alone: Likewise.
    """

    def __init__(self, evolutions: Sequence[Evolution], alone: bool) -> None:
        self._evolutions = evolutions
        self.alone: bool = alone

    @contextmanager
    def of(self, evolution: Evolution) -> Iterator[None]:
        """Notes an error within as the thread's failure, with a warning; raises it where it ends the session."""
        try:
            yield
        except (SubjectError, RecordingError):
            raise
        except ClosedLoopError as error:
            if evolution.failed:
                return
            if not self.alone or all(e.failed for e in self._evolutions if e is not evolution):
                raise
            evolution.failed = str(error).splitlines()[0]
            warnings.warn(
                f"thread {evolution.thread.name!r} failed after {evolution.images} images, and the others go on: "
                f"{evolution.failed}",
                UserWarning,
                stacklevel=3,
            )

    def reasons(self) -> dict[str, str]:
        """Returns why threads failed, by their names, as it is recorded."""
        return {e.thread.name: f"failed: {e.failed}" for e in self._evolutions if e.failed}
