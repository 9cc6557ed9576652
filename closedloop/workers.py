"""Threads that work beside others, for as long as any thread of the program goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, final


@final
class Workers(ThreadPoolExecutor):
    """A pool of threads; what it cannot be given any more is done at once, by whoever gives it.

    When the last line of a script is done, Python ends all pools, and then waits for the threads that the script began.
    What still computes in one of these goes on, without a thread beside it.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Has a thread call a function, and returns what becomes its result."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:  # it has ended, or the system gives no further thread
            done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised when the result is asked for, as by any pool
            done.set_exception(error)
        return done
