"""The desk at which a model is asked: one call at a time, the newest of a lane first, and no tab waits for another's.

A model is asked by one thread of its own, so that its calls never meet and the server answers everything else
meanwhile. A lane is what one tab wants of one kind, such as the activations that it shows: a newer request takes the
place of an older one that waits. Lanes take turns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, final

from closedloop.errors import ClosedLoopError

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
#: Threads in which a model computes now.
_COMPUTING: set[threading.Thread] = set()


class SupersededError(ClosedLoopError):
    """A newer request of the same lane came before this one was begun."""

    #: Its status over HTTP.
    status = 409

    def __init__(self) -> None:
        super().__init__("superseded")


class ModelFailedError(ClosedLoopError):
    """A subject or generator raised an error of Python or of another package.

    Args:
        error: What it raised.
    """

    #: Its status over HTTP.
    status = 422

    def __init__(self, error: BaseException) -> None:
        said = " ".join(str(error).split())[:300]
        super().__init__(
            f"model: it failed with {type(error).__name__}{f' ({said})' if said else ''}; choose another layer or "
            "input, or mend the model."
        )


@dataclass(frozen=True)
class _Call:
    """What is to be called, and who waits for it where."""

    do: Callable[[], Any]
    future: asyncio.Future[Any] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def answer(self, result: Any, error: ClosedLoopError | None) -> None:
        """Hands the result to the one who waits; nobody may wait any more."""
        if self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:  # its loop was closed meanwhile
            return

    def _settle(self, result: Any, error: ClosedLoopError | None) -> None:
        if self.future is None or self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


@final
class Desk:
    """One worker thread, which is started when it is first needed and never keeps the program from ending."""

    def __init__(self) -> None:
        self._waiting: dict[object, _Call] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    async def run(self, lane: object, do: Callable[[], T]) -> T:
        """Calls a function in the worker's thread, and returns what it returns.

        Args:
            lane: A newer call of the same lane takes the place of one that still waits.
            do: What is called, without arguments.

        Raises:
            SupersededError: A newer one came before this one was begun.
            ModelFailedError: It raised no error of ours, whatever else.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        older = self._add(lane, _Call(do, future, loop))
        if older is not None:
            older.answer(None, SupersededError())
        return await future

    def clear(self, lane: object) -> None:
        """Takes a call that waits in a lane away, for a newer one was answered without the model."""
        with self._changed:
            older = self._waiting.pop(lane, None)
        if older is not None:
            older.answer(None, SupersededError())

    def later(self, do: Callable[[], Any]) -> None:
        """Calls a function in the worker's thread some time; nobody is told what becomes of it."""
        self._add(object(), _Call(do))

    def _add(self, lane: object, call: _Call) -> _Call | None:
        """Has a call wait for its turn; returns the one whose place it takes."""
        with self._changed:
            older = self._waiting.get(lane)
            self._waiting[lane] = call  # it keeps the older one's turn
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="closedloop desk", daemon=True)
                self._thread.start()
            self._changed.notify()
        return older

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                call = self._waiting.pop(next(iter(self._waiting)))
            if call.future is not None and call.future.cancelled():
                continue
            _COMPUTING.add(threading.current_thread())
            try:
                call.answer(*_called(call.do))
            finally:
                _COMPUTING.discard(threading.current_thread())


def computing() -> list[threading.Thread]:
    """Returns the threads in which a model computes now; Python cannot end while they do, and its libraries abort."""
    return list(_COMPUTING)


def _called(do: Callable[[], T]) -> tuple[T | None, ClosedLoopError | None]:
    """Calls a function; returns what it returns, or the error that whoever waits is told."""
    try:
        return do(), None
    except ClosedLoopError as error:
        return None, error
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, also what would end the server
        _LOG.debug("A call of the model failed.", exc_info=True)
        failed = ModelFailedError(error)
        failed.__cause__ = error
        return None, failed
