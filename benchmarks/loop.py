"""How much of the bare engine's speed the closed loop keeps, where the rest goes, and what a fast engine gains.

``default_over_engine``: the command that people run, ``closedloop evolve`` of one unit (native images at the subject's
224 pixels, ``auto``, references, naturalness, written to disk). Images per second of its evolution, all presentations
counted, divided by those of generator and subject called with nothing else, at the best of some batches.
``profile``: where a second of that evolution goes, on the clock, in shares; ``others_cpu`` is the share of the
processor's time that is neither the subject's nor the generator's.
``loop_over_engine``: the same as the first for an evolution strategy with Fourier images in generations of 40.
``engine_over_eager``: that session on the chosen engine, divided by the session on eager torch.
All run alternately, several times; the ratios are medians over the rounds, with their range.

    python benchmarks/loop.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from closedloop import Session, Thread, files, load_optimizer
from closedloop.cli.building import DEFAULT_UNIT
from closedloop.generators import Fourier
from closedloop.loop import rows as stored
from closedloop.loop import schedule
from closedloop.recipes import matched_generator
from closedloop.recording import writer
from closedloop.subjects import load_subject

POPULATION = 40
#: Batches at which the bare engine is timed; the best counts.
BATCHES = (12, 40, 96)


class Clock:
    """Times the generations of an evolution: from the end of the first one to the end of the last."""

    def __init__(self) -> None:
        self.shown, self.seconds = 0, 0.0
        self.each: list[float] = []
        self._before: float | None = None

    def begin(self, session: Session) -> None:
        """Nothing to do."""

    def generation(self, generation: Any) -> None:
        """Counts a generation of the evolution."""
        now = time.perf_counter()
        if generation.phase == "evolve":
            if self._before is not None:
                self.shown += len(generation.shown.stimulus)
                self.seconds += now - self._before
                self.each.append(now - self._before)
            self._before = now

    def end(self, session: Session) -> None:
        """Nothing to do."""

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.shown / self.seconds


def loop_rate(subject: Any, generator: Any, optimizer: str, generations: int) -> float:
    """Images per second of a session that is written to disk."""
    clock = Clock()
    strategy = load_optimizer(optimizer, generator.space, seed=0, population=POPULATION)
    with tempfile.TemporaryDirectory() as folder:
        Session(
            subject, [Thread(generator, strategy)], images=POPULATION * generations, retest_candidates=0,
            save=Path(folder) / "run", observers=[clock],
        ).run()  # fmt: skip
    return clock.rate


def bare_rate(subject: Any, generator: Any, batch: int, batches: int) -> float:
    """Images per second of generator and subject alone."""
    rng = np.random.default_rng(0)
    codes = [generator.space.sample(batch, rng) for _ in range(batches + 1)]
    subject.record(generator(codes[0]))
    start = time.perf_counter()
    for code in codes[1:]:
        subject.record(generator(code))
    return batch * batches / (time.perf_counter() - start)


def rates_by_batch(subject: Any, generator: Any) -> dict[int, float]:
    """Images per second of generator and subject alone, for each of `BATCHES`."""
    return {batch: bare_rate(subject, generator, batch, max(1, 96 // batch)) for batch in BATCHES}


def best_rate(subject: Any, generator: Any) -> float:
    """Images per second of generator and subject alone, at the best of some batches."""
    return max(rates_by_batch(subject, generator).values())


# The command that people run --------------------------------------------------------------------------------------


class Spans:
    """Where time goes: seconds on the clock and of the processor of each part, without those of parts within it.

    What is done in threads beside the loop costs the processor, and the clock only while the loop waits for it.
    """

    def __init__(self) -> None:
        self.clock: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = (0.0, 0.0)
        self._loop, self._beside, self._others = 0, threading.local(), 0.0

    def begin(self) -> None:
        """Forgets what was; from now on what no part claims is the loop's own."""
        self.clock.clear()
        self.cpu.clear()
        self._loop = threading.get_ident()
        self._others = 0.0
        self._open, self._since = ["loop"], (time.perf_counter(), time.process_time())

    def _turn(self) -> None:
        """Counts the time since the last turn for the part that is under way."""
        now = time.perf_counter(), time.process_time()
        others, self._others = self._others, 0.0
        if self._open:
            self.clock[self._open[-1]] += now[0] - self._since[0]
            self.cpu[self._open[-1]] += now[1] - self._since[1] - others
        self._since = now

    def count(self) -> None:
        """Counts the time up to now."""
        self._turn()

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed as a part of this name."""

        def timed(*arguments: Any, **options: Any) -> Any:
            if not self._open:
                return function(*arguments, **options)
            if threading.get_ident() != self._loop:
                return self._timed_beside(name, partial(function, *arguments, **options))
            self._turn()
            self._open.append(name)
            try:
                return function(*arguments, **options)
            finally:
                self._turn()
                self._open.pop()

        return timed

    def _timed_beside(self, name: str, function: Callable[[], Any]) -> Any:
        """Counts what a function costs the processor in a thread beside the loop, without parts within it."""
        outer, began = getattr(self._beside, "within", 0.0), time.thread_time()
        self._beside.within = 0.0
        try:
            return function()
        finally:
            whole = time.thread_time() - began
            own = whole - self._beside.within
            self.cpu[name] += own
            self._others += own
            self._beside.within = outer + whole

    @contextmanager
    def watching(self, subject: Any, generator: Any, optimizer: Any) -> Iterator[None]:
        """Times the parts of a session, while it lasts."""
        kinds = {"subject": (subject, "record"), "generator": (generator, "__call__")}
        parts = [(name, type(part), method) for name, (part, method) in kinds.items()]
        parts += [("optimizer", type(optimizer), method) for method in ("ask", "tell", "state")]
        parts += [("naturalness", stored, "presentation_coords"), ("naturalness", stored.SessionRows, "look")]
        parts += [("8 bits, sizes", schedule, "quantize")]
        parts += [
            ("disk", writer.Recording, "append"),
            ("state", writer, "pack_state"),
            ("PNG", writer, "encode_image"),
            ("waits for the disk", files, "_await"),
        ]
        with ExitStack() as stack:
            for name, owner, attribute in parts:
                stack.enter_context(patch.object(owner, attribute, self.of(name, getattr(owner, attribute))))
            yield


class Watch(Clock):
    """Begins to count when the first generation of the evolution is over, as the clock does."""

    def __init__(self, spans: Spans) -> None:
        super().__init__()
        self._spans, self.total = spans, (0.0, 0.0)
        self.parts: dict[str, tuple[float, float]] = {}

    def generation(self, generation: Any) -> None:
        """Begins anew after the first generation; and keeps what was counted up to this one."""
        first = self.shown == 0 and self._before is None
        super().generation(generation)
        if generation.phase != "evolve":
            return
        if first:
            self._spans.begin()
        self._spans.count()
        names = {*self._spans.clock, *self._spans.cpu}
        self.parts = {name: (self._spans.clock[name], self._spans.cpu[name]) for name in sorted(names)}


def default_run(subject: Any, generator: Any, seed: int, images: int) -> Watch:
    """Evolves one unit as the command does, and says where the time of its evolution went."""
    optimizer = load_optimizer("auto", generator.space, seed=seed)
    spans = Spans()
    watch = Watch(spans)
    with tempfile.TemporaryDirectory() as folder, spans.watching(subject, generator, optimizer):
        Session(
            subject, [Thread(generator, optimizer)], references="bundled", images=images, retest_candidates=0,
            save=Path(folder) / "run", observers=[watch], progress=False, seed=seed,
        ).run()  # fmt: skip
    return watch


def default_over_engine(rounds: int, images: int) -> dict[str, Any]:
    """The command that people run over the bare engine, and where its time goes."""
    subject = load_subject("lite0", units=[int(DEFAULT_UNIT)])
    generator = matched_generator({"name": "native"}, subject)
    default_run(subject, generator, 0, 40)  # warm
    kept, rates, parts = [], [], defaultdict[str, list[tuple[float, float]]](list)
    by_batch = defaultdict[int, list[float]](list)
    for number in range(rounds):
        sides = [rates_by_batch(subject, generator)]
        watch = default_run(subject, generator, 100 + number, images)
        sides.append(rates_by_batch(subject, generator))  # on both sides, for a machine that slows down
        before, after = (max(side.values()) for side in sides)
        bare = (before + after) / 2
        for batch in BATCHES:
            by_batch[batch] += [side[batch] for side in sides]
        kept.append(watch.rate / bare)
        rates.append(bare)
        for name, spent in watch.parts.items():
            parts[name].append(spent)
        slow, usual = max(watch.each), statistics.median(watch.each)  # one slow disk or neighbour makes a low round
        lost = sum(max(0.0, one - 1.5 * usual) for one in watch.each) / watch.seconds
        print(
            f"default: bare {bare:6.1f} ({before:.1f} before)  loop {watch.rate:6.1f} images/s; a generation "
            f"{1e3 * usual:.0f} ms, the slowest {1e3 * slow:.0f}, {lost:.1%} of the time in slow ones, "
            f"{watch.parts.get('waits for the disk', (0, 0))[0] / watch.seconds:.1%} waiting for the disk",
            flush=True,
        )
    clock, cpu = ({name: sum(spent[i] for spent in some) for name, some in parts.items()} for i in (0, 1))
    profile = {
        name: round(value / sum(clock.values()), 3) for name, value in sorted(clock.items(), key=lambda x: -x[1])
    }
    for name, share in profile.items():
        print(f"  {name:14s} {share:6.1%} of the time, {cpu[name] / sum(cpu.values()):6.1%} of the processor's")
    engine = cpu["subject"] + cpu["generator"]
    return {
        "default_over_engine": round(statistics.median(kept), 3),
        "default_over_engine_range": [round(min(kept), 3), round(max(kept), 3)],
        "engine_images_per_s": round(statistics.median(rates), 1),
        "engine_by_batch": {batch: round(statistics.median(some), 1) for batch, some in by_batch.items()},
        "profile": profile,
        "others_cpu": round(1 - engine / sum(cpu.values()), 3),
    }


def main() -> None:
    """Runs the comparison and prints it; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer generations and rounds, within a minute")
    parser.add_argument("--optimizer", default="cma-diagonal")
    arguments = parser.parse_args()
    generations, rounds = (8, 5) if arguments.quick else (12, 13)
    default = default_over_engine(*((3, 300) if arguments.quick else (5, 1500)))
    generator = Fourier(224)
    fast = load_subject("lite0", units=[971])
    eager = load_subject("lite0", units=[971], engine="eager")
    loop_rate(fast, generator, arguments.optimizer, 3)  # warm
    kept: list[float] = []
    gained: list[float] = []
    rates: list[float] = []
    for number in range(rounds):  # short turns, so that a machine that slows down does so for both
        bare = bare_rate(fast, generator, POPULATION, generations - 1)
        loop = loop_rate(fast, generator, arguments.optimizer, generations)
        kept.append(loop / bare)
        rates.append(loop)
        line = f"bare {bare:6.1f}  loop {loop:6.1f}"
        if number % 3 == 0:
            slow = loop_rate(eager, generator, arguments.optimizer, 3)
            gained.append(loop / slow)
            line += f"  loop on eager torch {slow:6.1f}"
        print(line + " images/s", flush=True)
    figures = {
        **default,
        "loop_over_engine": round(statistics.median(kept), 3),
        "loop_over_engine_range": [round(min(kept), 3), round(max(kept), 3)],
        "engine_over_eager": round(statistics.median(gained), 2),
        "engine_over_eager_range": [round(min(gained), 2), round(max(gained), 2)],
        "engine": fast.engine,
        "loop_images_per_s": round(statistics.median(rates), 1),
        "optimizer": arguments.optimizer,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
