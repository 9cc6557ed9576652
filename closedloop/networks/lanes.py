"""How a batch goes over the cores: all of it through every layer at once, or a few entries at a time on each core.

A large batch's activations go through memory, layer by layer; those of two images stay in the caches of a core. Threads
that share the work of each layer must also wait for each other after each one. So where it is quicker, and gives the
same bits, every core takes images of its own. Then a batch of ten is as quick, image for image, as one of forty.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from closedloop.workers import Workers

#: Entries that one core takes at a time: what lies between two layers stays in its caches.
FEW = 2
#: How much longer it may take that each core takes entries of its own, to be done so: where something else keeps a core
#: for a while, threads that share each layer would all wait for it.
ALIKE = 1.05


class Engine(Protocol):
    """Runs a module on arrays.

    Attributes:
        name: "eager", "compile" or "onnx".
        runs_torch: Whether the module itself, or code of torch made from it, runs at each call, and must be kept from
            changing (see `closedloop.networks.modules.undisturbed`).
    """

    name: str
    runs_torch: bool

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turns inputs ``(n, …)`` float32 into outputs, joined along axis 1: ``(n, width, …)`` float32."""
        ...


@final
class InParts:
    """An engine that is given a few of its inputs at a time; they give what they give together, bit by bit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name: str = engine.name
        self.runs_torch: bool = engine.runs_torch

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs inputs ``(n, …)`` as `Engine` says, `FEW` at a time."""
        if len(inputs) <= FEW:
            return self._engine(inputs)
        return np.concatenate([self._engine(inputs[i : i + FEW]) for i in range(0, len(inputs), FEW)])


@final
class SideBySide:
    """An engine of which every core takes entries of its own; they give what they give together, bit by bit.

    Args:
        whole: The engine that uses all cores for one entry; it takes what is too little to be shared out.
        one: The same graph on one thread, which several may call at once.
        lanes: How many cores there are.
    """

    def __init__(self, whole: Engine, one: Engine, lanes: int) -> None:
        self._whole, self._part, self._lanes = whole, one, lanes
        self._pool: Workers | None = None
        self._process = os.getpid()
        self.name: str = whole.name
        self.runs_torch: bool = whole.runs_torch

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs inputs ``(n, …)`` as `Engine` says; each core takes the next few when it is ready."""
        if len(inputs) < self._lanes:
            return self._whole(inputs)
        if self._pool is None or self._process != os.getpid():  # a forked process has none of these threads
            self._pool, self._process = Workers(self._lanes - 1, "closedloop-lane"), os.getpid()
        parts = _cut(inputs, self._lanes)
        left, found = deque(range(len(parts))), dict[int, NDArray[np.float32]]()

        def work() -> None:
            while left:
                try:
                    i = left.popleft()
                except IndexError:  # another core took the last one
                    return
                try:
                    found[i] = self._part(parts[i])
                except BaseException:
                    left.clear()  # nobody begins another one in vain
                    raise

        others = [self._pool.submit(work) for _ in range(self._lanes - 1)]
        try:
            work()
        finally:
            wait(others)
        for other in others:
            other.result()
        return np.concatenate([found[i] for i in range(len(parts))])


def _cut(inputs: NDArray[np.float32], lanes: int) -> list[NDArray[np.float32]]:
    """Cuts a batch for some cores: `FEW` entries at a time, and the last ones singly, so that all end together."""
    singly = min(len(inputs), 2 * lanes + (len(inputs) - 2 * lanes) % FEW)
    several = len(inputs) - singly
    ends = [*range(FEW, several + 1, FEW), *range(several + 1, len(inputs))]
    return np.split(inputs, ends)


def quicker(engine: Engine, batch: NDArray[np.float32], threads: int, one: Callable[[], Engine] | None) -> Engine:
    """Returns the quicker way for a batch to go over the cores, of those that give the same bits.

    One thread is timed by what it takes of the processor itself, whatever else that does; several by the clock.

    Args:
        engine: What runs it, with all threads.
        batch: Inputs ``(n, …)``, at least two, on which it is timed.
        threads: How many compute.
        one: Makes the same engine with one thread, which several may call at once; None where there is none such.
    """
    if threads == 1:
        shared: Engine = InParts(engine)
    elif one is not None:
        shared = SideBySide(engine, one(), threads)
        batch = np.concatenate([batch] * -(-(threads + 1) // len(batch)))  # one for each core, and one more
    else:
        return engine
    odd, clock = batch[:-1], time.thread_time if threads == 1 else time.perf_counter
    if not np.array_equal(shared(odd), engine(odd), equal_nan=True):  # of which a last one stands alone
        return engine
    (few, quick), (whole, slow) = (_timed(clock, each, batch) for each in (shared, engine))
    return shared if quick < ALIKE * slow and np.array_equal(few, whole, equal_nan=True) else engine


def _timed(clock: Callable[[], float], engine: Engine, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Returns what an engine gives for a batch, and how long it takes; it has run before."""
    began = clock()
    return engine(batch), clock() - began
