"""The loop's own arithmetic on one core, so that it is not in its own way and not in that of the subject's engine.

Between two blocks an optimizer factors matrices of some hundred rows. The threads of a BLAS library wait for each other
by spinning, and so do those of a subject's engine for a while after their last image: on a busy computer, or one of few
cores, a factorization by two threads takes many times as long as by one. With one thread the sums have one order, too,
so that a run has the same bits on computers with other numbers of cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any, Generic, TypeVar, final

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
class Beside(Generic[Found]):
    """A small piece of numpy's work, done on another core while what stands within goes on, where there is one.

    Both sides have one thread for linear algebra, so the numbers do not depend on which is ready first. Of some
    libraries that is a limit of the whole process, and of others one of each thread.

    Args:
        task: The work; it looks at nothing that what stands within changes.
    """

    def __init__(self, task: Callable[[], Found]) -> None:
        self._task = task
        self._pool: ThreadPoolExecutor | None = None
        self._done: Future[Found] | None = None
        self._limit = ExitStack()

    def __enter__(self) -> Beside[Found]:
        self._limit.enter_context(one_thread())
        if _cores() > 1:
            self._pool = ThreadPoolExecutor(1)
            self._done = self._pool.submit(copy_context().run, self._alone)
        return self

    def __exit__(self, *_: object) -> None:
        with self._limit:
            if self._pool is not None:
                self._pool.shutdown()

    def result(self) -> Found:
        """Returns what the work found, or raises what it raised; behind what stands within."""
        return self._alone() if self._done is None else self._done.result()

    def _alone(self) -> Found:
        with one_thread():
            return self._task()


def _cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
