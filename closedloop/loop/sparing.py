"""The loop's own arithmetic on one core, so that it is not in its own way and not in that of the subject's engine.

Between two blocks an optimizer factors matrices of some hundred rows. The threads of a BLAS library wait for each other
by spinning, and so do those of a subject's engine for a while after their last image: on a busy computer, or one of few
cores, a factorization by two threads takes many times as long as by one. With one thread the sums have one order, too,
so that a run has the same bits on computers with other numbers of cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar, final

from closedloop.workers import Workers

Found = TypeVar("Found")


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs numpy's and scipy's linear algebra on one thread; then it is as before."""
    libraries = _libraries()
    if all(library.get_num_threads() in (None, 1) for library in libraries.lib_controllers):
        yield  # within another one; to ask costs a thousandth of what a limit does
    else:
        with libraries.limit(limits=1):
            yield


@cache
def _libraries() -> Any:
    """Finds the BLAS libraries: numpy's, and scipy's own, which must be loaded by then."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@final
class Beside:
    """A thread for what can be done on another core while the subject is shown images, where there is one."""

    def __init__(self) -> None:
        self._pool: Workers | None = None

    def begin(self, task: Callable[[], Found]) -> Callable[[], Found]:
        """Begins a piece of work, and returns a function that gives what it found, or raises what it raised.

        Args:
            task: The work. It changes nothing, looks at nothing that others change meanwhile, and takes no product of
                matrices: how many threads a BLAS library has is often a matter of the whole process. On a single core
                it is done when its result is asked for.
        """
        if _cores() == 1:
            return task
        if self._pool is None:
            self._pool = Workers(1, "closedloop-beside")
        return self._pool.submit(copy_context().run, task).result

    def end(self) -> None:
        """Waits for what is under way, and ends the thread."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
