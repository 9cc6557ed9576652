"""The loop's own arithmetic on one core, so that it is not in its own way and not in that of the subject's engine.

Between two blocks an optimizer factors matrices of some hundred rows. The threads of a BLAS library wait for each other
by spinning, and so do those of a subject's engine for a while after their last image: on a busy computer, or one of few
cores, a factorization by two threads takes many times as long as by one. With one thread the sums have one order, too,
so that a run has the same bits on computers with other numbers of cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs numpy's and scipy's linear algebra on one thread; then it is as before."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> Any:
    """Finds the BLAS libraries: numpy's, and scipy's own, which must be loaded by then."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
