"""A process that runs a slow evolution in a folder, as another terminal would: python tests/slow_run.py FOLDER [s]."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Slow:
    """A subject that takes its time for each call."""

    def __init__(self, subject, seconds):
        self._subject, self._seconds = subject, seconds

    def __getattr__(self, name):
        return getattr(self._subject, name)

    def record(self, images):
        time.sleep(self._seconds)
        return self._subject.record(images)


def start(folder, seconds=0.1, generations=1, images=600):
    """Starts the process; returns it when so many generations are committed."""
    words = [sys.executable, "-m", "tests.slow_run", str(folder), str(seconds), str(images)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=ROOT, env=environment)
    wait(folder, generations, process)
    return process


def wait(folder, generations, process=None, seconds=60):
    """Waits until a run has so many commits."""
    from closedloop.errors import RecordingError
    from closedloop.recording.reader import read_pointer

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if read_pointer(folder)["n_generations"] >= generations:
                return
        except RecordingError:
            pass
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}")
        time.sleep(0.02)
    raise AssertionError(f"{folder}: no {generations} generations within {seconds} s")


def run(folder, seconds=0.0, images=600, exists="fail", observers=()):
    """Evolves two threads on two cells; a run that goes on is the same whatever its speed."""
    from closedloop import IsotropicES, Session, Thread, Unit
    from closedloop.generators import Fourier
    from tests.small_runs import SIDE, cells, pictures

    fourier = Fourier(SIDE, 2)
    threads = [
        Thread(fourier, IsotropicES(fourier.space, seed=i, population=6), Unit(i), f"cell-{i}") for i in range(2)
    ]
    return Session(
        Slow(cells(), seconds),
        threads,
        references=pictures(4),
        save=folder,
        exists=exists,
        images=images,
        retest_candidates=2,
        retest_repeats=2,
        observers=observers,
        progress=False,
    ).run()


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), "resume")
