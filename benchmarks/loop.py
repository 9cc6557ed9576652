"""How much of the bare engine's speed the closed loop keeps, and what a fast engine gains over eager torch.

``loop_over_engine``: images per second of a whole session (ask, generate, present, score, tell, record, commit) divided
by those of generator and subject called on the same number of images with nothing else.
``engine_over_eager``: the same session on the chosen engine, divided by the session on eager torch.
The three run alternately, several times; the ratios are medians over the rounds, with their range.

    python benchmarks/loop.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from closedloop import Session, Thread, load_optimizer
from closedloop.generators import Fourier
from closedloop.subjects import load_subject

POPULATION = 40


class Clock:
    """Times the generations of an evolution: from the end of the first one to the end of the last."""

    def __init__(self) -> None:
        self.shown, self.seconds = 0, 0.0
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


def bare_rate(subject: Any, generator: Any, generations: int) -> float:
    """Images per second of generator and subject alone."""
    rng = np.random.default_rng(0)
    codes = [generator.space.sample(POPULATION, rng) for _ in range(generations)]
    subject.record(generator(codes[0]))
    start = time.perf_counter()
    for code in codes[1:]:
        subject.record(generator(code))
    return POPULATION * (generations - 1) / (time.perf_counter() - start)


def main() -> None:
    """Runs the comparison and prints it; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer generations and rounds, within a minute")
    parser.add_argument("--optimizer", default="cma-diagonal")
    arguments = parser.parse_args()
    generations, rounds = (8, 5) if arguments.quick else (12, 13)
    generator = Fourier(224)
    fast = load_subject("lite0", units=[971])
    eager = load_subject("lite0", units=[971], engine="eager")
    loop_rate(fast, generator, arguments.optimizer, 3)  # warm
    kept: list[float] = []
    gained: list[float] = []
    rates: list[float] = []
    for number in range(rounds):  # short turns, so that a machine that slows down does so for both
        bare = bare_rate(fast, generator, generations)
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
